"""All faces of a picture, each once: found, with landmarks and alignment where they have any."""

import dataclasses
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mien.models.faces.alignment import face_transform, square
from mien.models.faces.detection import FaceDetector
from mien.models.faces.face import Face
from mien.models.faces.landmarks import FaceLandmarker
from mien.models.faces.same_face import same_face, same_square

Box: TypeAlias = tuple[float, float, float, float]
Square: TypeAlias = tuple[float, float, float, float]  # as mien.models.faces.alignment.square gives it


def located_faces(
    pixels: NDArray[np.uint8], detector: FaceDetector, landmarker: FaceLandmarker, landmarks_from: float = 0.0
) -> tuple[Face, ...]:
    """The faces of (H, W, 3) uint8 RGB, largest first; one whose landmarks cannot be found has its box alone.

    landmarks_from: longer side of a box in pixels; of smaller faces the landmarks are not looked for.
    """
    return aligned_faces(pixels, detector.detect(pixels), landmarker, landmarks_from)


def aligned_faces(
    pixels: NDArray[np.uint8], found: Iterable[Face], landmarker: FaceLandmarker, landmarks_from: float = 0.0
) -> tuple[Face, ...]:
    """As located_faces(), of faces that were found in another way."""
    return without_doubles(
        _aligned(landmarker.locate(pixels, face)) if max(face.box[2:]) >= landmarks_from else face for face in found
    )


def join_faces(faces: Iterable[Face], more: Iterable[Face]) -> list[Face]:
    """The faces of two searches, each once, the largest first; a face of both has a box around both of theirs."""
    joined = list(faces)
    for face in more:
        twin = next((i for i, other in enumerate(joined) if same_face(other.box, face.box)), None)
        if twin is None:
            joined.append(face)
        else:
            box, score = _around(joined[twin].box, face.box), max(joined[twin].score, face.score)
            joined[twin] = dataclasses.replace(joined[twin], box=box, score=score)
    return sorted(joined, key=lambda face: (-face.box[2] * face.box[3], face.box))


def without_doubles(faces: Iterable[Face]) -> tuple[Face, ...]:
    """The faces, those that are aligned to nearly the same square joined into one with a box around all of theirs.

    Detectors give a face that fills the frame boxes so different that they pass for several faces.
    """
    kept: list[Face] = []
    squares: list[Square | None] = []
    for face in faces:
        own = square(face.transform) if face.transform else None
        twin = next((i for i, other in enumerate(squares) if own and other and same_square(own, other)), None)
        if twin is None:
            kept.append(face)
            squares.append(own)
        else:
            kept[twin] = dataclasses.replace(kept[twin], box=_around(kept[twin].box, face.box))
    return tuple(kept)


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
