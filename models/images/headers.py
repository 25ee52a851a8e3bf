"""What a photo's first bytes say, read before any decoder runs: the format, the size, how it lies, its colour profile.

Decoders parse far more than the pixels need, and a small hostile file can make them fill the memory with tags, text or
frames. So the metadata is read here, in a few strict lines a format, and what goes to the decoder is the file without
it. Strict where the memory is at stake, lenient where only metadata is damaged: a broken EXIF block means upright.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from mien.models.errors import ImageError
from mien.models.images.colours import Colours
from mien.models.images.heif_boxes import cicp_of, properties, without_exif
from mien.models.images.segments import COMMENT, CUT, EOI, FILL, GAP, SCAN, SOS, jpeg_segments, png_chunks

FORMATS = ("JPEG", "PNG", "WebP", "AVIF", "HEIF", "TIFF", "GIF", "BMP")

_MAX_PROFILE = 1 << 24  # bytes of an inflated ICC profile; the largest in use (printers' tables) have 4 MB
_MAX_SCANS = 200  # of a progressive JPEG; encoders write about 10, and each goes over the whole photo
_MAX_SEGMENTS, _MAX_CHUNKS = 100_000, 1_000_000  # of a JPEG and a PNG; each costs some memory, however short it is
_MAX_PAGES = 10_000  # of a TIFF that are counted
_BMP_HEADS = {size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124)}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_TAG_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_HOLE = bytes(16)  # of a JPEG's scan; 40 coefficients of -1 in a row, where zeros do not end a block
_FRAMES = {bytes([marker]) for marker in range(0xC0, 0xD0)} - {b"\xc4", b"\xc8", b"\xcc"}  # JPEG's SOF0 to SOF15
_SEQUENTIAL, _PROGRESSIVE = {b"\xc0", b"\xc1", b"\xc9"}, {b"\xc2", b"\xca"}
_ORIENTATION, _SUBFILE_TYPE, _SAMPLE_FORMAT, _DNG_VERSION = 274, 254, 339, 50706  # TIFF 6.0, EXIF 2.32, DNG 1.4


@dataclass(frozen=True)
class Header:
    """format: one of FORMATS. data: the file as its decoder should get it, without the metadata that could harm it.
    size: width and height where they are known before the decoder opens the file. exif, colours: as far as they were
    taken out of the file here; the decoder knows them where they are empty. properties: of an AVIF's boxes. pages: of a
    TIFF, of which the first is read; floats: whether that holds floats. components: of a JPEG."""

    format: str
    data: bytes
    size: tuple[int, int] | None = None
    exif: bytes = b""
    colours: Colours = field(default_factory=Colours)
    properties: tuple[tuple[bytes, bytes], ...] = ()
    pages: int = 1
    floats: bool = False
    components: int = 0


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
            found = properties(data)
            return Header(name, without_exif(data), colours=Colours(cicp=cicp_of(found, data)), properties=tuple(found))
        if name == "BMP":
            return _bmp(data)
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
    if data.startswith(b"BM") and data[14:18] in _BMP_HEADS:
        return "BMP"
    if data[4:8] == b"ftyp":
        size = min(int.from_bytes(data[:4], "big"), 1024)
        brands = {data[8:12]} | {data[i : i + 4] for i in range(16, size - 3, 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & _HEIF_BRANDS:
            return "HEIF"
    return None


def _jpeg(data: bytes) -> Header:
    """Keeps the tables, the frame and the scans, and of the application segments only those that tell the colours. What
    is kept ends with EOI even where the file does not: without it every viewer shows the whole photo."""
    kept = []
    exif, profile, parts = b"", {}, 0
    frame = b""
    seen: dict[int, list[int]] = {}  # of each colour, the bits that are still missing of each coefficient; -1: all
    first_codes: dict[int, int] = {}  # of each table of AC coefficients, what its code of zeros stands for
    sequential, huffman, hollow = True, True, False
    scans, last = 0, b""
    for number, segment in enumerate(jpeg_segments(data)):
        if number == _MAX_SEGMENTS:
            raise ImageError(f"JPEG: more than {_MAX_SEGMENTS:,} segments")
        kind, body, last = segment.kind, segment.body(data), segment.kind
        if kind == CUT:
            raise ImageError(f"JPEG: the file is cut off or damaged at byte {segment.offset}")
        if kind == EOI:
            break
        if kind == b"\xe1" and body.startswith(b"Exif\0\0"):
            exif = exif or body
        elif kind == b"\xe2" and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile[body[12]], parts = body[14:], body[13]
        elif kind in _FRAMES:
            if kind not in _SEQUENTIAL and kind not in _PROGRESSIVE:
                raise ImageError("JPEG: lossless and hierarchical files are not supported")
            frame, sequential, huffman = body, kind in _SEQUENTIAL, kind in (b"\xc0", b"\xc1")
            seen = {component: [-1] * 64 for component in body[6::3]}
        elif kind == SOS:
            scans += 1
            first, end, low = (0, 63, 0) if sequential else (body[-3], min(63, body[-2]), body[-1] & 15)
            for component in body[1:-3:2]:
                seen.setdefault(component, [-1] * 64)[first : end + 1] = [low] * (end + 1 - first)
            # zeros that go on are empty blocks where they mean the end of a block; else no encoder writes them
            hollow = huffman and any(first_codes.get(tables & 15, 1) for tables in body[2:-3:2])
        elif kind == b"\xc4":
            first_codes |= _first_codes(body)
        elif kind == SCAN and hollow and _HOLE in body.rstrip(b"\0"):
            raise ImageError("JPEG: there is a hole of zeros in the picture's data")
        if kind == SOS and sequential:  # phones write other numbers at its end, of which a decoder would complain
            kept.append(data[segment.offset : segment.end - 3] + b"\0\x3f\0")
        elif kind == b"\xe0" and body.startswith(b"JFIF\0") and len(body) >= 14:
            # some writers have version 2, which means nothing and of which a decoder would complain
            kept.append(data[segment.offset : segment.offset + 9] + b"\1\1" + body[7:])
        elif _is_needed(kind, body, scans):
            kept.append(data[segment.offset : segment.end])
    if not scans:
        raise ImageError("JPEG: the file ends before the picture starts")
    if scans > _MAX_SCANS:
        raise ImageError(f"JPEG: more than {_MAX_SCANS} scans")
    if any(-1 in bits[:1] for bits in seen.values()) or (last != EOI and any(any(bits) for bits in seen.values())):
        raise ImageError("JPEG: the file ends before its last scan")
    height, width, components = struct.unpack_from(">HHB", frame, 1)
    whole = len(profile) == parts and set(profile) == set(range(1, parts + 1))
    icc = b"".join(profile[i] for i in sorted(profile)) if whole else b""
    whole_file = b"".join([*kept, b"\xff", EOI])
    return Header("JPEG", whole_file, (width, height), exif, Colours(icc), components=components)


def _first_codes(tables: bytes) -> Iterator[tuple[int, int]]:
    """Number and first symbol of each table of AC coefficients in a DHT segment."""
    pos = 0
    while pos + 17 <= len(tables):
        end = pos + 17 + sum(tables[pos + 1 : pos + 17])
        if tables[pos] >> 4 and pos + 17 < min(end, len(tables)):
            yield tables[pos] & 15, tables[pos + 17]
        pos = end


def _is_needed(kind: bytes, body: bytes, scans: int) -> bool:
    """Whether a decoder should see this segment: of the application segments Adobe's, which tells YCbCr from RGB and
    CMYK. Every decoder passes over bytes between two segments before the photo; behind its start they are a fault,
    which it is to find."""
    if b"\xe0" <= kind <= b"\xef":
        return kind == b"\xee" and len(body) >= 12
    return kind not in (FILL, COMMENT) and (kind != GAP or scans > 0)


def _png(data: bytes) -> Header:
    """Keeps the picture that every viewer shows: no text, no animation."""
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    if kind != b"IHDR" or length != 13:
        raise ImageError("PNG: the file does not start with its header chunk")
    kept = []
    exif = b""
    about: dict[bytes, bytes] = {}  # of the colours
    for number, chunk in enumerate(png_chunks(data)):
        if number == _MAX_CHUNKS:
            raise ImageError(f"PNG: more than {_MAX_CHUNKS:,} chunks")
        body = chunk.body(data)
        if chunk.kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            checksum = int.from_bytes(data[chunk.end - 4 : chunk.end], "big")
            if checksum != zlib.crc32(data[chunk.offset + 4 : chunk.end - 4]):
                raise ImageError(f"PNG: the checksum of the chunk at byte {chunk.offset} is wrong")
            kept.append(data[chunk.offset : chunk.end])
        elif chunk.kind in (b"PNG", CUT):  # of a cut chunk the decoder is to complain
            kept.append(data[chunk.offset : chunk.end])
        elif chunk.kind == b"eXIf":
            exif = body
        elif chunk.kind in (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM"):
            about.setdefault(chunk.kind, body)
    return Header("PNG", b"".join(kept), (width, height), exif, _png_colours(about))


def _png_colours(about: dict[bytes, bytes]) -> Colours:
    """Of what a PNG says of its colours what counts, by section 4.3 of its third edition: code points, else a profile,
    else that it is sRGB, else gamma and primaries."""
    if b"cICP" in about:
        primaries, transfer, matrix, full = struct.unpack_from("4B", about[b"cICP"])
        if matrix or not full:
            raise ImageError("PNG: colours of a narrow range or with a matrix are not supported")
        return Colours(cicp=(primaries, transfer))
    if b"iCCP" in about:
        return Colours(_inflated(about[b"iCCP"].partition(b"\0")[2][1:]))
    if b"sRGB" in about:
        return Colours()
    gamma = int.from_bytes(about.get(b"gAMA", b"")[:4], "big")
    primaries = about.get(b"cHRM", b"")
    if gamma and not 1_000 <= gamma <= 10_000_000:
        raise ImageError(f"PNG: a gamma of {gamma / 100_000} cannot be")
    chromaticities = None
    if len(primaries) == 32:
        values = [value / 100_000 for value in struct.unpack(">8I", primaries)]
        chromaticities = tuple(values[2:] + values[:2])  # PNG has the white first
    return Colours(gamma=100_000 / gamma if gamma else None, chromaticities=chromaticities)


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
    size, floats = [0, 0], False
    for tag, kind, count, value in _directory(data):
        total += count * _TAG_SIZES.get(kind, 0)
        if tag == _DNG_VERSION or (tag == _SUBFILE_TYPE and value & 1):
            raise ImageError("TIFF: the first page is only a thumbnail, as in a camera's raw file; develop it first")
        if tag in (256, 257) and count == 1:
            size[tag - 256] = value
        floats |= tag == _SAMPLE_FORMAT and count == 1 and value == 3
    if total > len(data):  # tags that share bytes: 100,000 copies of one long value fill the memory
        raise ImageError("TIFF: the tags are larger than the file")
    return Header("TIFF", data, (size[0], size[1]), exif=data, pages=_pages(data), floats=floats)


def _bmp(data: bytes) -> Header:
    """Windows' bitmaps with the header of OS/2, or of versions 3 to 5; colours by Microsoft's BITMAPV5HEADER."""
    (head,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if head == 12 else "<ii", data, 18)
    icc = b""
    if head >= 108:
        space = data[14 + 56 : 14 + 60][::-1]
        if head == 124 and space == b"MBED":
            offset, length = struct.unpack_from("<II", data, 14 + 112)
            icc = data[14 + offset : 14 + offset + length]
        elif space not in (b"sRGB", b"Win ") and (any(space) or any(data[14 + 60 : 14 + 108])):
            raise ImageError("BMP: colours that the file itself defines are not supported")
    return Header("BMP", data, (width, abs(height)), colours=Colours(icc))


def _layout(data: bytes) -> tuple[str, bool, int]:
    """Byte order, whether it is BigTIFF, and where the first directory starts."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    return order, big, struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]


