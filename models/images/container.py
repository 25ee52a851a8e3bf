"""mien's chunk inside an ordinary AVIF, WebP or JPEG file, which every viewer still opens. Bytes: models/FORMAT.md.

AVIF: a `uuid` box after all others. WebP: a RIFF chunk `mien` after all others (a file without the extended header gets
one, because only such files may have chunks of other kinds). JPEG: APP11 segments behind APP0 and APP1, as many as the
64 KiB limit asks for. No pixel data is touched. A damaged file is a ContainerError, never a wrong photo.
"""

import contextlib
import itertools
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from mien.models.errors import ContainerError, ImageError
from mien.models.images.chunk import Field, StoredFace, StoredPhoto, pack_photo, unpack_photo
from mien.models.images.headers import webp_size
from mien.models.images.segments import (
    AFTER,
    CUT,
    FILL,
    GAP,
    SOI,
    SOS,
    Segment,
    iso_boxes,
    jpeg_segments,
    riff_chunks,
)

__all__ = ["Piece", "StoredFace", "StoredPhoto", "describe", "embed", "extract", "has_chunk", "is_own", "strip"]

AVIF_UUID = bytes.fromhex("6d69656e42568c0eace20ebc33dc586b")  # version 8 (own making), variant 1; starts with "mien"
WEBP_FOURCC = b"mien"
JPEG_NAME = b"mien\0"

_AFTER = "after the end"  # bytes behind a RIFF file's chunks or an AVIF's boxes, which readers ignore
_SEGMENT = 65533 - len(JPEG_NAME) - 4  # bytes of the chunk in a segment: after its length, the name and two counters
_JPEG_HEAD = 4 + len(JPEG_NAME) + 4  # bytes of a segment before the chunk's
_JPEG_NAMES = {0xC4: "DHT", 0xDB: "DQT", 0xDD: "DRI", 0xFE: "COM", 0xC0: "SOF0", 0xC2: "SOF2"}


@dataclass(frozen=True)
class Piece:
    """One part of a file or one field of mien's chunk. offset, length: in the file, in bytes; a field that lies across
    two JPEG segments starts at offset, and length does not count what is between. value: for a reader's eyes."""

    offset: int
    length: int
    name: str
    value: str = ""


@dataclass(frozen=True)
class _Part:
    """A part of a file; all parts together are the file. start: of what mien wrote in it, behind all headers; 0 for a
    part that is not mien's."""

    offset: int
    length: int
    name: str
    start: int = 0

    @property
    def end(self) -> int:
        return self.offset + self.length


