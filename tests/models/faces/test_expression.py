from pathlib import Path

import numpy as np
import pytest

from mien.models.faces.expression import LookReader, distortion
from mien.models.images.files import decode_image

SAMPLES = [
    decode_image(path.read_bytes()) for path in sorted((Path(__file__).parents[2] / "data" / "samples").glob("*.jpg"))
]


def test_looks_are_told_apart() -> None:
    with LookReader() as reader:
        first, second = (reader.read(face) for face in SAMPLES)
        mirrored = reader.read(np.ascontiguousarray(SAMPLES[0][:, ::-1]))
        nobody = reader.read(np.full((512, 512, 3), 128, np.uint8))
    assert nobody is None
    assert first is not None
    assert second is not None
    assert mirrored is not None
    assert len(first.expression) == 51 - 8  # MediaPipe's blendshapes less the directions of the eyes
    same = distortion(first, first)
    assert (same.yaw, same.pitch, same.roll, same.expression, same.gaze) == (0, 0, 0, 0, 0)
    other = distortion(first, second)
    assert other.expression > 0.005
    assert mirrored.pose[0] == pytest.approx(-first.pose[0], abs=3)
    assert mirrored.gaze[0] == pytest.approx(-first.gaze[0], abs=0.15)
    assert distortion(first, mirrored).pitch < 3
