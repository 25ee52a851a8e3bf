"""What every stage has in common: what goes wrong with a photo becomes its Failure, never the job's."""

import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from mien.transforms.elements import FAILURES, Failure, PhotosAndFailures

NAMESPACE = "mien"

Input: TypeAlias = "beam.PCollection | dict[str, beam.PCollection]"


def failure_of(uri: str, stage: str, error: BaseException) -> Failure:
    """An exception as a Failure: its class, and its message in one line."""
    message = " ".join(str(error).split()) or type(error).__name__
    return Failure(uri, stage, type(error).__name__, message[:500])


class Stage(beam.DoFn):
    """A DoFn whose work() takes one element with a `uri` and yields any number of results.

    Any Exception, MemoryError too, goes to the failures output; results that came before it in the same call do not
    go on, so a photo is either in one output or in the other.
    """

    stage = ""

    def work(self, element: Any) -> Iterable[Any]:
        """The results for one element."""
        raise NotImplementedError

    def process(self, element: Any) -> Iterator[Any]:
        started = time.monotonic()
        try:
            results = list(self.work(element))
        except Exception as error:
            results = [TaggedOutput(FAILURES, failure_of(element.uri, self.stage, error))]
        Metrics.distribution(NAMESPACE, f"{self.stage}_ms").update(round(1000 * (time.monotonic() - started)))
        yield from results


class StageTransform(beam.PTransform):
    """A PTransform with two outputs. Beam's reading of expand()'s annotations knows but one."""

    def default_type_hints(self) -> None:
        """No hints: the element types are set on the outputs."""


def through(photos: beam.PCollection, stage: beam.DoFn, output: Any) -> PhotosAndFailures:
    """photos through the stage; output is the type of its results."""
    label = type(stage).__name__.lstrip("_")
    transform = beam.ParDo(stage).with_outputs(FAILURES, main="photos")
    results = photos | label >> transform
    results.photos.element_type = output
    results.failures.element_type = Failure
    return PhotosAndFailures(photos=results.photos, failures=results.failures)


def as_outputs(photos: Input) -> tuple[beam.PCollection, list[beam.PCollection]]:
    """The photos and the failures so far, of a PCollection or of the outputs of the transform before."""
    if isinstance(photos, dict):
        return photos["photos"], [photos[FAILURES]]
    return photos, []


def join_failures(failures: beam.PCollection, before: list[beam.PCollection]) -> beam.PCollection:
    """One PCollection of a stage's failures and those from before it."""
    if not before:
        return failures
    return (failures, *before) | "Failures" >> beam.Flatten()
