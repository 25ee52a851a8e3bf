import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.models.errors import ContainerError
from mien.models.faces.alignment import (
    LEFT_EYE,
    LEFT_MOUTH,
    RIGHT_EYE,
    RIGHT_MOUTH,
    align_face,
    anchor_points,
    face_transform,
    pack_transform,
    similarity,
    snap_transform,
    square,
    unpack_transform,
)


def landmarks_from(right_eye, left_eye, right_mouth, left_mouth):
    points = np.zeros((478, 2))
    points[list(RIGHT_EYE)] = right_eye
    points[list(LEFT_EYE)] = left_eye
    points[RIGHT_MOUTH], points[LEFT_MOUTH] = right_mouth, left_mouth
    return points


def at(transform, x, y):
    a, b, c, d, e, f = transform
    return np.array([a * x + b * y + c, d * x + e * y + f])


squares = st.tuples(
    st.floats(-(2**20), 2**20), st.floats(-(2**20), 2**20), st.floats(1, 2**20), st.floats(-math.pi, math.pi)
)


@given(squares)
def test_a_stored_transform_is_near_and_stays_the_same(values):
    transform = similarity(*values)
    data = pack_transform(transform)
    assert 5 <= len(data) <= 14
    stored, end = unpack_transform(b"xyz" + data + b"rest", 3)
    assert end == 3 + len(data)
    assert pack_transform(stored) == data
    assert snap_transform(stored) == stored
    cx, cy, side, angle = square(stored)
    np.testing.assert_allclose((cx, cy, side), values[:3], atol=1 / 32 + 1e-5)
    assert abs(math.remainder(angle - values[3], 2 * math.pi)) <= math.pi / 65536 + 1e-9


@given(st.binary(max_size=16))
def test_bytes_are_read_in_one_spelling_or_refused(data):
    try:
        transform, end = unpack_transform(data)
    except ContainerError:
        return
    assert pack_transform(transform) == data[:end]


def test_usual_faces_take_ten_bytes_and_a_cut_one_is_refused():
    data = pack_transform(similarity(1810.3, 977.1, 240.0, 0.1))
    assert len(data) == 10
    for length in range(len(data)):
        with pytest.raises(ContainerError):
            unpack_transform(data[:length])


@pytest.mark.parametrize(
    "transform",
    [
        (),
        (1, 0, 0, 0, 1),
        (1, 0, 0, 0, -1, 0),
        (1, 0.5, 0, 0, 1, 0),
        (math.nan, 0, 0, 0, 1, 0),
        (0, 0, 0, 0, 0, 0),
        similarity(2e6, 0, 100, 0),
        similarity(0, 0, 0.5, 0),
    ],
)
def test_what_is_no_similarity_cannot_be_stored(transform):
    with pytest.raises(ValueError, match=r"transform|square"):
        pack_transform(transform)


def test_ffhq_square_of_an_upright_face():
    transform = face_transform(landmarks_from((100, 100), (160, 100), (110, 170), (150, 170)).ravel())
    cx, cy, side, angle = square(transform)
    # 1.8 x the 70 px from eyes to mouth is more than 2 x the 60 px between the eyes; a tenth of the way down
    assert (cx, cy, side, angle) == (130, 107, 252, 0)
    np.testing.assert_allclose(at(transform, -0.5, -0.5), (130 - 126, 107 - 126))
    np.testing.assert_allclose(at(transform, 511.5, 511.5), (130 + 126, 107 + 126))


def test_the_square_turns_with_the_face():
    points = np.array([(100, 100), (160, 100), (110, 170), (150, 170)], float)
    turn = math.radians(30)
    matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    transform = face_transform(landmarks_from(*(points @ matrix.T)))
    assert square(transform)[3] == pytest.approx(turn, abs=1e-4)
    # the left of the picture's eye is left of the middle and above it in the aligned face
    a, b, c, d, e, f = transform
    x, y = np.linalg.solve([[a, b], [d, e]], matrix @ points[0] - [c, f])
    assert 150 < x < 230
    assert 200 < y < 260


