"""What a photo's first bytes say, read before any decoder runs: the format, the size, how it lies, its colour profile.

Decoders parse far more than the pixels need, and a small hostile file can make them fill the memory with tags, text or
frames. So the metadata is read here, in a few strict lines a format, and what goes to the decoder is the file without
it. Strict where the memory is at stake, lenient where only metadata is damaged: a broken EXIF block means upright.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from mien.models.errors import ImageError

FORMATS = ("JPEG", "PNG", "WebP", "AVIF", "HEIF", "TIFF", "GIF")

_MAX_PROFILE = 1 << 24  # bytes of an inflated ICC profile; the largest in use (printers' tables) have 4 MB
_MAX_SCANS = 200  # of a progressive JPEG; encoders write about 10, and each goes over the whole photo
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")  # what ends a JPEG scan: no stuffed byte, no restart
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_TAG_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_ORIENTATION, _SUBFILE_TYPE, _DNG_VERSION = 274, 254, 50706  # TIFF 6.0, EXIF 2.32, DNG 1.4


@dataclass(frozen=True)
class Header:
    """format: one of FORMATS. data: the file as its decoder should get it, without the metadata that could harm it.
    size: width and height where they are known before the decoder opens the file. exif, icc: as far as they were taken
    out of the file here; the decoder knows them where they are empty."""

    format: str
    data: bytes
    size: tuple[int, int] | None = None
    exif: bytes = b""
    icc: bytes = b""


def read_header(data: bytes) -> Header:
    """Recognises the format by content alone. ImageError for an empty, unknown, cut or hostile file."""
    if not data:
        raise ImageError("the file is empty")
    name = _format_of(data)
    if name is None:
        start = data[:8].hex(" ")
        raise ImageError(f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file: it starts with {start}")
    try:
        if name == "JPEG":
            return _jpeg(data)
        if name == "PNG":
            return _png(data)
        if name == "GIF":
            return _gif(data)
        if name == "WebP":
            return Header(name, data, webp_size(data)[:2])
        if name == "AVIF":
            # an AVIF lies as its own boxes say, so EXIF is of no use, and Pillow would read all of its tags
            return Header(name, re.sub(rb"(infe(?:\x02.{7}|\x03.{9}))Exif", rb"\1skip", data, flags=re.DOTALL))
        if name == "TIFF":
            return _tiff(data)
        return Header(name, data)
    except (IndexError, OverflowError, struct.error):
        raise ImageError(f"{name}: the file ends inside its header") from None


def orientation(exif: bytes) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none or it cannot be read. exif: from its TIFF header on, or with
    "Exif" and two zeros before it."""
    try:
        for tag, kind, count, value in _directory(exif.removeprefix(b"Exif\0\0")):
            if tag == _ORIENTATION and kind in (3, 4) and count == 1:
                return value if 1 <= value <= 8 else 1
    except (IndexError, OverflowError, struct.error):
        pass  # metadata that is cut says nothing about the pixels
    return 1


def webp_size(data: bytes) -> tuple[int, int, bool]:
    """Width, height and whether there is alpha, from the first chunk of a WebP file. ImageError for another chunk,
    struct.error where it is cut."""
    kind = data[12:16]
    if kind == b"VP8X":
        flags, width, high_width, height, high_height = struct.unpack_from("<B3xHBHB", data, 20)
        return (width | high_width << 16) + 1, (height | high_height << 16) + 1, bool(flags & 0x10)
    if kind == b"VP8 ":
        start, width, height = struct.unpack_from("<3sHH", data, 23)
        if start != b"\x9d\x01\x2a":
            raise ImageError("WebP: no key frame where the photo should be")
        return width & 0x3FFF, height & 0x3FFF, False
    if kind == b"VP8L":
        mark, bits = struct.unpack_from("<BI", data, 20)
        if mark != 0x2F:
            raise ImageError("WebP: no lossless photo where one should be")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    raise ImageError(f"WebP: unknown first chunk {kind!r}")


