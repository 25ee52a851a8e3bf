"""What of a face's looks is not the person: pose, expression, gaze, light, the range of skin tone. Measured, in a few
numbers, on aligned faces, so that a new face can be given the same.
"""

import threading
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.models.faces.face import Face
from mien.models.faces.landmarks import FaceLandmarker
from mien.models.faces.mesh import OVAL

Pixels = NDArray[np.uint8]

# yaw, pitch: degrees, as in FaceLandmarker. mouth: its opening, width and the lift of its corners. eyes: their opening,
# as a share of their width. gaze: where the irises lie between the eyes' corners, 0 in the middle. light: logarithm of
# the right cheek's brightness over the left one's, and of the forehead's over the cheeks'. skin: logarithms of the
# cheeks' red, green and blue. Lengths are shares of the distance from the eyes to the mouth.
NAMES = (
    "yaw",
    "pitch",
    "mouth_opening",
    "mouth_width",
    "mouth_lift",
    "eyes",
    "gaze_x",
    "gaze_y",
    "light_x",
    "light_y",
    "skin_red",
    "skin_green",
    "skin_blue",
)
# Of an aligned 512 px face: what a detector would find.
BOX = (96.0, 130.0, 320.0, 320.0)

# MediaPipe's points. "Right" is the person's right, at the left of the picture.
_INNER_LIPS, _OUTER_LIPS, _CORNERS = (13, 14), (0, 17), (61, 291)
_EYES = ((33, 133, 159, 145, 468), (263, 362, 386, 374, 473))  # outer and inner corner, upper and lower lid, iris
_RIGHT_CHEEK, _LEFT_CHEEK, _FOREHEAD = (50, 101, 205), (280, 330, 425), (108, 151, 337)
_CHEEKS = (_RIGHT_CHEEK, _LEFT_CHEEK)
# Outlines of eyes, brows and lips.
_FEATURES = (
    (33, 160, 158, 133, 153, 144, 159, 145),
    (362, 385, 387, 263, 373, 380, 386, 374),
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
    (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91),
)
_WITHIN = 0.93  # of the oval
_SAME_COLOUR, _SAME_BRIGHTNESS = 0.3, 0.9  # octaves
_PATCH = 0.03  # half the side of a patch of skin, as a share of the picture's side


