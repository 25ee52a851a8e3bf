from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from mien.models.faces.retinaface import MEAN, open_retinaface
from mien.models.faces.same_face import same_face
from mien.models.images import decode_image
from mien.models.weights import third_party_file

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def face():
    """One face, (96, 96, 3)."""
    return cv2.resize(decode_image((DATA / "face.jpg").read_bytes()), (96, 96), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_network_gives_what_its_file_gives(face, bfloat16, monkeypatch):
    monkeypatch.setattr("mien.models.faces.retinaface.multiplies_bfloat16", lambda: bfloat16)
    from mien.models.faces import retinaface

    monkeypatch.setattr(retinaface, "_network", retinaface._network.__wrapped__)
    boxes, scores, points = open_retinaface()(face, 0.0)
    batch = (face[..., ::-1] - np.array(MEAN[::-1], np.float32)).transpose(2, 0, 1)[None].astype(np.float32)
    model = ReferenceEvaluator(onnx.load(third_party_file("retinaface.onnx")))
    raw_boxes, confidence, raw_points = model.run(None, {"input": batch})
    assert len(boxes) == len(confidence[0]) == 2 * (12 * 12 + 6 * 6 + 3 * 3)
    tolerance = 0.05 if bfloat16 else 1e-4
    assert np.abs(scores - confidence[0, :, 1]).max() < tolerance
    best = int(scores.argmax())
    assert confidence[0, :, 1].argmax() in np.argsort(-scores)[:3]
    # the second anchor of a cell of 16 px, 128 px: decoded by hand from the file's outputs
    number = 2 * 12 * 12 + 2 * (2 * 6 + 3) + 1
    offset = raw_boxes[0, number]
    middle = np.array([3.5, 2.5]) * 16 + offset[:2] * 0.1 * 128
    size = 128 * np.exp(offset[2:] * 0.2)
    assert np.abs(boxes[number] - [*(middle - size / 2), *size]).max() < (3 if bfloat16 else 1e-2)
    point = np.array([3.5, 2.5]) * 16 + raw_points[0, number, :2] * 0.1 * 128
    assert np.abs(points[number, 0] - point).max() < (3 if bfloat16 else 1e-2)
    assert scores[best] > 0.9


def test_a_face_is_found_with_its_points(face):
    boxes, scores, points = open_retinaface()(face, 0.5)
    box, (right_eye, left_eye, nose, right_mouth, left_mouth) = boxes[scores.argmax()], points[scores.argmax()]
    assert same_face(box, (24, 26, 48, 60))
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_mouth[0] < left_mouth[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])
    empty = open_retinaface()(np.full((64, 64, 3), 90, np.uint8), 0.5)
    assert [len(one) for one in empty] == [0, 0, 0]
