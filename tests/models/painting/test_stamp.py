import numpy as np

from mien.models.faces.alignment import similarity
from mien.models.painting.stamp import enlarged_transform, inlay_face


def test_a_pixels_middle_stays_its_middle() -> None:
    transform = similarity(20.0, 30.0, 16.0, 0.3)
    a, b, x, c, d, y = enlarged_transform(transform, 4)
    u, v = 100.0, 400.0
    before = np.array(
        [transform[0] * u + transform[1] * v + transform[2], transform[3] * u + transform[4] * v + transform[5]]
    )
    assert np.allclose([a * u + b * v + x, c * u + d * v + y], (before + 0.5) * 4 - 0.5)


def test_a_face_fades_out_within_its_square() -> None:
    pixels = np.zeros((300, 400, 3), np.uint8)
    inlay_face(pixels, np.full((128, 128, 3), 200, np.uint8), similarity(150, 150, 120, 0.2))
    assert (pixels[150, 150] == 200).all()
    y, x = np.nonzero(pixels[:, :, 0])
    assert 85 < x.min() < x.max() < 215
    assert 85 < y.min() < y.max() < 215
    steps = np.abs(np.diff(pixels[150, :, 0].astype(int)))
    assert steps.max() < 30  # soft


def test_another_face_stays_as_it_is() -> None:
    pixels, face = np.zeros((300, 400, 3), np.uint8), np.full((128, 128, 3), 200, np.uint8)
    other = similarity(190, 150, 80, 0.0)
    inlay_face(pixels, face, similarity(150, 150, 120, 0.0), [other])
    assert pixels[150, 190, 0] == 0
    assert pixels[150, 130, 0] == 200


def test_a_face_over_the_border_is_cut() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    inlay_face(pixels, np.full((512, 512, 3), 200, np.uint8), similarity(0, 50, 90, 0.0))
    assert pixels[50, 0, 0] == 200
    assert pixels[50, 60:].max() == 0
