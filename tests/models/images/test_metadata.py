import io

import numpy as np
import pytest
from PIL import Image

from mien.models.errors import ImageError
from mien.models.images.files import decode_image, encode_image
from mien.models.images.metadata import KEPT, MAX_TEXT, draw_mark, has_mark, kept_exif, synthesis_xmp

PIXELS = np.full((40, 60, 3), 90, np.uint8)
ALL = tuple(KEPT)


def photo(kind="JPEG", **tags):
    """A picture with EXIF: the first directory's tags by number, and the inner one's under `inner`."""
    exif = Image.Exif()
    for tag, value in tags.get("first", {}).items():
        exif[tag] = value
    for tag, value in tags.get("inner", {}).items():
        exif.get_ifd(34665)[tag] = value
    exif.get_ifd(34853)[27] = b"CANARY"
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, kind, exif=exif)
    return out.getvalue()


def read(block):
    exif = Image.Exif()
    exif.load(block)
    return dict(exif), dict(exif.get_ifd(34665))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_the_named_fields_are_written_anew(kind):
    source = photo(
        kind,
        first={315: "A. Photographer", 33432: b"(c) 2026 An Agency", 270: "CANARY", 271: "CANARY"},
        inner={36867: "2026:02:03 04:05:06", 36881: "+02:00", 37510: b"CANARY", 37500: b"CANARY"},
    )
    assert kept_exif(source, ()) == b""
    block = kept_exif(source, ALL)
    assert b"CANARY" not in block
    first, inner = read(block)
    assert {first[315], first[33432]} == {"A. Photographer", "(c) 2026 An Agency"}
    assert inner == {36867: "2026:02:03 04:05:06", 36881: "+02:00"}
    assert set(read(kept_exif(source, ("copyright",)))[0]) == {33432}


def test_values_are_clean_and_bounded():
    source = photo(first={315: "a\n\x01b" + "c" * 900, 33432: "©  \t é".encode()}, inner={36867: "yesterday"})
    first, inner = read(kept_exif(source, ALL))
    assert first[315] == ("a b" + "c" * 900)[:MAX_TEXT]
    assert first[33432].encode("latin-1").decode() == "© é"
    assert inner == {}


@pytest.mark.parametrize("data", [b"", b"no picture", encode_image(PIXELS, "jpeg"), photo()[:60], photo()])
def test_nothing_to_keep(data):
    assert kept_exif(data, ALL) == b""


@pytest.mark.parametrize("codec", ["jpeg", "png", "webp", "avif"])
def test_the_mark_and_the_fields_are_in_every_format(codec):
    exif = kept_exif(photo(first={33432: "me"}), ALL)
    data = encode_image(PIXELS, codec, 90, exif, synthesis_xmp("9.8.7"))
    assert has_mark(data)
    assert b"mien 9.8.7" in data
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif()[33432] == "me"
        assert "icc_profile" not in image.info
    assert np.array_equal(decode_image(data), decode_image(encode_image(PIXELS, codec, 90)))
    assert not has_mark(encode_image(PIXELS, codec, 90))


def test_the_visible_mark_is_in_the_corner():
    for shape in ((400, 600, 3), (20, 30, 3), (1, 1, 3)):
        pixels = np.full(shape, 90, np.uint8)
        draw_mark(pixels)
        assert (pixels[: shape[0] // 2, : shape[1] // 2] == 90).all()
        assert (pixels[-1, -1] != 90).any()


def test_the_mark_of_what_is_no_picture() -> None:
    picture = encode_image(np.zeros((8, 8, 3), np.uint8), "avif")
    for data in (b"", b"no picture", picture[:60], picture.replace(b"ispe", b"isqe")):
        with pytest.raises(ImageError, match="no image file that can be read"):
            has_mark(data)
