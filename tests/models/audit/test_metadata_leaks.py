import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from mien.models.audit.metadata_leaks import embedded_pictures, file_leaks, trace_leaks, traces
from mien.models.audit.metadata_segments import segments
from mien.models.images.chunk import StoredFace, StoredPhoto
from mien.models.images.container import embed
from mien.models.images.files import encode_image

PIXELS = np.random.default_rng(1).integers(0, 255, (48, 64, 3)).astype(np.uint8)
SAMPLE = (Path(__file__).parents[2] / "data" / "samples" / "1.jpg").read_bytes()
CANARY = b"canary of the meadow 5309"


def jpeg(pixels: np.ndarray = PIXELS, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", **options)
    return out.getvalue()


def exif(**values: str | int) -> bytes:
    found = Image.Exif()
    for tag, value in values.items():
        found[{"description": 270, "date": 306, "copyright": 33432, "orientation": 274}[tag]] = value
    return found.tobytes()


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def with_segment(marker: int, body: bytes) -> bytes:
    plain = jpeg()
    return plain[:2] + segment(marker, body) + plain[2:]


def gps() -> bytes:
    found = Image.Exif()
    found[0x8825] = {1: "N", 2: (47.0, 30.0, 12.0)}
    found[0x8769] = {0x927C: CANARY * 4}
    return found.tobytes()


def thumbnail() -> bytes:
    """EXIF whose second directory has a JPEG."""
    small = jpeg(PIXELS[:16, :16])
    head = b"II*\0\x08\0\0\0" + b"\0\0" + b"\x0e\0\0\0"
    entries = [(0x0201, 4, 1, 14 + 2 + 24 + 4), (0x0202, 4, 1, len(small))]
    block = len(entries).to_bytes(2, "little")
    for tag, kind, count, value in entries:
        block += tag.to_bytes(2, "little") + kind.to_bytes(2, "little")
        block += count.to_bytes(4, "little") + value.to_bytes(4, "little")
    return b"Exif\0\0" + head + block + bytes(4) + small


def kinds(data: bytes) -> set[str]:
    return {leak.kind for leak in file_leaks(data) if leak.leak}


@pytest.mark.parametrize("codec", ["avif", "webp", "jpeg", "png"])
def test_what_mien_writes_carries_nothing(codec: str) -> None:
    data = encode_image(PIXELS, codec)  # type: ignore[arg-type]
    assert segments(data) == []
    assert file_leaks(data) == []
    if codec != "png":
        face = StoredFace((1, 2, 30, 30), (), "preserve", "otherwise", "base1-0000", bytes(range(60)), 0.5)
        assert file_leaks(embed(data, StoredPhoto(64, 48, (face,), "compress", "0"))) == []


XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><dc:title>" + CANARY + b"</dc:title></x:xmpmeta>"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("EXIF tag", jpeg(exif=exif(description=CANARY.decode()))),
        ("EXIF GPS", jpeg(exif=gps())),
        ("EXIF maker note", jpeg(exif=gps())),
        ("EXIF thumbnail", jpeg(exif=thumbnail())),
        ("embedded picture", jpeg(exif=thumbnail())),
        ("XMP", with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)),
        ("colour profile", jpeg(icc_profile=PROFILE)),
        ("comment", with_segment(0xFE, CANARY)),
        ("iptc", with_segment(0xED, b"Photoshop 3.0\0" + b"8BIM" + CANARY)),
        ("MPF", with_segment(0xE2, b"MPF\0" + bytes(20))),
        ("other APP5", with_segment(0xE5, CANARY)),
        ("trailer", jpeg() + CANARY),
        ("embedded picture", jpeg() + jpeg(PIXELS[:20, :20])),
        ("trailer", encode_image(PIXELS, "png") + CANARY),
        ("trailer", encode_image(PIXELS, "webp") + CANARY),
        ("trailer", encode_image(PIXELS, "avif") + CANARY),
        ("unreadable", jpeg()[:2] + b"abcdef"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_leak_is_found_and_not_repeated(kind: str, data: bytes) -> None:
    assert kind in kinds(data)
    assert all(b"canary" not in f"{leak.kind}{leak.detail}".encode() for leak in file_leaks(data))


def test_what_may_pass_is_told_but_no_leak() -> None:
    kept = jpeg(exif=exif(date="2026:11:24 10:00:00", copyright="a county archive", orientation=1))
    assert {leak.detail.split(",")[0] for leak in file_leaks(kept)} == {"DateTime", "Copyright"}
    assert kinds(kept) == set()
    mark = (
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
        b"<rdf:Description Iptc4xmpExt:DigitalSourceType="
        b"'http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia'/></rdf:RDF></x:xmpmeta>"
    )
    marked = with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + mark)
    assert [leak.kind for leak in file_leaks(marked)] == ["XMP"]
    assert kinds(marked) == set()


@pytest.mark.parametrize("place", ["plain", "packed", "wide", "base64"])
def test_a_text_of_the_original_is_found_wherever_it_went(place: str) -> None:
    original = jpeg(exif=exif(description=CANARY.decode()))
    info = PngImagePlugin.PngInfo()
    if place == "packed":
        info.add_text("note", CANARY.decode() * 9, zip=True)
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, "PNG", pnginfo=info)
    data = out.getvalue()
    import base64

    data += {
        "plain": CANARY,
        "packed": b"",
        "wide": CANARY.decode().encode("utf-16-le"),
        "base64": base64.b64encode(CANARY + bytes(40)),
    }[place]
    assert (CANARY in data) == (place == "plain")
    (leak,) = trace_leaks(traces(original), data)
    assert (leak.kind, leak.leak) == ("trace of the original", True)
    assert "EXIF ImageDescription" in leak.detail
    assert trace_leaks(traces(original), jpeg()) == []


def test_pieces_of_a_thumbnail_are_found_in_a_trailer() -> None:
    original = jpeg(exif=thumbnail())
    assert trace_leaks(traces(original), encode_image(PIXELS, "webp")) == []
    small = traces(original)
    assert any("thumbnail" in source or "embedded" in source for source in small.values())
    assert trace_leaks(small, encode_image(PIXELS, "png") + zlib.compress(jpeg(PIXELS[:16, :16])))


def test_a_picture_is_none_in_itself() -> None:
    assert embedded_pictures(SAMPLE) == []
    assert [(offset, kind) for offset, kind, *_ in embedded_pictures(b"abc" + SAMPLE)] == [(3, "JPEG")]
