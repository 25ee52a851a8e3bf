"""The parts of an image file that are not its picture: where metadata, second pictures and trailers can lie.

JPEG, PNG, WebP and AVIF/HEIF are walked by their own structure; of other formats what Pillow finds is taken. Nothing is
refused: what cannot be walked to its end is one part of kind "unreadable", since an audit passes nothing over.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pillow_heif
from PIL import Image

from mien.models.images import AVIF_UUID, JPEG_NAME, WEBP_FOURCC

_MAX_INFLATED = 64 << 20  # bytes of one packed part
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PICTURE = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"sBIT", b"pHYs"}
_WEBP_PICTURE = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", WEBP_FOURCC}
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
        if data.startswith(b"\xff\xd8"):
            found += _jpeg(data)
        elif data.startswith(_PNG):
            found += _png(data)
        elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            found += _webp(data)
        elif data[4:8] == b"ftyp":
            found += _boxes(data)
            found += _by_decoder(data, heif=data[8:12] not in (b"avif", b"avis"))
        else:
            found += _by_decoder(data)
    except (struct.error, IndexError, ValueError, zlib.error):
        found.append(Segment("unreadable", 0, b""))
    return found


def inflate(data: bytes) -> bytes:
    """A zlib stream unpacked as far as it goes; nothing of what is none."""
    try:
        return zlib.decompressobj().decompress(data, _MAX_INFLATED)
    except zlib.error:
        return b""


def _jpeg(data: bytes) -> Iterator[Segment]:
    pos = 2
    while True:
        if pos + 4 > len(data) or data[pos] != 0xFF:
            yield Segment("unreadable", pos, data[pos:])
            return
        marker = data[pos + 1]
        if marker == 0xFF:
            pos += 1
            continue
        if marker == 0xD9:
            break
        length = int(struct.unpack_from(">H", data, pos + 2)[0])
        body = data[pos + 4 : pos + 2 + length]
        if marker == 0xFE:
            yield Segment("comment", pos, body)
        elif 0xE0 <= marker <= 0xEF and not (marker == 0xEB and body.startswith(JPEG_NAME)):
            yield from _app(marker, pos, body)
        pos += 2 + length
        if marker == 0xDA:
            pos = _scan_end(data, pos)
            if data[pos : pos + 2] == b"\xff\xd9":
                break
    if pos + 2 < len(data):
        yield Segment("trailer", pos + 2, data[pos + 2 :])


def _scan_end(data: bytes, pos: int) -> int:
    """The first marker after a scan that is neither stuffing nor a restart."""
    while True:
        pos = data.find(b"\xff", pos)
        if pos < 0 or pos + 1 >= len(data):
            return len(data)
        if data[pos + 1] == 0 or 0xD0 <= data[pos + 1] <= 0xD7:
            pos += 2
        elif data[pos + 1] == 0xFF:
            pos += 1
        else:
            return pos


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
    pos = 8
    while pos + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, pos)
        body = data[pos + 8 : pos + 8 + length]
        if kind == b"eXIf":
            yield Segment("exif", pos, body)
        elif kind == b"iCCP":
            yield Segment("icc", pos, body.partition(b"\0")[0] + b"\0" + inflate(body.partition(b"\0")[2][1:]))
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            text = _png_text(kind, body)
            yield Segment("xmp" if body.startswith(b"XML:com.adobe.xmp") else "comment", pos, text)
        elif kind not in _PNG_PICTURE:
            yield Segment(f"other chunk {kind.decode('latin-1')}", pos, body)
        pos += 12 + length
        if kind == b"IEND":
            break
    else:
        yield Segment("unreadable", pos, b"")
    if pos < len(data):
        yield Segment("trailer", pos, data[pos:])


def _png_text(kind: bytes, body: bytes) -> bytes:
    key, _, rest = body.partition(b"\0")
    if kind == b"zTXt":
        return key + b"\0" + inflate(rest[1:])
    if kind == b"iTXt":
        packed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
        return key + b"\0" + (inflate(text) if packed else text)
    return body


def _webp(data: bytes) -> Iterator[Segment]:
    end, pos = 8 + int.from_bytes(data[4:8], "little"), 12
    while pos + 8 <= min(end, len(data)):
        kind, size = struct.unpack_from("<4sI", data, pos)
        body = data[pos + 8 : pos + 8 + size]
        known = {b"EXIF": "exif", b"XMP ": "xmp", b"ICCP": "icc"}.get(kind)
        if known or kind not in _WEBP_PICTURE:
            yield Segment(known or f"other chunk {kind.decode('latin-1')}", pos, body.removeprefix(b"Exif\0\0"))
        pos += 8 + size + size % 2
    if end < len(data):
        yield Segment("trailer", end, data[end:])


def _boxes(data: bytes) -> Iterator[Segment]:
    pos = 0
    while pos + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, pos)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", data, pos + 8), 16
        elif size == 0:
            size = len(data) - pos
        if size < head or pos + size > len(data):
            yield Segment("trailer" if pos else "unreadable", pos, data[pos:])
            return
        mine = kind == b"uuid" and data[pos + head : pos + head + 16] == AVIF_UUID
        if kind not in _BOX_PICTURE and not mine:
            yield Segment(f"other box {kind.decode('latin-1')}", pos, data[pos + head : pos + size])
        pos += size
    if pos < len(data):
        yield Segment("trailer", pos, data[pos:])


def _by_decoder(data: bytes, heif: bool = False) -> Iterator[Segment]:
    try:
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