def embed(image_file: bytes, photo: StoredPhoto, compact: bool = False) -> bytes:
    """The AVIF, WebP or JPEG file with the photo's faces in it, instead of any that it had. compact: see pack_photo.

    ContainerError for another format or a damaged file; ValueError for a photo that cannot be stored."""
    chunk = pack_photo(photo, compact)
    data = strip(image_file)
    kind, parts = _parts(data)
    if kind == "AVIF":
        if data[parts[-1].offset : parts[-1].offset + 4] == bytes(4):
            raise ContainerError("the last box of this AVIF file has no length, so nothing can follow it")
        return data + struct.pack(">I4s16s", 24 + len(chunk), b"uuid", AVIF_UUID) + chunk
    if kind == "WebP":
        own = WEBP_FOURCC + struct.pack("<I", len(chunk)) + chunk + bytes(len(chunk) % 2)
        return _riff(
            [_extended_header(data), *(data[part.offset : part.end] for part in parts[1:] if part.name != _AFTER), own]
        )
    count = -(-len(chunk) // _SEGMENT)
    segments = []
    for i in range(count):
        body = JPEG_NAME + struct.pack(">HH", i + 1, count) + chunk[i * _SEGMENT : (i + 1) * _SEGMENT]
        segments.append(b"\xff\xeb" + struct.pack(">H", len(body) + 2) + body)
    place = 1
    while parts[place].name in ("APP0", "APP1"):
        place += 1
    at = parts[place].offset
    return data[:at] + b"".join(segments) + data[at:]


def extract(image_file: bytes) -> StoredPhoto:
    """What embed wrote. ContainerError for a file without it, of another format, or whose structure, checksum or
    version is wrong; the memory it takes is bounded by the file's length."""
    kind, parts = _parts(image_file)
    mine = _own_parts(kind, parts, image_file)
    if not mine:
        raise ContainerError(f"this {kind} file has no mien chunk: it is an ordinary picture")
    return unpack_photo(b"".join(image_file[part.start : _own_end(kind, part, image_file)] for part in mine))


def has_chunk(image_file: bytes) -> bool:
    """Whether there is a part in the file that is mien's, whole or not. False for other formats."""
    try:
        kind, walked = _walk(image_file)
    except ContainerError:
        return False
    before_scan = itertools.takewhile(lambda segment: segment.kind != SOS, walked)
    return any(is_own(kind, segment, image_file) for segment in before_scan)


def is_own(kind: str, segment: Segment, data: bytes) -> bool:
    """Whether a part of a file of this kind (AVIF, WebP or JPEG) holds mien's chunk, or a piece of it. In a JPEG only
    what lies before the first scan does, which is the caller's to know."""
    if kind == "AVIF":
        return segment.kind == b"uuid" and segment.body(data).startswith(AVIF_UUID)
    if kind == "WebP":
        return segment.kind == WEBP_FOURCC
    return segment.kind == b"\xeb" and segment.length > _JPEG_HEAD and segment.body(data).startswith(JPEG_NAME)


def strip(image_file: bytes) -> bytes:
    """The file without mien's chunk; the same bytes where it has none. ContainerError for a file of another format or
    of a wrong structure; whether the chunk itself is whole does not matter."""
    kind, parts = _parts(image_file)
    if not any(part.start for part in parts):
        return image_file
    kept = [image_file[part.offset : part.end] for part in parts if not part.start and part.name != _AFTER]
    return _riff(kept[1:]) if kind == "WebP" else b"".join(kept)


def describe(image_file: bytes) -> list[Piece]:
    """The file byte by byte: its parts, and under mien's own parts the fields of the chunk, in the file's order. A file
    without a chunk has only parts. ContainerError as extract."""
    kind, parts = _parts(image_file)
    pieces = [Piece(part.offset, part.length, part.name) for part in parts]
    mine = _own_parts(kind, parts, image_file)
    if mine:
        ranges = [(part.start, _own_end(kind, part, image_file)) for part in mine]
        fields: list[Field] = []
        unpack_photo(b"".join(image_file[start:end] for start, end in ranges), fields)
        begun = 0  # bytes of the chunk before the current range
        current = 0
        for field in fields:
            while field.offset >= begun + ranges[current][1] - ranges[current][0] and current + 1 < len(ranges):
                begun += ranges[current][1] - ranges[current][0]
                current += 1
            offset = ranges[current][0] + field.offset - begun
            pieces.append(Piece(offset, field.length, "mien." + field.name, field.value))
    return sorted(pieces, key=lambda piece: piece.offset)  # stable: a part stays before its fields


def _parts(data: bytes) -> tuple[str, list[_Part]]:
    name, walked = _walk(data)
    return name, {"JPEG": _jpeg_parts, "WebP": _webp_parts, "AVIF": _avif_parts}[name](data, walked)


def _walk(data: bytes) -> tuple[str, Iterable[Segment]]:
    if data.startswith(b"\xff\xd8"):
        return "JPEG", jpeg_segments(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP", riff_chunks(data)
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF", iso_boxes(data)
    raise ContainerError("not an AVIF, WebP or JPEG file: only these carry mien's chunk")


def _own_parts(kind: str, parts: Iterable[_Part], data: bytes) -> list[_Part]:
    """The parts that make up the chunk, in order; none where there is no chunk."""
    mine = [part for part in parts if part.start]
    if kind != "JPEG":
        if len(mine) > 1:
            raise ContainerError(f"this {kind} file has {len(mine)} mien chunks: it was put together from several")
        return mine
    for i, part in enumerate(mine):
        number, count = struct.unpack_from(">HH", data, part.start - 4)
        if number != i + 1 or count != len(mine):
            raise ContainerError(f"this JPEG file has segment {number} of {count} of mien's chunk as number {i + 1}")
    return mine


def _own_end(kind: str, part: _Part, data: bytes) -> int:
    """Where the chunk's bytes in a part end: before the byte that pads a RIFF chunk."""
    if kind != "WebP":
        return part.end
    return part.start + int(struct.unpack_from("<I", data, part.offset + 4)[0])


def _avif_parts(data: bytes, boxes: Iterable[Segment]) -> list[_Part]:
    parts: list[_Part] = []
    for box in boxes:
        mine = is_own("AVIF", box, data)
        if box.kind == CUT:
            # behind mien's chunk, which is the last box, the picture is whole; what is left there is no box
            if not any(part.start for part in parts) or AVIF_UUID in data[box.offset :]:
                raise ContainerError(
                    f"this AVIF file is cut off or damaged: there is no whole box at byte {box.offset}"
                )
            name = _AFTER
        else:
            name = f"box {box.kind.decode('latin-1')}" + (" of mien" if mine else "")
        parts.append(_Part(box.offset, box.length, name, box.offset + box.head + len(AVIF_UUID) if mine else 0))
    return parts


def _webp_parts(data: bytes, chunks: Iterable[Segment]) -> list[_Part]:
    parts = []
    for chunk in chunks:
        if chunk.kind == CUT:
            raise ContainerError(
                f"this WebP file is cut off or damaged: there is no whole chunk at byte {chunk.offset}"
            )
        if chunk.kind == b"RIFF":
            name = "RIFF header"
        else:
            name = _AFTER if chunk.kind == AFTER else f"chunk {chunk.kind.decode('latin-1')}"
        start = chunk.offset + chunk.head if is_own("WebP", chunk, data) else 0
        parts.append(_Part(chunk.offset, chunk.length, name, start))
    return parts


def _extended_header(data: bytes) -> bytes:
    """A VP8X chunk for a simple WebP file, nothing for an extended one."""
    if data[12:16] == b"VP8X":
        return b""
    width, height, alpha = 0, 0, False
    with contextlib.suppress(ImageError, struct.error):
        width, height, alpha = webp_size(data)
    if not (width and height):
        raise ContainerError("this WebP file has no picture where it should start")
    flags = bytes([0x10 if alpha else 0, 0, 0, 0])
    return (
        b"VP8X" + struct.pack("<I", 10) + flags + b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    )


def _riff(chunks: Iterable[bytes]) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _jpeg_parts(data: bytes, segments: Iterable[Segment]) -> list[_Part]:
    """Up to the first scan, which is one part with all that follows."""
    parts = []
    for segment in segments:
        at, marker = segment.offset, segment.kind[0]
        if segment.kind == SOS:
            parts.append(_Part(at, len(data) - at, "scans"))
            return parts
        if segment.kind == SOI and not at:
            name = "SOI"
        elif segment.kind == FILL:
            name = "fill bytes"
        elif segment.kind in (GAP, CUT) or not segment.kind >= b"\xc0" or b"\xd0" <= segment.kind <= b"\xd9":
            raise ContainerError(f"this JPEG file is cut off or damaged: no whole segment at byte {at}")
        else:
            name = f"APP{marker - 0xE0}" if 0xE0 <= marker <= 0xEF else _JPEG_NAMES.get(marker, f"segment {marker:02X}")
        mine = is_own("JPEG", segment, data)
        parts.append(_Part(at, segment.length, name + " of mien" * mine, at + _JPEG_HEAD if mine else 0))
    raise ContainerError("this JPEG file is cut off before its picture")
