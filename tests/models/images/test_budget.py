"""A picture within its bytes: never more, nearly as many, and what cannot be says what it needs."""

import io

import numpy as np
import numpy.typing as npt
import pillow_heif
import pytest
from PIL import Image

from mien.models.errors import BudgetError, ImageError
from mien.models.images.budget import Codec, enlarge, fit_picture, is_scaled, scaled
from mien.models.images.files import decode_image, encode_image
from mien.models.images.slim_avif import slim_avif

Pixels = npt.NDArray[np.uint8]


def picture(width: int, height: int) -> Pixels:
    """Coarse and fine detail, as a photo has."""
    random = np.random.default_rng(1)
    layers = [
        np.asarray(Image.fromarray(random.integers(0, 255, (side, side, 3), np.uint8)).resize((width, height)), float)
        for side in (4, 16, 60)
    ]
    return np.clip(sum(layer * weight for layer, weight in zip(layers, (0.6, 0.3, 0.1), strict=True)), 0, 255).astype(
        np.uint8
    )


@pytest.fixture(scope="module")
def photo() -> Pixels:
    return picture(480, 320)


def off(a: Pixels, b: Pixels) -> float:
    return float(np.abs(a.astype(int) - b).mean())


@pytest.mark.parametrize("codec", ["avif", "webp", "jpeg"])
@pytest.mark.parametrize("most", [400, 1000, 6000])
def test_a_file_fills_its_bytes_and_never_more(photo: Pixels, codec: Codec, most: int) -> None:
    found = fit_picture(photo, codec, most, lambda shown: off(shown, photo))
    assert 0.95 * most <= len(found.data) <= most
    coded = decode_image(found.data)
    assert coded.shape[1::-1] == found.size
    assert is_scaled(found.size, 480, 320)
    assert np.array_equal(enlarge(coded, (480, 320)), found.pixels)
    assert not found.full


def test_more_bytes_show_more(photo: Pixels) -> None:
    errors = [off(fit_picture(photo, "avif", most).pixels, photo) for most in (350, 700, 2000, 8000)]
    assert errors == sorted(errors, reverse=True)


def test_shrinking_is_better_than_the_coarsest_quality(photo: Pixels) -> None:
    """What a codec alone can do at full size in twice the bytes is worse."""
    coarsest = encode_image(photo, "avif", 1)
    found = fit_picture(photo, "avif", len(coarsest) * 3 // 4)
    assert off(found.pixels, photo) < off(decode_image(coarsest), photo)


@pytest.mark.parametrize("codec", ["avif", "webp", "jpeg"])
def test_nothing_is_blown_up(photo: Pixels, codec: Codec) -> None:
    found = fit_picture(photo, codec, 10_000_000)
    assert found.full
    assert found.size == (480, 320)
    assert len(found.data) < photo.size


@pytest.mark.parametrize("codec", ["avif", "webp", "jpeg"])
def test_too_few_bytes_say_what_is_needed(photo: Pixels, codec: Codec) -> None:
    with pytest.raises(BudgetError, match="needs at least") as caught:
        fit_picture(photo, codec, 40)
    least = caught.value.least
    assert len(fit_picture(photo, codec, least).data) <= least
    with pytest.raises(BudgetError):
        fit_picture(photo, codec, least - 1)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (3, 700), (40_000, 60)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    found = fit_picture(picture(*size), "avif", 900)
    assert len(found.data) <= 900
    assert found.pixels.shape == (size[1], size[0], 3)
    assert is_scaled(found.size, *size)


def test_sizes_that_are_no_shrunken_ones() -> None:
    assert scaled(300, 200, 150) == (150, 100)
    assert scaled(40_000, 60, 16) == (16, 1)
    assert is_scaled((300, 200), 300, 200)
    assert not is_scaled((300, 200), 301, 200)
    assert not is_scaled((200, 300), 300, 200)
    assert not is_scaled((600, 400), 300, 200)


def test_the_slim_avif_shows_the_same_everywhere(photo: Pixels) -> None:
    plain = encode_image(photo, "avif", 30)
    slim = slim_avif(plain)
    assert len(slim) == len(plain) - 29
    assert np.array_equal(decode_image(slim), decode_image(plain))
    heif = pillow_heif.open_heif(slim, convert_hdr_to_8bit=True)
    assert heif.size == (480, 320)
    with Image.open(io.BytesIO(slim)) as image:
        assert image.size == (480, 320)


def test_what_is_no_plain_avif_is_not_made_slim(photo: Pixels) -> None:
    out = io.BytesIO()
    Image.fromarray(photo).save(out, "AVIF", icc_profile=b"x" * 200)
    for other in (out.getvalue(), encode_image(photo, "avif", 30)[:200], b"ftypavif", b""):
        with pytest.raises(ImageError):
            slim_avif(other)
