from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.models.faces.roughness import blockiness, is_rough, noise, smoothed
from mien.models.images import decode_image

DATA = Path(__file__).parents[2] / "data" / "photos"
PHOTO = decode_image((DATA / "usds.jpg").read_bytes())


@pytest.mark.parametrize("sigma", [0, 10, 30])
def test_noise_is_measured_in_grey_levels(sigma):
    random = np.random.default_rng(2)
    noisy = np.clip(128 + random.normal(0, sigma, (300, 400, 1)), 0, 255).astype(np.uint8).repeat(3, -1)
    assert noise(noisy) == pytest.approx(sigma, rel=0.1, abs=0.2)
    assert is_rough(noisy) == (sigma > 20)


@pytest.mark.parametrize("path", sorted(DATA.glob("*.jpg")), ids=lambda path: path.stem)
def test_photos_as_they_are_are_not_rough(path):
    assert not is_rough(decode_image(path.read_bytes()))


def test_blocks_and_screens_are_rough():
    data = cv2.imencode(".jpg", PHOTO[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 5])[1]
    blocky = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert blockiness(blocky) > 1.5 * blockiness(PHOTO)
    assert is_rough(blocky)
    rows, columns = np.mgrid[: PHOTO.shape[0], : PHOTO.shape[1]]
    screen = ((np.where((rows + columns) % 2, 200, 40) < PHOTO[..., 1]) * 255).astype(np.uint8)
    assert is_rough(np.repeat(screen[..., None], 3, -1))


@pytest.mark.parametrize("shape", [(1, 1), (8, 5000), (63, 63), (64, 64)])
def test_small_and_thin_pictures_have_a_measure(shape):
    pixels = np.full((*shape, 3), 77, np.uint8)
    assert not is_rough(pixels)
    assert (smoothed(pixels) == 77).all()
