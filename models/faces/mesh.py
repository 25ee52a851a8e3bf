"""The mesh of 478 points that MediaPipe lays over a face: its oval, and how much of a detected face it covers."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from mien.models.faces.alignment import matrix

Points = npt.NDArray[np.float64]

# MediaPipe's points: FaceLandmarksConnections.FACE_LANDMARKS_FACE_OVAL in order, and points of eyes, brows, nose, lips
# and cheeks, which stay where the new face has them.
OVAL: tuple[int, ...] = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377)
OVAL += (152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
FEATURES: tuple[int, ...] = (33, 133, 263, 362, 159, 145, 386, 374, 105, 334, 70, 300, 168, 6, 1, 4, 98, 327)
FEATURES += (61, 291, 13, 14, 0, 17, 50, 280)
CORE = 0.9


def aligned_points(landmarks: Sequence[float], transform: Sequence[float]) -> Points:
    """MediaPipe's 478 points in photo pixels (x0, y0, x1, ...) as (478, 2) float64 in aligned pixels.

    ValueError for another count, or an unusable transform.
    """
    if len(landmarks) != 956:
        raise ValueError(f"478 landmarks wanted, {len(landmarks) / 2:g} given")
    forward = matrix(transform)
    points: Points = (np.asarray(landmarks, np.float64).reshape(478, 2) - forward[:, 2]) @ np.linalg.inv(
        forward[:, :2]
    ).T
    return points


def outline_of(landmarks: Sequence[float], transform: Sequence[float]) -> Points:
    """The face's oval, (36, 2) float64 aligned pixels; arguments and errors as for aligned_points."""
    return aligned_points(landmarks, transform)[list(OVAL)]


def covered(box: Sequence[float], landmarks: Sequence[float]) -> float:
    """The share, 0 to 1, of a detected box's core (an ellipse of CORE of its sides) that lies within the face's oval.

    box: x, y, width, height; landmarks: MediaPipe's 478 points; both in photo pixels.
    """
    x, y, width, height = box
    oval = np.asarray(landmarks, np.float32).reshape(478, 2)[list(OVAL)]
    core, inside = np.zeros((2, 64, 64), np.uint8)
    cv2.circle(core, (32, 32), round(32 * CORE), 1, cv2.FILLED)
    place = (oval - [x, y]) / [max(width, 1e-6), max(height, 1e-6)] * 64
    cv2.fillPoly(inside, [np.rint(np.clip(place, -1e4, 1e4)).astype(np.int32)], 1)
    return float(inside[core > 0].mean())
