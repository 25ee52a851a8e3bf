import numpy as np
import pytest

from mien.models.magnify.consistency import consistent, rms, rms_limit, shrink, shrinking


@pytest.mark.parametrize(("small", "size"), [(8, 128), (32, 512), (37, 256), (256, 512), (128, 128)])
def test_shrinking_is_the_mean_of_each_pixels_area(small: int, size: int) -> None:
    weights = shrinking(small, size)
    assert np.allclose(weights.sum(1), 1, atol=1e-5)
    assert np.allclose(weights.sum(0), small / size, atol=1e-5)
    assert ((weights > 0).sum(1) <= size // small + 2).all()


def test_shrinking_by_a_whole_factor_is_the_mean_of_blocks() -> None:
    face = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert np.allclose(shrink(face, 16), face.reshape(16, 4, 16, 4, 3).mean((1, 3)), atol=1e-3)


@pytest.mark.parametrize("small", [8, 19, 32, 64])
def test_any_picture_becomes_consistent(small: int) -> None:
    random = np.random.default_rng(small)
    face = np.kron(random.integers(60, 190, (32, 32, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    wanted = random.integers(70, 180, (small, small, 3)).astype(np.uint8)
    made, error = consistent(face, wanted)
    assert made.dtype == np.uint8
    assert made.shape == face.shape
    assert error == rms(made, wanted) < 1
    assert rms(face, wanted) > 20


def test_a_share_of_the_difference_is_removed() -> None:
    face, wanted = np.full((128, 128, 3), 100, np.uint8), np.full((16, 16, 3), 140, np.uint8)
    assert rms(consistent(face, wanted, 0.5)[0], wanted) == pytest.approx(20, abs=0.6)
    assert np.array_equal(consistent(face, wanted, 0.0)[0], face)


def test_black_and_white_are_reached_as_far_as_they_can_be() -> None:
    face = np.random.default_rng(2).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    wanted = np.zeros((8, 8, 3), np.uint8)
    wanted[2:6] = 255
    made, error = consistent(face, wanted)
    assert error == rms(made, wanted) < 15


def test_limits() -> None:
    assert [rms_limit(size) for size in (8, 32, 256)] == [3.0, 2.0, 2.0]
    assert rms_limit(16) == 2.5
