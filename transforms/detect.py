"""Finding the faces of a photo: boxes, landmarks, pose, and the square each one is aligned to."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import apache_beam as beam
from apache_beam.metrics import Metrics

from mien.models.alignment import face_transform, square
from mien.models.detection import FaceDetector
from mien.models.faces import Face
from mien.models.landmarks import FaceLandmarker
from mien.models.runtime import tune_process
from mien.transforms.elements import PhotoInWork, PhotosAndFailures
from mien.transforms.stage import NAMESPACE, Stage, StageTransform, through

DETECTORS = ("mediapipe", "centerface")
Box: TypeAlias = tuple[float, float, float, float]


def find_faces(photo: PhotoInWork, detector: FaceDetector, landmarker: FaceLandmarker) -> PhotoInWork:
    """The photo with its faces, largest first. A face whose landmarks cannot be found stays, with its box alone."""
    found = (_aligned(landmarker.locate(photo.pixels, face)) for face in detector.detect(photo.pixels))
    return dataclasses.replace(photo, faces=without_doubles(found))


def without_doubles(faces: Iterable[Face]) -> tuple[Face, ...]:
    """The faces, those that are aligned to nearly the same square joined into one with a box around all of theirs.

    Detectors give a face that fills the frame boxes so different that they pass for several faces.
    """
    kept: list[Face] = []
    for face in faces:
        twin = next((i for i, other in enumerate(kept) if _same(face, other)), None)
        if twin is None:
            kept.append(face)
        else:
            kept[twin] = dataclasses.replace(kept[twin], box=_around(kept[twin].box, face.box))
    return tuple(kept)


def _same(face: Face, other: Face) -> bool:
    if not face.transform or not other.transform:
        return False
    (x, y, side, _), (other_x, other_y, other_side, _) = square(face.transform), square(other.transform)
    return math.hypot(x - other_x, y - other_y) < 0.1 * other_side and 0.8 < side / other_side < 1.25


def _around(one: Box, other: Box) -> Box:
    left, top = min(one[0], other[0]), min(one[1], other[1])
    right, bottom = max(one[0] + one[2], other[0] + other[2]), max(one[1] + one[3], other[1] + other[3])
    return left, top, right - left, bottom - top


def _aligned(face: Face) -> Face:
    if not face.landmarks:
        return face
    try:
        return dataclasses.replace(face, transform=tuple(face_transform(face.landmarks)))
    except ValueError:  # landmarks that define no square: as good as none
        return face


class _Detect(Stage):
    """MediaPipe's objects are not thread safe: each DoFn instance has its own."""

    stage = "detect"

    def __init__(self, detectors: Sequence[str], threads: int) -> None:
        self._detectors = tuple(detectors)
        self._threads = threads

    def setup(self) -> None:
        tune_process(self._threads)
        self._detector = FaceDetector(self._detectors)
        self._landmarker = FaceLandmarker()

    def teardown(self) -> None:
        self._detector.close()
        self._landmarker.close()

    def work(self, element: PhotoInWork) -> Iterable[PhotoInWork]:
        found = find_faces(element, self._detector, self._landmarker)
        Metrics.counter(NAMESPACE, "faces").inc(len(found.faces))
        yield found


class DetectFaces(StageTransform):
    """PhotoInWork -> PhotoInWork with faces.

    detectors: names from mien.models.detection, whose finds are joined; threads: of one worker process.
    """

    def __init__(self, detectors: Sequence[str] = DETECTORS, threads: int = 1) -> None:
        super().__init__()
        self._detectors = detectors
        self._threads = threads

    def expand(self, photos: beam.PCollection) -> PhotosAndFailures:
        return through(photos, _Detect(self._detectors, self._threads), PhotoInWork)
