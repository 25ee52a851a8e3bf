"""All faces of a picture, each once: found, with landmarks and alignment where they have any."""

import dataclasses
import math
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mien.models.alignment import face_transform, square
from mien.models.detection import FaceDetector
from mien.models.faces import Face
from mien.models.landmarks import FaceLandmarker

Box: TypeAlias = tuple[float, float, float, float]


def located_faces(pixels: NDArray[np.uint8], detector: FaceDetector, landmarker: FaceLandmarker) -> tuple[Face, ...]:
    """The faces of (H, W, 3) uint8 RGB, largest first; one whose landmarks cannot be found has its box alone."""
    return without_doubles(_aligned(landmarker.locate(pixels, face)) for face in detector.detect(pixels))


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
