"""The parts of an image file that are not its picture: where metadata, second pictures and trailers can lie.

JPEG, PNG, WebP and AVIF/HEIF are walked by their own structure; of other formats what Pillow finds is taken. Nothing is
refused: what cannot be walked to its end, or has more parts or packed bytes than one file needs, is one part of kind
"unreadable", since an audit passes nothing over.
"""

import io
import itertools
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pillow_heif
from PIL import Image

from mien.models.errors import SearchError
from mien.models.images import (
    AFTER,
    COMMENT,
    CUT,
    EOI,
    GAP,
    PNG_SIGNATURE,
    SOS,
    is_own,
    iso_boxes,
    jpeg_segments,
    png_chunks,
    riff_chunks,
)

_MAX_INFLATED = 64 << 20  # bytes of all packed parts of a file
_MAX_SEGMENTS = 10_000
_PIECE = 1 << 16  # packed bytes that zlib is given at a time: it copies what it does not use
_TIFF = re.compile(rb"II\*\0|MM\0\*")
_TAG_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_DIRECTORIES = {0x8769, 0x8825, 0xA005}  # tags that point to one: EXIF, GPS, interoperability
_PNG_PICTURE = {
    b"PNG",
    b"IHDR",
    b"PLTE",
    b"IDAT",
    b"IEND",
    b"tRNS",
    b"gAMA",
    b"cHRM",
    b"sRGB",
    b"cICP",
    b"sBIT",
    b"pHYs",
}
_WEBP_PICTURE = {b"RIFF", b"VP8 ", b"VP8L", b"VP8X", b"ALPH"}
_BOX_PICTURE = {b"ftyp", b"meta", b"mdat", b"moov"}
_APP_KINDS = (
    (0xE1, b"Exif\0\0", "exif"),
    (0xE1, b"http://ns.adobe.com/xap/1.0/\0", "xmp"),
    (0xE1, b"http://ns.adobe.com/xmp/extension/\0", "xmp"),
    (0xE2, b"ICC_PROFILE\0", "icc"),
    (0xE2, b"MPF\0", "mpf"),
    (0xED, b"Photoshop 3.0\0", "iptc"),
)


@dataclass(frozen=True)
class Segment:
    """One part. kind: exif, xmp, icc, iptc, comment, mpf, trailer, unreadable, or "other NAME". data: unpacked, without
    the part's own head. offset: in the file, -1 where a decoder gave it."""

    kind: str
    offset: int
    data: bytes


def segments(data: bytes) -> list[Segment]:
    """All parts of the file that are not its picture, nor mien's chunk."""
    found: list[Segment] = []
    try:
        for segment in itertools.islice(_walked(data), _MAX_SEGMENTS + 1):
            found.append(segment)
    except (struct.error, IndexError, ValueError, SearchError):
        found.append(Segment("unreadable", 0, b""))
    if len(found) > _MAX_SEGMENTS:
        found[_MAX_SEGMENTS:] = [Segment("unreadable", found[_MAX_SEGMENTS].offset, b"")]
    return found


