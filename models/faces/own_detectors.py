"""Detectors of one's own, for faces or for regions of another kind: found by name, checked, and asked.

A name is that of an entry point in the group `mien.detectors`, or `module:Class`. tests/README.md has an example.
"""

import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mien.models.errors import DetectorError
from mien.models.faces.face import FACE_KIND, KIND_PATTERN, Face

GROUP = "mien.detectors"
MOST_REGIONS = 1000  # of one detector in one photo; more is a fault of the detector


class RegionDetector(Protocol):
    """What a class must have to be a detector. It is made without arguments, once in each worker process, and asked for
    one photo at a time.

    kind: what it finds, a lower-case word that policies name; `face`, the default, for faces: those are aligned and
    coded as others are. Regions of another kind are kept, redacted, or their photo is withheld.
    """

    kind: str

    def detect(self, pixels: npt.NDArray[np.uint8]) -> Iterable[Sequence[float]]:
        """(H, W, 3) uint8 RGB, upright, to its regions: x, y, width, height in pixels, and a score from 0 to 1."""


def installed_detectors() -> tuple[str, ...]:
    """The names of the installed entry points."""
    return tuple(sorted({point.name for point in importlib.metadata.entry_points(group=GROUP)}))


@functools.lru_cache(maxsize=64)
def detector_class(name: str) -> Any:
    """The class that a name stands for. DetectorError for none that can be loaded, or that is no detector."""
    points = [point for point in importlib.metadata.entry_points(group=GROUP) if point.name == name]
    if not points and not re.fullmatch(r"[\w.]+:[\w.]+", name):
        raise DetectorError(f"unknown detector {name!r}")
    try:
        if points:
            found = points[0].load()
        else:
            module, _, attributes = name.partition(":")
            found = functools.reduce(getattr, attributes.split("."), importlib.import_module(module))
    except Exception as error:  # whatever happens in another's module as it is imported
        raise DetectorError(f"detector {name!r} cannot be loaded: {_line(error)}") from error
    if not callable(getattr(found, "detect", None)) or not callable(found):
        raise DetectorError(f"detector {name!r} is no class with a method detect(pixels)")
    kind = getattr(found, "kind", FACE_KIND)
    if not isinstance(kind, str) or not re.fullmatch(KIND_PATTERN, kind):
        raise DetectorError(f"detector {name!r} has the kind {kind!r}: a lower-case word is wanted")
    return found


def detector_kind(name: str) -> str:
    """The kind of what it finds. DetectorError."""
    return str(getattr(detector_class(name), "kind", FACE_KIND))


def detector_digest(name: str) -> str:
    """12 hex digits that change with the file that the class is in. DetectorError."""
    found = detector_class(name)
    try:
        with open(inspect.getfile(found), "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()[:12]
    except (OSError, TypeError):  # no file of its own: made in an interactive session
        return ""


class OwnDetector:
    """One detector of one's own, at work. Not to be shared by threads. DetectorError where it cannot be made."""

    def __init__(self, name: str) -> None:
        self._name, self.kind = name, detector_kind(name)
        try:
            self._detector = detector_class(name)()
        except Exception as error:
            raise DetectorError(f"detector {name!r} cannot be made: {_line(error)}") from error

    def find(self, pixels: npt.NDArray[np.uint8]) -> list[Face]:
        """The regions of (H, W, 3) uint8 RGB. DetectorError where it fails, or gives what cannot be boxes of this
        picture: then nothing that it gave can be relied on."""
        try:
            found = list(_limited(self._detector.detect(pixels.copy())))
        except Exception as error:
            raise DetectorError(f"detector {self._name!r} failed: {_line(error)}") from error
        if len(found) > MOST_REGIONS:
            raise DetectorError(f"detector {self._name!r} gave over {MOST_REGIONS} boxes")
        try:
            rows = np.array([[float(value) for value in row] for row in found], np.float64).reshape(len(found), -1)
        except (TypeError, ValueError, OverflowError):
            rows = np.zeros((1, 0))
        if len(rows) and rows.shape[1] != 5:
            raise DetectorError(f"detector {self._name!r} gave rows that are not x, y, width, height, score")
        for x, y, width, height, score in rows.tolist():
            if reason := bad_box((x, y, width, height), pixels.shape[1], pixels.shape[0]):
                raise DetectorError(f"detector {self._name!r} gave a box {reason}")
            if not 0 <= score <= 1:
                raise DetectorError(f"detector {self._name!r} gave a score of {score:g}, not from 0 to 1")
        return [Face((x, y, w, h), score, kind=self.kind) for x, y, w, h, score in rows.tolist()]

    def close(self) -> None:
        """Calls the detector's own close(), if it has one."""
        close = getattr(self._detector, "close", None)
        if callable(close):
            close()


def bad_box(box: Sequence[float], width: int, height: int) -> str:
    """What is wrong with a box (x, y, width, height) in a frame of width x height pixels; empty where nothing is. It
    may reach over the border, but not lie beyond it."""
    if not np.isfinite(box).all():
        return "that is not finite"
    x, y, w, h = box
    said = f"{w:g} x {h:g} at {x:g}, {y:g}"
    if w <= 0 or h <= 0:
        return f"without an area: {said}"
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        return f"outside the frame of {width} x {height}: {said}"
    return ""


def _limited(found: Iterable[Any]) -> Iterable[Any]:
    """The first of them, one more than may be: a generator may have no end."""
    for number, one in enumerate(found):
        if number > MOST_REGIONS:
            return
        yield one


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__