class Looks:
    """Measures aligned faces. Safe to share among threads; the landmarker is opened at the first face."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._landmarker: FaceLandmarker | None = None

    def measure(self, face: Pixels) -> NDArray[np.float64] | None:
        """NAMES of an aligned face (S, S, 3) uint8 RGB, (13,) float64; None where no landmarks can be found."""
        found = self.located(face)
        return looks(face, found.landmarks, found.pose) if found.landmarks else None

    def located(self, face: Pixels) -> Face:
        """The face in an aligned one (S, S, 3) uint8 RGB, in its pixels; without landmarks where none can be found."""
        x, y, w, h = (side * face.shape[0] / 512 for side in BOX)
        return self.locate(face, Face((x, y, w, h), 1.0))

    def locate(self, pixels: Pixels, face: Face) -> Face:
        """The face of a photo with its landmarks, as FaceLandmarker.locate gives it."""
        with self._lock:
            if self._landmarker is None:
                self._landmarker = FaceLandmarker()
            return self._landmarker.locate(pixels, face)

    def close(self) -> None:
        """Frees the landmarker; the next face opens it again."""
        with self._lock:
            if self._landmarker is not None:
                self._landmarker.close()
            self._landmarker = None

    def __getstate__(self) -> dict[str, object]:
        return {}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__()  # type: ignore[misc]


def looks(face: Pixels, landmarks: Sequence[float], pose: Sequence[float]) -> NDArray[np.float64]:
    """NAMES of an aligned face (S, S, 3) uint8 RGB with MediaPipe's 478 points in its pixels and its pose."""
    points = np.asarray(landmarks, np.float64).reshape(478, 2)
    corners = points[list(_CORNERS)]
    centres = np.stack([points[[outer, inner]].mean(0) for outer, inner, *_ in _EYES])
    down = corners.mean(0) - centres.mean(0)
    length = float(np.hypot(*down))
    down, across = down / length, np.array([down[1], -down[0]]) / length  # across: to the right of the picture
    opening = np.hypot(*(points[_INNER_LIPS[0]] - points[_INNER_LIPS[1]])) / length
    width = np.hypot(*(corners[0] - corners[1])) / length
    lift = (points[list(_OUTER_LIPS)].mean(0) - corners.mean(0)) @ down / length
    lids, gaze_x, gaze_y = [], [], []
    for (outer, inner, upper, lower, iris), centre in zip(_EYES, centres, strict=True):
        size = np.hypot(*(points[outer] - points[inner]))
        lids.append(np.hypot(*(points[upper] - points[lower])) / size)
        gaze_x.append((points[iris] - centre) @ across / size)
        gaze_y.append((points[iris] - centre) @ down / size)
    colour = {
        name: _skin(face, points, where)
        for name, where in (("right", _RIGHT_CHEEK), ("left", _LEFT_CHEEK), ("forehead", _FOREHEAD))
    }
    right, left, forehead = (float(c.mean()) for c in colour.values())
    cheeks = (colour["right"] + colour["left"]) / 2
    return np.array(
        [
            pose[0],
            pose[1],
            opening,
            width,
            lift,
            np.mean(lids),
            np.mean(gaze_x),
            np.mean(gaze_y),
            np.log(right / left),
            np.log(2 * forehead / (left + right)),
            *np.log(cheeks),
        ]
    )


def bareness(face: Pixels, landmarks: Sequence[float]) -> float:
    """The share, 0 to 1, of the face between the features that has about the cheeks' colour.

    face: (S, S, 3) uint8 RGB, aligned. landmarks: MediaPipe's 478 points in its pixels. Less where hair, a hood, dark
    glasses, a beard, a hard shadow or what a generator painted wrong lies on the face.
    """
    side = 128
    small = np.asarray(cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA), np.float64)
    points = (np.asarray(landmarks, np.float64).reshape(478, 2) + 0.5) * (side / len(face)) - 0.5
    wanted, features = np.zeros((2, side, side), np.uint8)
    oval = points[list(OVAL)]
    cv2.fillPoly(wanted, [np.rint(oval.mean(0) + (oval - oval.mean(0)) * _WITHIN).astype(np.int32)], 1)
    for part in _FEATURES:
        cv2.fillConvexPoly(features, cv2.convexHull(np.rint(points[list(part)]).astype(np.int32)), 1)
    tone = np.log2(small + 8)
    cheeks = np.log2(np.array([_skin(face, points * (len(face) / side), where) for where in _CHEEKS]) + 7)
    difference = tone - cheeks.mean(0)
    brightness = difference.mean(-1)
    colour = ((difference - brightness[:, :, None]) ** 2).sum(-1)
    alike = np.exp(-colour / _SAME_COLOUR**2 - (brightness / _SAME_BRIGHTNESS) ** 2) > 0.5
    between = (wanted > 0) & (cv2.dilate(features, np.ones((5, 5), np.uint8)) == 0)
    return float(alike[between].mean()) if between.any() else 0.0


def _skin(face: Pixels, points: NDArray[np.float64], where: Sequence[int]) -> NDArray[np.float64]:
    """Mean colour (3,), 1 to 256, of patches around some points."""
    size = face.shape[0]
    half = max(1, round(_PATCH * size))
    patches = []
    for x, y in points[list(where)]:
        column, row = (int(np.clip(round(v), half, size - half - 1)) for v in (x, y))
        patches.append(face[row - half : row + half + 1, column - half : column + half + 1].reshape(-1, 3))
    found: NDArray[np.float64] = np.median(np.concatenate(patches), 0) + 1
    return found
