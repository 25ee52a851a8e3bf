"""A face's landmarks, pose and alignment, from its own crop of the photo."""

import dataclasses
import math
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from mien.models.faces.alignment import anchor_points, face_transform
from mien.models.faces.face import Face
from mien.models.faces.mediapipe_tasks import close_task, mediapipe_image, open_face_landmarker

Pixels = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

_CROP = 256  # the landmarker finds the face in 128 x 128 and reads it in 256 x 256
# Sides of the crop in longer sides of the box, and how many faces are read in it, neighbours with them; tried in this
# order. One face takes 10 ms, three take 21. On the 526 boxes found in the 14 photos, 414 get landmarks in 9.5 s; with
# three faces at each size it would be 422 in 16.6 s.
_TRIES = ((1.6, 1), (2.2, 1), (3.0, 3))
_MIN_DETECTION = 0.1  # that there is a face is known
_MIN_PRESENCE = 0.3
_MAX_ROLL = 75.0  # degrees; what lies more on its side was, in the 14 photos, no face but an ear or a hand


class FaceLandmarker:
    """Finds MediaPipe's 478 landmarks of faces that are already found.

    For one thread; make one in each. It holds a native graph until close() or the end of a `with`. WeightsError for a
    missing or damaged model.
    """

    def __init__(self) -> None:
        self._tasks = {n: open_face_landmarker(n, _MIN_DETECTION, _MIN_PRESENCE) for n in {n for _, n in _TRIES}}

    def locate(self, pixels: Pixels, face: Face) -> Face:
        """The same face with landmarks (photo pixels), pose and transform; unchanged where none that make sense are.

        pixels: (H, W, 3) uint8 RGB. pose: yaw, pitch, roll in degrees, each 0 for an upright face that looks into the
        camera; yaw > 0: turned to the right of the picture; pitch > 0: looking up; roll > 0: the head is tilted
        clockwise as the picture is seen.
        """
        x, y, width, height = face.box
        middle = (x + width / 2, y + height / 2)
        for expansion, faces in _TRIES:
            side = max(2, round(expansion * max(width, height)))
            left, top = round(middle[0] - side / 2), round(middle[1] - side / 2)
            result = self._tasks[faces].detect(mediapipe_image(_crop(pixels, left, top, side)))
            candidates = []
            for points, matrix in zip(result.face_landmarks, result.facial_transformation_matrixes, strict=True):
                # from fractions of the crop, whose corners are 0 and 1, to photo pixels, whose centres are integers
                landmarks = np.array([(p.x, p.y) for p in points]) * side + [left - 0.5, top - 0.5]
                if plausible(landmarks, face.box) and abs(pose(np.asarray(matrix))[2]) < _MAX_ROLL:
                    candidates.append((math.dist(landmarks.mean(0), middle), landmarks, matrix))
            if candidates:
                _, landmarks, matrix = min(candidates, key=lambda candidate: candidate[0])
                return dataclasses.replace(
                    face,
                    landmarks=tuple(landmarks.ravel().tolist()),
                    pose=pose(np.asarray(matrix)),
                    transform=face_transform(landmarks),
                )
        return face

    def close(self) -> None:
        """Frees the model; a second time does nothing."""
        for task in self._tasks.values():
            close_task(task)

    def __enter__(self) -> "FaceLandmarker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _crop(pixels: Pixels, left: int, top: int, side: int) -> Pixels:
    """A square of the photo at the landmarker's size; black beyond the border, as a mirrored half could pass whole."""
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if x0 >= x1 or y0 >= y1:
        return np.zeros((_CROP, _CROP, 3), np.uint8)
    border = (y0 - top, top + side - y1, x0 - left, left + side - x1)
    part = cv2.copyMakeBorder(pixels[y0:y1, x0:x1], *border, cv2.BORDER_CONSTANT)
    interpolation = cv2.INTER_AREA if side > _CROP else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (_CROP, _CROP), interpolation=interpolation), np.uint8)


def plausible(landmarks: Points, box: tuple[float, float, float, float]) -> bool:
    """Whether (478, 2) landmarks can be those of the face in the box, and give an alignment that is not wild."""
    if not np.isfinite(landmarks).all():
        return False
    x, y, width, height = box
    low, high = landmarks.min(0), landmarks.max(0)
    extent = high - low
    longer = max(width, height)
    if not (0.5 * longer < extent.max() < 2.0 * longer) or extent.min() < 0.3 * extent.max():
        return False
    shared = np.clip(np.minimum(high, [x + width, y + height]) - np.maximum(low, [x, y]), 0, None).prod()
    if shared < 0.5 * min(extent.prod(), width * height):
        return False
    right_eye, right_mouth, left_eye, left_mouth = anchor_points(landmarks)
    across = left_eye - right_eye
    down = (right_mouth + left_mouth - right_eye - left_eye) / 2
    turn = across[0] * down[1] - across[1] * down[0]  # > 0 where the mouth is below eyes that are not swapped
    eyes, drop = math.hypot(*across), math.hypot(*down)
    return bool(eyes > 0.1 * extent.max() and drop > 0.15 * extent.max() and turn > 0.5 * eyes * drop and eyes > 2.0)


def pose(matrix: npt.NDArray[np.floating]) -> tuple[float, float, float]:
    """Yaw, pitch, roll (degrees, signs as in locate) of MediaPipe's 4 x 4 transform: x right, y up, z to the viewer."""
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    forward = axes[:, 2]
    yaw = math.atan2(forward[0], forward[2])
    pitch = math.asin(float(np.clip(forward[1], -1, 1)))
    roll = -math.atan2(axes[1, 0], axes[1, 1])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)
