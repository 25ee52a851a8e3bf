from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.models.faces.cascade import CONFIRMED, FACE, WINDOW, Cascade, _window, within
from mien.models.faces.centerface import CenterFaceDetector
from mien.models.faces.retinaface import open_retinaface
from mien.models.faces.same_face import same_face
from mien.models.faces.tiles import Found
from mien.models.faces.turns import turned
from mien.models.images import decode_image

DATA = Path(__file__).parents[2] / "data"
FACE_BOX = (340.0, 245.0, 70.0, 86.0)
NOTHING = np.zeros((0, 4))


@pytest.fixture(scope="module")
def cascade():
    return Cascade(open_retinaface(), CenterFaceDetector())


@pytest.fixture(scope="module")
def photo():
    """(400, 600, 3), a face that stands on its head in FACE_BOX."""
    pixels = np.full((400, 600, 3), (120, 130, 110), np.uint8)
    face = decode_image((DATA / "face.jpg").read_bytes())
    pixels[220:360, 305:445] = turned(cv2.resize(face, (140, 140), interpolation=cv2.INTER_AREA), 2)
    return pixels


def test_a_face_on_its_head_is_found_and_confirmed(cascade, photo):
    found = cascade.find(photo, Found.joined([]))
    assert len(found.boxes) == 1
    assert same_face(found.boxes[0], FACE_BOX)
    assert cascade.scores(photo, 2, np.array([FACE_BOX]))[0] > 0.5


def test_a_place_without_a_face_is_not_confirmed(cascade, photo):
    places = np.array([[20.0, 20, 60, 70], [300, 10, 90, 90], [-50, -50, 20, 20], [500, 300, 200, 200]])
    for turn in range(4):
        assert (cascade.scores(photo, turn, places) < CONFIRMED).all()
    assert len(cascade.scores(photo, 1, NOTHING)) == 0


def test_many_places_are_confirmed_as_one_is(cascade, photo):
    boxes = np.array([[20.0 + i, 20, 60, 70] for i in range(70)] + [FACE_BOX])
    scores = cascade.scores(photo, 2, boxes)
    assert np.flatnonzero(scores >= CONFIRMED).tolist() == [70]


@pytest.mark.parametrize("side", [12.0, 60.0, 300.0])
def test_a_window_shows_its_box_in_the_middle_at_one_size(side):
    pixels = np.zeros((700, 900, 3), np.uint8)
    x, y = 310, 205
    pixels[y : y + round(side), x : x + round(side)] = 255
    window, scale = _window(pixels, np.array([x, y, side, side]))
    assert window.shape == (WINDOW, WINDOW, 3)
    assert scale == FACE / side
    rows, columns = np.nonzero(window[..., 0] > 127)
    for along in (rows, columns):
        assert abs(along.min() - (WINDOW - FACE) / 2) <= 1.5
        assert abs(along.max() + 1 - (WINDOW + FACE) / 2) <= 1.5


def test_boxes_are_clipped():
    boxes = np.array([[-5.0, 2, 20, 20], [90, 40, 30, 30], [200, 200, 5, 5]])
    assert within(boxes, 100, 50).tolist() == [[0, 2, 15, 20], [90, 40, 10, 10], [100, 50, 0, 0]]
