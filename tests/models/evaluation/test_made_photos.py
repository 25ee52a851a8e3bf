import numpy as np
import pytest

from mien.models.benchmark_detection import covered
from mien.models.evaluation import FACTORS, face_free, made_photo
from mien.models.evaluation.made_photos import HEIGHT, WIDTH

RED = np.full((64, 64, 3), (255, 0, 0), np.uint8)
PLAIN = np.full((30, 40, 3), (0, 90, 0), np.uint8)


@pytest.mark.parametrize("name", ["32 to 64 px", "turned 90", "128 to 256 px", "half cut"])
def test_faces_lie_where_the_boxes_say(name):
    factor = next(one for one in FACTORS if one.name == name)
    photo = made_photo(factor, [RED], PLAIN, 3)
    assert photo.pixels.shape == (HEIGHT, WIDTH, 3)
    assert len(photo.boxes) == {"128 to 256 px": 2, "half cut": 6}.get(name, 12)
    whole = np.sqrt(photo.boxes[:, 2:].prod(-1)) / (2**0.5 if factor.cut else 1)
    if not factor.cut:
        assert (whole >= factor.sides[0] - 0.01).all()
        assert (whole <= factor.sides[1] + 0.01).all()
    for x, y, w, h in photo.boxes:
        assert (w > h) == (name == "turned 90")
        inside = photo.pixels[round(y + h / 4) : round(y + h * 3 / 4), round(x + w / 4) : round(x + w * 3 / 4), 0]
        assert inside.mean() > 180
    assert (photo.pixels[..., 0] < 20).mean() > 0.5


def test_the_same_seed_gives_the_same_photo_of_every_factor():
    for factor in FACTORS:
        one, other = (made_photo(factor, [RED], PLAIN, 5) for _ in range(2))
        assert (one.pixels == other.pixels).all()
        assert (one.boxes == other.boxes).all()


def test_a_part_without_faces_is_free_of_them():
    pixels = np.zeros((300, 400, 3), np.uint8)
    boxes = np.array([[100.0, 20, 60, 80], [300, 200, 50, 50]])
    for x, y, w, h in boxes.astype(int):
        pixels[y : y + h, x : x + w] = 255
    part = face_free(pixels, boxes, 1)
    assert part is not None
    assert part.shape[0] >= 60
    assert part.max() == 0
    assert face_free(pixels, np.array([[0.0, 0, 400, 300]]), 1) is None


def test_a_face_is_covered_by_half_of_it_and_not_by_a_box_around_everything():
    faces = np.array([[100.0, 100, 40, 50]])
    assert covered(faces, np.array([[100.0, 100, 40, 26]])).tolist() == [True]
    assert covered(faces, np.array([[100.0, 100, 40, 24]])).tolist() == [False]
    assert covered(faces, np.array([[0.0, 0, 400, 400]])).tolist() == [False]
    assert covered(faces, np.zeros((0, 4))).tolist() == [False]
