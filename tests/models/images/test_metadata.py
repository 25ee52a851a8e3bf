import io

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

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
    exif.get_ifd(34853).update(tags.get("places", {}) | {27: b"CANARY"})
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
        first={315: "A. Photographer", 33432: b"(c) 2026 An Agency", 270: "CANARY", 305: "CANARY"},
        inner={36867: "2026:02:03 04:05:06", 36881: "+02:00", 37510: b"CANARY", 37500: b"CANARY"},
    )
    assert kept_exif(source, ()) == b""
    block = kept_exif(source, ALL)
    assert b"CANARY" not in block
    first, inner = read(block)
    assert {first[315], first[33432]} == {"A. Photographer", "(c) 2026 An Agency"}
    assert inner == {36867: "2026:02:03 04:05:06", 36881: "+02:00"}
    assert set(read(kept_exif(source, ("copyright",)))[0]) == {33432}


# one value of each field, as it is found in the file that keeps it, and all else that a camera may write
FIELDS = {
    "artist": b"ARTIST-CANARY",
    "copyright": b"COPYRIGHT-CANARY",
    "camera": b"MODEL-CANARY",
    "date": b"2026:02:03 04:05:06",
    "gps": (47).to_bytes(4, "big") + (1).to_bytes(4, "big"),
    "heading": (271).to_bytes(4, "big") + (1).to_bytes(4, "big"),
}
FIRST = {315: "ARTIST-CANARY", 33432: "COPYRIGHT-CANARY", 270: "CANARY", 271: "Maker", 272: "MODEL-CANARY", 274: 6}
INNER = {
    36867: "2026:02:03 04:05:06", 42033: "CANARY", 42032: "CANARY", 37500: b"CANARY", 42036: "Lens",
}  # fmt: skip
PLACES = {
    1: "N", 2: (47.0, 22.0, 7.25), 3: "E", 4: (8.0, 33.0, 1.0), 5: b"\0", 6: 408.5, 16: "M", 17: 271.0,
    29: "2026:02:03",
}  # fmt: skip


@pytest.mark.parametrize("kept", FIELDS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_field_is_kept_and_no_other(kind, kept):
    source = photo(kind, first=FIRST, inner=INNER, places=PLACES)
    block = kept_exif(source, (kept,))
    for name, canary in FIELDS.items():
        little = canary if name not in ("gps", "heading") else canary[3::-1] + canary[:3:-1]
        assert (canary in block or little in block) == (name == kept), name
    rest = block
    for canary in FIELDS.values():
        rest = rest.replace(canary, b"")
    assert b"CANARY" not in rest
    data = encode_image(PIXELS, "jpeg", 90, block)
    with Image.open(io.BytesIO(data)) as image:
        exif = image.getexif()
        first, inner, places = set(exif) - {34665, 34853}, set(exif.get_ifd(34665)), set(exif.get_ifd(34853))
    wanted = {
        "artist": ({315}, set(), set()),
        "copyright": ({33432}, set(), set()),
        "camera": ({271, 272}, {42036}, set()),
        "date": (set(), {36867}, set()),
        "gps": (set(), set(), {1, 2, 3, 4, 5, 6}),
        "heading": (set(), set(), {16, 17}),
    }
    assert (first, inner, places) == wanted[kept]


def test_a_place_is_what_it_was():
    exif = Image.Exif()
    exif.load(kept_exif(photo(first=FIRST, places=PLACES), ("gps", "heading", "orientation")))
    places = exif.get_ifd(34853)
    assert [float(part) for part in places[2]] == [47, 22, 7.25]
    assert (places[1], places[3], places[5], float(places[6]), places[16]) == ("N", "E", b"\0", 408.5, "M")
    assert float(places[17]) == 271
    assert exif[274] == 1  # the pixels are upright
    exif.load(kept_exif(photo(first=FIRST), ("orientation",), turned=True))
    assert dict(exif) == {274: 6}


@pytest.mark.parametrize(
    "wrong",
    [
        {2: (91.0, 0.0, 0.0)},
        {4: (8.0, 61.0, 1.0)},
        {2: (47.0, 22.0)},
        {1: "NORTH"},
        {2: (IFDRational(1, 0), 0.0, 0.0)},
    ],
)
def test_a_place_that_cannot_be_is_left_out(wrong):
    assert kept_exif(photo(places=PLACES | wrong), ("gps",)) == b""
    assert kept_exif(photo(places={17: 361.0}), ("heading",)) == b""


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
