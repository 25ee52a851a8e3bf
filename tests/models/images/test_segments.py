"""The walk over a file's parts: every byte in one part, whatever the bytes are, and all who read agree on them."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mien.models.audit.metadata_segments import segments
from mien.models.errors import ContainerError
from mien.models.images.container import StoredPhoto, embed, extract, has_chunk, strip
from mien.models.images.files import encode_image
from mien.models.images.segments import (
    AFTER,
    CUT,
    FILL,
    GAP,
    SCAN,
    Segment,
    iso_boxes,
    jpeg_segments,
    png_chunks,
    riff_chunks,
)

Walk = Callable[[bytes], Iterator[Segment]]
PIXELS = np.full((40, 60, 3), 90, np.uint8)
WALKS: dict[str, tuple[Walk, bytes]] = {
    "jpeg": (jpeg_segments, b"\xff\xd8"),
    "png": (png_chunks, b"\x89PNG\r\n\x1a\n"),
    "webp": (riff_chunks, b"RIFF\x40\0\0\0WEBP"),
    "avif": (iso_boxes, b""),
}


def kinds(walk: Walk, data: bytes) -> list[bytes]:
    return [segment.kind for segment in walk(data)]


@pytest.mark.parametrize("name", WALKS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_the_parts_are_the_file(name: str, data: st.DataObject) -> None:
    walk, start = WALKS[name]
    file = bytearray(encode_image(PIXELS, name) if data.draw(st.booleans()) else start)  # type: ignore[arg-type]
    file += data.draw(st.binary(max_size=80))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(len(start), len(file)))
        file[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=12))
    end = 0
    for segment in walk(bytes(file)):
        assert segment.offset == end
        assert 0 <= segment.head + segment.tail <= segment.length or segment.kind == CUT
        end = segment.end
    assert end == len(file)


def test_jpeg() -> None:
    comment = b"\xff\xfe\0\x04hi"
    scan = b"\xff\xda\0\x02" + b"ab\xff\0c\xff\xd0d"
    data = b"\xff\xd8" + b"junk" + b"\xff\xff" + comment + scan + b"\xff" + scan + b"\xff\xd9" + b"behind"
    expected = [b"\xd8", GAP, FILL, b"\xfe", b"\xda", SCAN, FILL, b"\xda", SCAN, b"\xd9", AFTER]
    assert kinds(jpeg_segments, data) == expected
    assert [s.body(data) for s in jpeg_segments(data) if s.kind in (b"\xfe", AFTER)] == [b"hi", b"behind"]
    assert kinds(jpeg_segments, data[:14]) == [b"\xd8", GAP, FILL, b"\xfe"]
    assert kinds(jpeg_segments, data[:13]) == [b"\xd8", GAP, FILL, CUT]
    assert kinds(jpeg_segments, b"\xff\xd8\xff\xe0\0\1x") == [b"\xd8", CUT]


def test_png() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    data = b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt", b"a\0b") + chunk(b"IEND", b"")
    assert kinds(png_chunks, data) == [b"PNG", b"tEXt", b"IEND"]
    assert [s.body(data) for s in png_chunks(data)] == [b"", b"a\0b", b""]
    assert kinds(png_chunks, data + b"x") == [b"PNG", b"tEXt", b"IEND", AFTER]
    assert kinds(png_chunks, data[:-1]) == [b"PNG", b"tEXt", CUT]


def test_riff_and_boxes() -> None:
    body = b"WEBP" + b"EXIF\x03\0\0\0abc\0" + b"XMP \0\0\0\0"
    data = b"RIFF" + struct.pack("<I", len(body)) + body
    assert kinds(riff_chunks, data + b"..") == [b"RIFF", b"EXIF", b"XMP ", AFTER]
    assert next(s.body(data) for s in riff_chunks(data) if s.kind == b"EXIF") == b"abc"
    assert kinds(riff_chunks, data[:-1]) == [b"RIFF", b"EXIF", CUT]
    boxes = struct.pack(">I4s", 12, b"ftyp") + b"avif" + struct.pack(">I4sQ", 1, b"free", 17) + b"x"
    assert [(s.kind, s.body(boxes)) for s in iso_boxes(boxes)] == [(b"ftyp", b"avif"), (b"free", b"x")]
    assert kinds(iso_boxes, boxes + b"\0\0") == [b"ftyp", b"free", CUT]
    assert kinds(iso_boxes, boxes + struct.pack(">I4s", 0, b"mdat") + b"rest") == [b"ftyp", b"free", b"mdat"]


@pytest.mark.parametrize("codec", ["jpeg", "webp", "avif"])
def test_what_the_audit_passes_over_is_what_is_read_as_the_chunk(codec: str) -> None:
    """A part that only looks like mien's chunk is told by an audit; a whole one is not."""
    plain = encode_image(PIXELS, codec)  # type: ignore[arg-type]
    both = embed(plain, StoredPhoto(60, 40, (), "p", "v"))
    assert segments(both) == []
    assert has_chunk(both)
    assert not has_chunk(plain)
    if codec == "jpeg":
        hidden = plain[:-2] + b"\xff\xeb\0\x12mien\0\0\1\0\1secrets" + b"\xff\xd9"
        name = "other APP11"
    elif codec == "webp":
        hidden = plain[:4] + struct.pack("<I", len(plain)) + plain[8:] + b"uuid\0\0\0\0"
        name = "other chunk uuid"
    else:
        hidden = plain + struct.pack(">I4s", 15, b"mien") + b"secrets"
        name = "other box mien"
    with pytest.raises(ContainerError, match="no mien chunk"):
        extract(hidden)
    assert [segment.kind for segment in segments(hidden)] == [name]


def test_restart_markers_and_progressive_scans_are_walked_to_the_end() -> None:
    for options in ({"progressive": True}, {"restart_marker_blocks": 1}):
        out = io.BytesIO()
        Image.fromarray(PIXELS).save(out, "JPEG", **options)  # type: ignore[arg-type]
        found = kinds(jpeg_segments, out.getvalue())
        assert found[-2:] == [SCAN, b"\xd9"]
        assert not {CUT, GAP, AFTER} & set(found)


@pytest.mark.parametrize("tail", [b"\0\0", b"\r\n", b"\0" * 30, b"some text that was put behind the picture"])
def test_bytes_behind_a_whole_chunk_do_not_matter(tail: bytes) -> None:
    plain = encode_image(PIXELS, "avif")
    photo = StoredPhoto(60, 40, (), "p", "v")
    both = embed(plain, photo)
    assert extract(both + tail) == photo
    assert strip(both + tail) == plain
    assert embed(both + tail, photo) == both
    with pytest.raises(ContainerError, match="cut off or damaged"):
        extract(plain + tail)  # without a chunk before it nobody knows what it was
    with pytest.raises(ContainerError, match="cut off or damaged"):
        extract(both + both[len(plain) : -1])  # a second chunk that is cut