def _walked(data: bytes) -> Iterator[Segment]:
    if data.startswith(b"\xff\xd8"):
        yield from _jpeg(data)
    elif data.startswith(PNG_SIGNATURE):
        yield from _png(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        yield from _webp(data)
    elif data[4:8] == b"ftyp":
        yield from _boxes(data)
        yield from _by_decoder(data, heif=data[8:12] not in (b"avif", b"avis"))
    else:
        yield from _by_decoder(data)


def inflate(data: bytes, start: int = 0, most: int = _MAX_INFLATED) -> bytes:
    """The zlib stream that begins at start, unpacked as far as it goes; nothing of what is none. SearchError where it
    has over `most` bytes."""
    unpacked = bytearray()
    stream = zlib.decompressobj()
    size = 256  # most of what looks like a stream is none, and shows it soon
    try:
        while start < len(data) and not stream.eof:
            packed = data[start : start + size]
            start, size = start + len(packed), min(2 * size, _PIECE)
            while packed and not stream.eof:
                unpacked += stream.decompress(packed, most + 1 - len(unpacked))
                if len(unpacked) > most:
                    raise SearchError(f"over {most} bytes in packed parts")
                packed = stream.unconsumed_tail
    except zlib.error:
        pass  # damaged from here on
    return bytes(unpacked)


def check_tags(block: bytes) -> None:
    """ValueError for an EXIF block, from its TIFF header on, whose tags say that they hold more than the block has.

    Tags that share bytes would fill the memory. What is cut is no matter."""
    order = "<" if block[:2] == b"II" else ">"
    total = 0
    waiting, seen = [4], set[int]()
    while waiting:
        pointer = waiting.pop()
        try:
            (start,) = struct.unpack_from(order + "I", block, pointer)
            if start == 0 or start in seen:  # 0: no directory
                continue
            seen.add(start)
            (entries,) = struct.unpack_from(order + "H", block, start)
            for at in range(start + 2, start + 2 + 12 * entries, 12):
                tag, kind, count = struct.unpack_from(order + "HHI", block, at)
                total += count * _TAG_SIZES.get(kind, 0)
                if total > 2 * len(block) + 1024 or len(seen) > 100:
                    raise ValueError("the tags are larger than their block")
                if tag in _DIRECTORIES:
                    waiting.append(at + 8)
            waiting.append(start + 2 + 12 * entries)
        except struct.error:
            continue


def _jpeg(data: bytes) -> Iterator[Segment]:
    before_scan, ended = True, False
    for part in jpeg_segments(data):
        ended = part.kind in (EOI, AFTER, CUT)
        if part.kind in (CUT, GAP):
            yield Segment("unreadable", part.offset, part.body(data))
        elif part.kind == AFTER:
            yield Segment("trailer", part.offset, part.body(data))
        elif part.kind == COMMENT:
            yield Segment("comment", part.offset, part.body(data))
        elif b"\xe0" <= part.kind <= b"\xef" and not (before_scan and is_own("JPEG", part, data)):
            yield from _app(part.kind[0], part.offset, part.body(data))
        before_scan = before_scan and part.kind != SOS
    if not ended:
        yield Segment("unreadable", len(data), b"")


def _app(marker: int, offset: int, body: bytes) -> Iterator[Segment]:
    for number, head, kind in _APP_KINDS:
        if marker == number and body.startswith(head):
            yield Segment(kind, offset, body[len(head) :])
            return
    if marker == 0xE0 and body.startswith((b"JFIF\0", b"JFXX\0")):
        if len(body) > 14:  # a thumbnail
            yield Segment("other JFIF thumbnail", offset, body)
    elif not (marker == 0xEE and body.startswith(b"Adobe") and len(body) <= 12):
        yield Segment(f"other APP{marker - 0xE0}", offset, body)


def _png(data: bytes) -> Iterator[Segment]:
    left = _MAX_INFLATED
    for part in png_chunks(data):
        kind, pos, body = part.kind, part.offset, part.body(data)
        if kind == CUT:
            yield Segment("unreadable", pos, body)
        elif kind == AFTER:
            yield Segment("trailer", pos, body)
        elif kind == b"eXIf":
            yield Segment("exif", pos, body)
        elif kind == b"iCCP":
            name, _, packed = body.partition(b"\0")
            profile = inflate(packed, 1, left)
            left -= len(profile)
            yield Segment("icc", pos, name + b"\0" + profile)
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            text = _png_text(kind, body, left)
            left -= len(text) if len(text) > len(body) else 0
            yield Segment("xmp" if body.startswith(b"XML:com.adobe.xmp") else "comment", pos, text)
        elif kind not in _PNG_PICTURE:
            yield Segment(f"other chunk {kind.decode('latin-1')}", pos, body)


def _png_text(kind: bytes, body: bytes, most: int) -> bytes:
    """most: bytes that it may unpack."""
    key, _, rest = body.partition(b"\0")
    if kind == b"zTXt":
        return key + b"\0" + inflate(rest, 1, most)
    if kind == b"iTXt":
        packed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
        return key + b"\0" + (inflate(text, 0, most) if packed else text)
    return body


def _webp(data: bytes) -> Iterator[Segment]:
    for part in riff_chunks(data):
        body = part.body(data)
        if part.kind == CUT:
            yield Segment("unreadable", part.offset, body)
        elif part.kind == AFTER:
            yield Segment("trailer", part.offset, body)
        elif part.kind not in _WEBP_PICTURE and not is_own("WebP", part, data):
            known = {b"EXIF": "exif", b"XMP ": "xmp", b"ICCP": "icc"}.get(part.kind)
            name = known or f"other chunk {part.kind.decode('latin-1')}"
            yield Segment(name, part.offset, body.removeprefix(b"Exif\0\0"))


def _boxes(data: bytes) -> Iterator[Segment]:
    for part in iso_boxes(data):
        if part.kind == CUT:
            yield Segment("trailer" if part.offset else "unreadable", part.offset, part.body(data))
        elif part.kind not in _BOX_PICTURE and not is_own("AVIF", part, data):
            yield Segment(f"other box {part.kind.decode('latin-1')}", part.offset, part.body(data))


def _by_decoder(data: bytes, heif: bool = False) -> Iterator[Segment]:
    try:
        for found in _TIFF.finditer(data):  # Pillow reads all tags of what it opens
            check_tags(data[found.start() :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            info = pillow_heif.open_heif(data).info if heif else Image.open(io.BytesIO(data)).info
    except Exception:  # decoders raise nearly every kind
        yield Segment("unreadable", -1, b"")
        return
    for name, kind in (("exif", "exif"), ("xmp", "xmp"), ("icc_profile", "icc"), ("comment", "comment")):
        value = info.get(name)
        if isinstance(value, str):
            value = value.encode()
        if isinstance(value, bytes) and value:
            yield Segment(kind, -1, value.removeprefix(b"Exif\0\0"))
