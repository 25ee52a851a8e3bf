"""Pose, expression and gaze of an aligned face, to tell what an output changed of them.

Expression is MediaPipe's 52 blendshapes (face_blendshapes in face_landmarker.task), gaze is told by those of the eyes.
"""

import math
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt

from mien.models.faces.landmarks import pose
from mien.models.faces.mediapipe_tasks import close_task, mediapipe_image, open_face_landmarker

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]

_LOOKS = ("eyeLookUp", "eyeLookDown", "eyeLookIn", "eyeLookOut")
_MIN_DETECTION, _MIN_PRESENCE = 0.1, 0.3  # as in landmarks.py


@dataclass(frozen=True)
class Look:
    """pose: yaw, pitch, roll in degrees, as in Face. expression: the blendshapes without those of the eyes' direction,
    0 to 1 each. gaze: to the right of the picture and up, mean of both eyes, about -1 to 1 each."""

    pose: tuple[float, float, float]
    expression: tuple[float, ...]
    gaze: tuple[float, float]


@dataclass(frozen=True)
class Distortion:
    """yaw, pitch, roll: differences in degrees, not negative. expression: mean absolute difference of the blendshapes.
    gaze: distance of the two directions, in units of an eye's full turn."""

    yaw: float
    pitch: float
    roll: float
    expression: float
    gaze: float


class LookReader:
    """Reads looks. For one thread; holds a native graph until close() or the end of a `with`. WeightsError for a
    missing or damaged model."""

    def __init__(self) -> None:
        self._task = open_face_landmarker(1, _MIN_DETECTION, _MIN_PRESENCE, blendshapes=True)

    def read(self, face: Pixels) -> Look | None:
        """An aligned face (S, S, 3) uint8 RGB; None where no face is seen in it."""
        result = self._task.detect(mediapipe_image(face))
        if not result.face_blendshapes:
            return None
        shapes = {shape.category_name: float(shape.score) for shape in result.face_blendshapes[0]}
        eyes = {name: (shapes.get(f"{name}Left", 0.0), shapes.get(f"{name}Right", 0.0)) for name in _LOOKS}
        # the person's left eye looks out to the right of the picture, the right eye looks in to it
        right = (eyes["eyeLookOut"][0] - eyes["eyeLookIn"][0] + eyes["eyeLookIn"][1] - eyes["eyeLookOut"][1]) / 2
        up = (sum(eyes["eyeLookUp"]) - sum(eyes["eyeLookDown"])) / 2
        rest = tuple(shapes[name] for name in sorted(shapes) if not name.startswith(("eyeLook", "_")))
        return Look(pose(np.asarray(result.facial_transformation_matrixes[0])), rest, (right, up))

    def close(self) -> None:
        """Frees the model; a second time does nothing."""
        close_task(self._task)

    def __enter__(self) -> "LookReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def distortion(before: Look, after: Look) -> Distortion:
    """How far the second look is from the first."""
    turned = [abs((b - a + 180) % 360 - 180) for a, b in zip(before.pose, after.pose, strict=True)]
    moved = np.abs(np.subtract(before.expression, after.expression))
    return Distortion(turned[0], turned[1], turned[2], float(moved.mean()), math.dist(before.gaze, after.gaze))
