"""What a reviewer wants otherwise than the policy, carried out between the decisions and what follows them.

The corrections travel with the file that they are about (ListedFile.corrections), from the list of photos on: so a
photo whose corrections are others than before is done again, and no other is.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from mien.models.errors import CorrectionsError, ReviewedError
from mien.models.faces import Face, shared_of_union
from mien.transforms.elements import FAILURES, Decision, Failure, ListedFile, PhotoInWork, PhotosAndFailures
from mien.transforms.policy import Correction, Corrections, PhotoCorrections
from mien.transforms.settings import GENERATED
from mien.transforms.steps.decide import measures
from mien.transforms.workers import NAMESPACE, Input, IsolatedStages, Stage, StageTransform, as_outputs, join_failures

# Of the union of a correction's box and a found one, from which they are of one face. Detectors find the same box again
# in the same photo; boxes of different faces that are kept apart share at most 0.4 (mien.models.faces.same_face).
SAME_BOX = 0.5
ADDED, REMOVED, CHANGED = "review: box added", "review: box taken away", "review: action changed"
_STRONGEST = "fill"


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


def correct_photo(photo: PhotoInWork, generates: bool) -> PhotoInWork:
    """The photo with its decisions as corrected, and with the boxes that a reviewer has drawn behind its faces.

    generates: whether what follows can draw new faces. Raises what check_corrections() raises, and CorrectionsError for
    a frame that is not the photo's and for an action that nothing that follows can carry out.
    """
    if photo.origin is None or not photo.origin.corrections:
        return photo
    corrections = corrections_of(check_corrections(photo.origin))
    height, width = photo.pixels.shape[:2]
    if other := next((one.frame for one in corrections.corrections if one.frame not in (None, (width, height))), None):
        sizes = f"{other[0]} x {other[1]}, not {width} x {height}"
        raise CorrectionsError(f"withheld: the corrections are of a photo of {sizes}")
    if not generates and (new := next((one.action for one in corrections.faces if one.action in GENERATED), None)):
        raise CorrectionsError(f"withheld: {new}: the policy makes no new faces, so no correction can ask for one")
    changed = corrections.faces
    places = _places([one.box or () for one in changed], [face.box for face in photo.faces])
    decisions = list(photo.decisions)
    drawn = []
    for number, one in enumerate(changed):
        if number in places:
            decisions[places[number]] = _decision(one)
        else:
            drawn.append(one)
    Metrics.counter(NAMESPACE, "corrected").inc(len(changed))
    # what a detector sees in the written photo alone is taken away by a box at which none is found here
    faces = tuple(Face(one.box or (0.0, 0.0, 0.0, 0.0), 1.0) for one in drawn)
    measured = tuple(measures(face, len(photo.faces) + n, photo.pixels) for n, face in enumerate(faces, 1))
    return dataclasses.replace(
        photo,
        faces=photo.faces + faces,
        decisions=(*decisions, *map(_decision, drawn)),
        measured=photo.measured + measured,
        embeddings=photo.embeddings + (None,) * len(faces),
    )


def _decision(one: Correction) -> Decision:
    if one.do == "remove":
        return Decision("keep", REMOVED)
    action = "keep" if one.action == "preserve" else one.action  # in a safe photo they are the same
    return Decision(action or _STRONGEST, ADDED if one.do == "add" else CHANGED)


def _places(boxes: Sequence[Sequence[float]], found: Sequence[Sequence[float]]) -> dict[int, int]:
    """For corrections' boxes the faces that they are of, {index: index}; the pair that shares most comes first."""
    pairs = []
    if boxes and found:
        others = np.array(found, np.float64)
        for i, box in enumerate(boxes):
            shared = shared_of_union(box, others)
            pairs += [(-shared[j], i, int(j)) for j in np.flatnonzero(shared >= SAME_BOX)]
    places: dict[int, int] = {}
    for _, i, j in sorted(pairs):
        if i not in places and j not in places.values():
            places[i] = j
    return places


class _Correct(Stage):
    stage = "correct"

    def __init__(self, generates: bool) -> None:
        self._generates = generates

    def work(self, element: PhotoInWork) -> Iterable[PhotoInWork]:
        yield correct_photo(element, self._generates)


class CorrectFaces(IsolatedStages):
    """PhotoInWork with decisions -> with those that a reviewer has corrected; generates: as for correct_photo."""

    def __init__(self, generates: bool) -> None:
        super().__init__([_Correct(generates)], PhotoInWork)


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
