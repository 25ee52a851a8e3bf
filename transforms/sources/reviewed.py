"""The corrections of a reviewer, given to the photos that they are about.

They travel with the photo's file (ListedFile.corrections), from the list of photos on: so a photo whose corrections are
others than before is done again, and no other is.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from mien.models.errors import CorrectionsError, ReviewedError
from mien.transforms.elements import FAILURES, Failure, ListedFile, PhotosAndFailures
from mien.transforms.policy import Corrections, PhotoCorrections
from mien.transforms.workers import NAMESPACE, Input, Stage, StageTransform, as_outputs, join_failures


def corrections_of(origin: ListedFile | None) -> PhotoCorrections:
    """The corrections of a photo that was read from that file."""
    return PhotoCorrections.of_text(origin.corrections if origin else "")


def check_corrections(file: ListedFile) -> ListedFile:
    """The file, if its photo may be worked on. Raises CorrectionsError for corrections that cannot be carried out on
    it, ReviewedError for a photo that a reviewer withholds."""
    corrections = corrections_of(file)
    if reason := corrections.refused(file.size, file.modified):
        raise CorrectionsError(f"withheld: {reason}")
    if withheld := corrections.of("withhold"):
        by = f" by {withheld.who}" if withheld.who else ""
        raise ReviewedError(f"withheld{by} at review{f', {withheld.when}' if withheld.when else ''}")
    return file


class _Give(beam.DoFn):
    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def process(self, file: ListedFile) -> Iterator[ListedFile]:
        yield dataclasses.replace(file, corrections=self._texts.get(file.uri, ""))


class _NotListed(beam.DoFn):
    def process(self, group: tuple[str, Mapping[str, Iterable[object]]]) -> Iterator[Failure]:
        if not any(True for _ in group[1]["files"]):
            Metrics.counter(NAMESPACE, "photos_in").inc()
            message = "corrections are of this photo, which is not among the inputs"
            yield Failure(group[0], "list", CorrectionsError.__name__, message)


class GiveCorrections(StageTransform):
    """ListedFile -> ListedFile with its photo's corrections. A photo that has some and is not listed is a failure."""

    def __init__(self, corrections: Corrections) -> None:
        super().__init__()
        self._texts = {uri: photo.text for uri, photo in corrections.photos.items()}

    def expand(self, files: Input) -> PhotosAndFailures:
        listed, failures = as_outputs(files)
        names = [(uri, 1) for uri in self._texts]
        given = listed | "Give" >> beam.ParDo(_Give(self._texts)).with_output_types(ListedFile)
        named = given | "Corrected" >> beam.Filter(lambda file: bool(file.corrections))
        absent = (
            {
                "files": named | "ByName" >> beam.Map(lambda file: (file.uri, 1)).with_output_types(tuple[str, int]),
                "wanted": listed.pipeline
                | "Named" >> beam.Create(names, reshuffle=False).with_output_types(tuple[str, int]),
            }
            | beam.CoGroupByKey()
            | "NotListed" >> beam.ParDo(_NotListed()).with_output_types(Failure)
        )
        return PhotosAndFailures(photos=given, failures=join_failures(absent, failures))


class _Check(Stage):
    stage = "review"

    def work(self, element: ListedFile) -> Iterable[ListedFile]:
        yield check_corrections(element)

    def process(self, element: ListedFile) -> Iterator[ListedFile | TaggedOutput]:
        for result in super().process(element):
            if isinstance(result, TaggedOutput):  # it is never read, where photos are counted
                Metrics.counter(NAMESPACE, "photos_in").inc()
            yield result


class CheckCorrections(StageTransform):
    """ListedFile -> those that a reviewer does not withhold and whose corrections can be carried out."""

    def expand(self, files: Input) -> PhotosAndFailures:
        listed, failures = as_outputs(files)
        checked = listed | "Check" >> beam.ParDo(_Check()).with_outputs(FAILURES, main="photos")
        checked.photos.element_type = ListedFile
        checked[FAILURES].element_type = Failure
        return PhotosAndFailures(photos=checked.photos, failures=join_failures(checked[FAILURES], failures))