def _pages(data: bytes) -> int:
    """The directories of a TIFF, thumbnails and masks left out, as far as they are chained."""
    order, big, start = _layout(data)
    pages = 0
    passed: set[int] = set()
    while start and start not in passed and len(passed) < _MAX_PAGES:
        passed.add(start)
        try:
            (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
            reduced = any(tag == _SUBFILE_TYPE and value & 5 for tag, _, _, value in _entries(data, order, big, start))
            end = start + (8 + 20 * entries if big else 2 + 12 * entries)
            (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, end)
        except struct.error:
            break
        pages += not reduced
    return max(1, pages)


def _directory(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and value (or its offset) of each entry of the first directory of a TIFF or BigTIFF file.
    struct.error where it is cut."""
    order, big, start = _layout(data)
    yield from _entries(data, order, big, start)


def _entries(data: bytes, order: str, big: bool, start: int) -> Iterator[tuple[int, int, int, int]]:
    (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    for i in range(entries):
        pos = start + 8 + 20 * i if big else start + 2 + 12 * i
        tag, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, pos)
        # a short value lies at the start of its field
        width = "H" if kind == 3 and count == 1 else "Q" if big else "I"
        yield tag, kind, count, struct.unpack_from(order + width, data, pos + (12 if big else 8))[0]
