"""Blocks of a JPEG that stay as they are: coefficients compared, not pixels."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from mien.models.errors import ImageError
from mien.models.images.files import decode_image
from mien.models.images.jpeg_blocks import with_new_pixels
from mien.models.images.metadata import kept_exif

jpeglib = pytest.importorskip("jpeglib")
DATA = Path(__file__).parents[2] / "data" / "photos"
PLACE = slice(70, 133), slice(101, 190)


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    """A part of a photo, 333 x 214, which is no whole number of blocks."""
    stream = io.BytesIO()
    with Image.open(DATA / "team.jpg") as image:
        image.crop((400, 300, 733, 514)).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


def changed(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Its pixels with others in a place, and the place."""
    pixels = decode_image(data)
    mask = np.zeros(pixels.shape[:2], np.bool_)
    mask[PLACE] = True
    pixels[mask] = (200, 30, 90) if np.ptp(pixels, 2).any() else 200
    return pixels, mask


def coefficients(data: bytes, path: Path) -> list[np.ndarray]:
    path.write_bytes(data)
    image = jpeglib.read_dct(str(path))
    return [getattr(image, name) for name in ("Y", "Cb", "Cr")[: image.num_components]]


@pytest.mark.parametrize(
    ("options", "block"),
    [
        ({"quality": 90, "subsampling": "4:2:0"}, 16),
        ({"quality": 95, "subsampling": "4:4:4", "progressive": True}, 8),
        ({"quality": 60, "subsampling": "4:2:2", "optimize": True}, 16),
        ({"quality": 85, "mode": "L"}, 8),
        ({"quality": 85, "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}, 16),
    ],
)
def test_blocks_that_no_change_touches_keep_their_coefficients(
    tmp_path: Path, options: dict[str, object], block: int
) -> None:
    data = jpeg(**options)  # type: ignore[arg-type]
    pixels, mask = changed(data)
    made = with_new_pixels(data, pixels, mask)
    rows, columns = PLACE
    found = [coefficients(one, tmp_path / "x.jpg") for one in (data, made)]
    for before, after in zip(*found, strict=True):
        assert before.shape == after.shape
        height, width = (8 * round(found[0][0].shape[i] / before.shape[i]) for i in (0, 1))  # of a block, in pixels
        other = np.argwhere((before != after).any((2, 3)))
        assert len(other)
        assert other.min(0).tolist() == [rows.start // height, columns.start // width]
        assert other.max(0).tolist() == [(rows.stop - 1) // height, (columns.stop - 1) // width]
    back = decode_image(made)
    far = np.ones(mask.shape, np.bool_)
    far[rows.start - 2 * block : rows.stop + 2 * block, columns.start - 2 * block : columns.stop + 2 * block] = False
    assert np.abs(back.astype(int) - decode_image(data))[far].max() <= 2
    inner = back[rows.start + block : rows.stop - block, columns.start + block : columns.stop - block].astype(int)
    assert np.abs(inner - pixels[100, 140]).max() < 12


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_photo_stays_turned(turn: int) -> None:
    exif = Image.Exif()
    exif[274], exif[270] = turn, "CANARY"
    data = jpeg(exif=exif, quality=95)
    pixels, mask = changed(data)
    made = with_new_pixels(data, pixels, mask, kept_exif(data, ("orientation",), turned=True), b"<x/>")
    back = decode_image(made)
    assert back.shape == pixels.shape
    assert np.abs(back[90:113, 121:170].astype(int) - pixels[90:113, 121:170]).max() < 12
    assert b"CANARY" not in made
    with Image.open(io.BytesIO(made)) as image:
        assert image.getexif().get(274, 1) == turn
        assert image.info["xmp"] == b"<x/>"


def test_what_cannot_be_kept_is_refused() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other = srgb.replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ")
    data = jpeg(icc_profile=other)
    with pytest.raises(ImageError, match="its colours are not sRGB"):
        with_new_pixels(data, *changed(data))
    stream = io.BytesIO()
    Image.new("RGB", (333, 214)).save(stream, "PNG")
    for data, told in (
        (stream.getvalue(), "only a JPEG's blocks"),
        (jpeg("CMYK"), "the blocks of 4 colours"),
    ):
        with pytest.raises(ImageError, match=told):
            with_new_pixels(data, np.zeros((214, 333, 3), np.uint8), np.zeros((214, 333), np.bool_))