def test_landmarks_without_a_square_are_refused():
    with pytest.raises(ValueError, match="478"):
        face_transform([1.0, 2.0])
    with pytest.raises(ValueError, match="square"):
        face_transform(np.zeros((478, 2)))
    with pytest.raises(ValueError, match="square"):
        face_transform(np.full((478, 2), np.nan))


def smooth_picture(height, width, period):
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(2 * np.pi * x / period), np.sin(2 * np.pi * y / period), np.cos(2 * np.pi * (x + y) / period / 1.5)]
    return np.rint(127.5 + 100 * np.stack(waves, -1)).astype(np.uint8)


def test_the_identity_gives_the_picture_back():
    picture = smooth_picture(512, 512, 60)
    assert (align_face(picture, (1, 0, 0, 0, 1, 0)) == picture).all()


@pytest.mark.parametrize("angle", [0.0, 0.6, -2.5])
@pytest.mark.parametrize("side", [20, 90, 512, 700, 1900, 3000])
def test_samples_are_where_the_transform_says(side, angle):
    picture = smooth_picture(2200, 2300, max(side, 80))
    transform = similarity(1150.3, 1100.7, side * 0.65, angle)
    face = align_face(picture, transform, 256)
    v, u = np.mgrid[0:256, 0:256] * 2 + 0.5  # the centre of each 2 x 2 of the 512
    x, y = at(transform, u, v)
    x, y = x.astype(np.float32), y.astype(np.float32)
    expected = cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101).astype(int)
    assert np.abs(face.astype(int) - expected).mean() < 1.0


def test_shrinking_does_not_alias():
    noise = np.random.default_rng(0).integers(0, 256, (6000, 6000), np.uint8)
    stripes = np.zeros((6000, 6000), np.uint8)
    stripes[:, ::2] = 255
    picture = np.stack([noise, stripes, stripes.T], -1)
    for side in (1100, 2000, 2700, 5200):
        for angle in (0, 0.5):
            face = align_face(picture, similarity(2999.5, 2999.5, side, angle)).astype(float)[20:-20, 20:-20]
            assert np.abs(face.mean((0, 1)) - 127.5).max() < 2
            assert face[..., 0].std() < 1.25 * 74 / (side / 512)  # as independent noise averages
            # sampled, stripes of one pixel would keep their 127; an area over about two of them keeps few
            assert face[..., 1:].std() < 32


def test_growing_is_smooth():
    y, x = np.mgrid[0:60, 0:60]
    picture = np.repeat((255 / (1 + np.exp(-(x - 30 + 0.3 * y - 9) / 2)))[..., None], 3, -1).astype(np.uint8)
    face = align_face(picture, similarity(29.5, 29.5, 20, 0.3)).astype(float)
    assert np.abs(np.diff(face, 2, axis=1)).max() <= 4  # no blocks, no steps


def test_beyond_the_border_the_photo_is_mirrored():
    picture = smooth_picture(300, 400, 80)
    padded = cv2.copyMakeBorder(picture, 200, 200, 200, 200, cv2.BORDER_REFLECT_101)
    for angle in (0, 0.4):
        face = align_face(picture, similarity(10, 290, 250, angle))
        same = align_face(padded, similarity(210, 490, 250, angle))
        assert np.abs(face.astype(int) - same).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 8, 3), (8, 5000, 3), (3, 40000, 3)])
def test_odd_pictures_can_be_aligned(shape):
    picture = np.full(shape, 77, np.uint8)
    height, width = shape[:2]
    for side in (1, height, 7 * max(height, 60)):
        if side <= 8 * max(height, width):
            assert (align_face(picture, similarity(width / 2, height / 2, side, 0.2)) == 77).all()


def test_a_square_beyond_the_photo_is_refused():
    picture = np.zeros((100, 100, 3), np.uint8)
    for values in ((50, 50, 1000, 0), (500, 50, 100, 0), (50, -500, 100, 0)):
        with pytest.raises(ValueError, match="beyond"):
            align_face(picture, similarity(*values))


def test_anchor_points_are_left_and_right_of_the_picture():
    points = anchor_points(landmarks_from((1, 2), (3, 4), (5, 6), (7, 8)))
    assert points.tolist() == [[1, 2], [5, 6], [3, 4], [7, 8]]
