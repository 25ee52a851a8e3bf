"""What every stage has in common: what goes wrong with a photo becomes its Failure, never the job's, and what it costs
is told: in Beam's metrics, in the element itself, and in one line a photo of the log.
"""

import dataclasses
import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from mien.models.errors import one_line
from mien.transforms.elements import FAILURES, Failure, PhotosAndFailures, Written

NAMESPACE = "mien"
# A photo that was read but not understood is withheld; one that could not be read or written has failed.
NOT_READ = ("list", "read", "write")
# Why a face under `preserve` stays: a recogniser would not know it again. Also the name of the counter.
NOT_THE_SAME = "not_the_same_person"
_LOG = logging.getLogger("mien.photo")

Input: TypeAlias = "beam.PCollection | dict[str, beam.PCollection]"


def failure_of(uri: str, stage: str, error: BaseException) -> Failure:
    """An exception as a Failure: its class, and its message in one line."""
    return Failure(uri, stage, type(error).__name__, one_line(error, 500))


def photo_id(uri: str) -> str:
    """What a photo is called in logs, which may be read by people who are not to know its name: 12 hex digits."""
    return hashlib.sha256(uri.encode(errors="backslashreplace")).hexdigest()[:12]


def log_failure(failure: Failure) -> None:
    """One line, JSON. The message is left to the failures file, because it may have names in it."""
    _LOG.warning(json.dumps({"photo": photo_id(failure.uri), "stage": failure.stage, "error": failure.error}))


def log_written(written: Written) -> Written:
    """The same, once it is in the metrics (bytes and faces a photo) and in the log (one line, JSON)."""
    faces = sum(written.actions.values())
    Metrics.distribution(NAMESPACE, "photo_bytes").update(written.bytes)
    Metrics.distribution(NAMESPACE, "photo_faces").update(faces)
    line = {"photo": photo_id(written.uri), "bytes": written.bytes, "faces": faces, "milliseconds": {**written.spent}}
    _LOG.info(json.dumps(line))
    return written


def by_action(faces: Iterable[Any]) -> dict[str, int]:
    """How many faces there are of each action."""
    return dict(Counter(face.action for face in faces))


def with_time(element: Any, spent: Mapping[str, int], stage: str, milliseconds: float) -> Any:
    """The element with the time that a stage took for it added to what was spent before."""
    total = {**spent, stage: spent.get(stage, 0) + round(milliseconds)}
    return dataclasses.replace(element, spent=total)


class Stage(beam.DoFn):
    """A DoFn whose work() takes one element with a `uri` and yields any number of results.

    Any Exception, MemoryError too, goes to the failures output; results that came before it in the same call do not
    go on, so a photo is either in one output or in the other.

    start_seconds: what its setup may take beside loading models.
    """

    stage = ""
    start_seconds = 0.0

    def work(self, element: Any) -> Iterable[Any]:
        """The results for one element."""
        raise NotImplementedError

    def process(self, element: Any) -> Iterator[Any]:
        started = time.monotonic()
        try:
            results = list(self.work(element))
        except Exception as error:
            failure = failure_of(element.uri, self.stage, error)
            log_failure(failure)
            results = [TaggedOutput(FAILURES, failure)]
        milliseconds = 1000 * (time.monotonic() - started)
        Metrics.distribution(NAMESPACE, f"{self.stage}_ms").update(round(milliseconds))
        spent = getattr(element, "spent", {})
        for result in results:
            if hasattr(result, "spent"):
                result = with_time(result, spent, self.stage, milliseconds / len(results))
            yield log_written(result) if isinstance(result, Written) else result


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
