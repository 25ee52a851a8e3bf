import base64
import io
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from mien.models.audit import metadata_leaks, metadata_segments
from mien.models.audit.metadata_leaks import embedded_pictures, file_leaks, trace_leaks, traces
from mien.models.audit.metadata_segments import segments
from mien.models.errors import SearchError
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


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A small picture with these chunks before its end."""
    plain = encode_image(PIXELS, "png")
    made = [
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big") for kind, body in chunks
    ]
    return plain[:-12] + b"".join(made) + plain[-12:]


def same_bytes_many_times(count: int) -> bytes:
    """EXIF of so many tags that all have the same 60,000 bytes for their value."""
    entry = (7).to_bytes(2, "little") + (60_000).to_bytes(4, "little") + (8).to_bytes(4, "little")
    entries = b"".join((1000 + i).to_bytes(2, "little") + entry for i in range(count))
    return b"II*\0" + (60_010).to_bytes(4, "little") + bytes(60_002) + count.to_bytes(2, "little") + entries + bytes(4)


BOMB = zlib.compress(bytes(5_000_000), 9)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("not searched", jpeg() + BOMB * 40),
        ("not searched", jpeg() + b"\x78\x9c" * 3_000),
        ("not searched", jpeg() + b"\xff\xd8\xff" * 3_000),
        ("unreadable", png((b"zTXt", b"note\0\0" + BOMB), (b"zTXt", b"note\0\0" + BOMB))),
        ("unreadable", png(*[(b"abCd", b"12345")] * 1_100)),
        ("EXIF", png((b"eXIf", same_bytes_many_times(5000)))),
    ],
    ids=["zip bombs", "no zips", "no pictures", "packed texts", "chunks", "tags that share bytes"],
)
def test_what_cannot_be_searched_to_its_end_is_a_finding(
    kind: str, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata_leaks, "_SEARCH_BYTES", 30_000_000)
    monkeypatch.setattr(metadata_leaks, "_SEARCH_TRIES", 1000)
    monkeypatch.setattr(metadata_segments, "_MAX_INFLATED", 8_000_000)
    monkeypatch.setattr(metadata_segments, "_MAX_SEGMENTS", 1000)
    needles = {CANARY: "comment"}
    tracemalloc.start()
    started = time.monotonic()
    found = [*file_leaks(data), *trace_leaks(needles, data)]
    peak, seconds = tracemalloc.get_traced_memory()[1], time.monotonic() - started
    tracemalloc.stop()
    assert kind in {leak.kind for leak in found if leak.leak}
    assert peak < 60_000_000
    assert seconds < 60


def test_a_trace_before_what_cannot_be_searched_is_found_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_leaks, "_SEARCH_BYTES", 30_000_000)
    leaks = trace_leaks({CANARY: "comment"}, jpeg() + zlib.compress(CANARY) + BOMB * 10)
    assert {leak.kind for leak in leaks} == {"not searched", "trace of the original"}


def test_an_original_that_cannot_be_searched_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_leaks, "_SEARCH_TRIES", 100)
    assert traces(jpeg(comment=CANARY) + b"\xff\xd8\xff" * 99)
    with pytest.raises(SearchError, match="too many places to search"):
        traces(jpeg(comment=CANARY) + b"\xff\xd8\xff" * 110)


@pytest.mark.parametrize("extra", range(4))
def test_base64_of_any_length_is_searched(extra: int) -> None:
    text = base64.b64encode(bytes(30) + CANARY + bytes(30)).rstrip(b"=")
    data = jpeg() + b"A" * extra + text[: len(text) - extra] + b" " + b"A" * 65
    (leak,) = trace_leaks({CANARY: "comment"}, data)
    assert leak.kind == "trace of the original"


def test_many_traces_are_found_in_one_pass() -> None:
    rng = np.random.default_rng(2)
    original = jpeg() + rng.integers(0x80, 0xF4, 500_000, np.uint8).tobytes() + bytes(20)
    output = jpeg() + original[400_000:400_600]
    needles = {f"needle {i:07}".encode(): "comment" for i in range(50_000)} | traces(original)
    started = time.monotonic()
    (leak,) = trace_leaks(needles, output + b"needle 0012345" + bytes(1_000_000))[:1]
    assert (leak.kind, leak.detail[:12]) == ("trace of the original", "1 of comment")
    assert time.monotonic() - started < 30


def test_markup_without_an_end_takes_no_quadratic_time() -> None:
    started = time.monotonic()
    for text in (b"<?" * 200_000, b"a" * 400_000, b"mntr" + b"a" * 400_000 + b"!"):
        assert file_leaks(png((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + text)))
        assert traces(png((b"iTXt", b"note\0\0\0\0\0" + text))) is not None
    assert time.monotonic() - started < 30