def _format_of(data: bytes) -> str | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data[4:8] == b"ftyp":
        size = min(int.from_bytes(data[:4], "big"), 1024)
        brands = {data[8:12]} | {data[i : i + 4] for i in range(16, size - 3, 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & _HEIF_BRANDS:
            return "HEIF"
    return None


def _jpeg(data: bytes) -> Header:
    """Keeps the tables, the frame and the scans, and of the application segments only those that tell the colours."""
    kept = [data[:2]]
    exif, profile = b"", {}
    parts = 0
    pos = 2
    while True:
        pos = data.find(b"\xff", pos)  # like every decoder, over whatever lies between two segments
        if pos < 0 or pos + 1 >= len(data):
            raise ImageError("JPEG: the file ends before the picture starts")
        marker = data[pos + 1]
        if marker == 0xFF:  # a fill byte
            pos += 1
        elif marker == 0xDA:  # start of scan: from here on entropy-coded data
            break
        elif marker in (0, 1, 0xC8) or 0xD0 <= marker <= 0xD9 or 0xF0 <= marker <= 0xFD:  # no length follows
            pos += 2
        else:
            end = pos + 2 + max(2, struct.unpack_from(">H", data, pos + 2)[0])
            body = data[pos + 4 : end]
            if marker == 0xE1 and body.startswith(b"Exif\0\0"):
                exif = exif or body
            elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
                profile[body[12]], parts = body[14:], body[13]
            elif (marker == 0xE0 and len(body) >= 14) or (marker == 0xEE and len(body) >= 12):
                kept.append(data[pos:end])  # JFIF and Adobe tell YCbCr from RGB and CMYK
            elif not 0xE0 <= marker <= 0xEF and marker != 0xFE:
                kept.append(data[pos:end])
            pos = end
    _count_scans(data, pos)
    whole = len(profile) == parts and set(profile) == set(range(1, parts + 1))
    icc = b"".join(profile[i] for i in sorted(profile)) if whole else b""
    return Header("JPEG", b"".join([*kept, data[pos:]]), None, exif, icc)


def _count_scans(data: bytes, pos: int) -> None:
    """ImageError for too many from the first one's marker, at pos, to the photo's end; phones put films behind that."""
    scans = 0
    while scans <= _MAX_SCANS:
        scans += data[pos + 1] == 0xDA
        found = _MARKER.search(data, pos + 2 + int(struct.unpack_from(">H", data, pos + 2)[0]))
        if found is None or found[0] == b"\xff\xd9":
            return
        pos = found.start()
    raise ImageError(f"JPEG: more than {_MAX_SCANS} scans")


def _png(data: bytes) -> Header:
    """Keeps the picture that every viewer shows: no text, no animation."""
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    if kind != b"IHDR" or length != 13:
        raise ImageError("PNG: the file does not start with its header chunk")
    kept = [data[:8]]
    exif = icc = b""
    pos = 8
    while pos + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, pos)
        end = pos + 12 + length
        if end > len(data):
            break
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT"):
            kept.append(data[pos:end])
        elif kind == b"eXIf":
            exif = data[pos + 8 : end - 4]
        elif kind == b"iCCP":
            icc = _inflated(data[pos + 8 : end - 4].partition(b"\0")[2][1:])
        pos = end
        if kind == b"IEND":
            pos = len(data)
            kept.append(data[end - 12 : end])
    kept.append(data[pos:])  # a cut chunk, for the decoder to complain of
    return Header("PNG", b"".join(kept), (width, height), exif, icc)


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MAX_PROFILE)
    except zlib.error:
        return b""


def _gif(data: bytes) -> Header:
    """Keeps the screen, its palette and the first frame with its transparency."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    pos = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    kept = [data[:pos]]
    while data[pos] == 0x21:  # an extension: its label, then blocks of up to 255 bytes, the last one empty
        start, label = pos, data[pos + 1]
        pos += 2
        while data[pos]:
            pos += 1 + data[pos]
        pos += 1
        if label == 0xF9:
            kept = [kept[0], data[start:pos]]
    if data[pos] != 0x2C:
        raise ImageError("GIF: there is no picture in the file")
    x, y, w, h = struct.unpack_from("<HHHH", data, pos + 1)
    kept.append(data[pos:])
    return Header("GIF", b"".join(kept), (max(width, x + w), max(height, y + h)))


def _tiff(data: bytes) -> Header:
    if data[8:10] == b"CR":
        raise ImageError("TIFF: this is a camera's raw file (CR2); develop it first")
    total = 0
    size = [0, 0]
    for tag, kind, count, value in _directory(data):
        total += count * _TAG_SIZES.get(kind, 0)
        if tag == _DNG_VERSION or (tag == _SUBFILE_TYPE and value & 1):
            raise ImageError("TIFF: the first page is only a thumbnail, as in a camera's raw file; develop it first")
        if tag in (256, 257) and count == 1:
            size[tag - 256] = value
    if total > len(data):  # tags that share bytes: 100,000 copies of one long value fill the memory
        raise ImageError("TIFF: the tags are larger than the file")
    return Header("TIFF", data, (size[0], size[1]), exif=data)


def _directory(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and value (or its offset) of each entry of the first directory of a TIFF or BigTIFF file.
    struct.error where it is cut."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    for i in range(entries):
        pos = start + 8 + 20 * i if big else start + 2 + 12 * i
        tag, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, pos)
        # a short value lies at the start of its field
        width = "H" if kind == 3 and count == 1 else "Q" if big else "I"
        yield tag, kind, count, struct.unpack_from(order + width, data, pos + (12 if big else 8))[0]
