"""What an AVIF or HEIF file says of its first picture beside the coded data: the box properties of ISO 23008-12."""

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction

from mien.models.errors import ImageError
from mien.models.images.av1 import colours_of
from mien.models.images.segments import CUT, Segment, iso_boxes

Property = tuple[bytes, bytes]  # type and content

_FULL = 4  # bytes of version and flags before the content of a full box
# where a sequence's sample entry lies, and how many bytes are before the boxes in it (ISO 14496-12, 12.1.3)
_TO_SAMPLE_ENTRY = ((b"moov", 0), (b"trak", 0), (b"mdia", 0), (b"minf", 0), (b"stbl", 0), (b"stsd", 8), (b"av01", 78))


def properties(data: bytes) -> list[Property]:
    """Type and content of each property of the primary item, or where the file is a sequence of its first track; in
    their order. struct.error where a box is shorter than it says."""
    if data[8:12] == b"avis":
        return [(box.kind, box.body(data)) for box in _inside(data, _TO_SAMPLE_ENTRY)]
    return list(_item_properties(data))


def crop_of(found: Sequence[Property], width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the clean aperture (`clap`) in a coded picture of this size, before it is turned;
    the whole picture where there is none. ImageError for one that is not of whole pixels inside the picture."""
    apertures = [body for kind, body in found if kind == b"clap"]
    if not apertures:
        return 0, 0, width, height
    numbers = struct.unpack_from(">IIIIiIiI", apertures[0])
    if 0 in numbers[1::2] or len(apertures) > 1:
        raise ImageError("AVIF: the crop that the file asks for cannot be")
    across, down, x, y = (Fraction(numbers[i], numbers[i + 1]) for i in range(0, 8, 2))
    left, top = Fraction(width) / 2 + x - across / 2, Fraction(height) / 2 + y - down / 2
    edges = left, top, left + across, top + down
    if any(edge.denominator != 1 for edge in edges) or not (0 <= left < left + across <= width):
        raise ImageError("AVIF: the crop that the file asks for is not inside the picture")
    if not 0 <= top < top + down <= height:
        raise ImageError("AVIF: the crop that the file asks for is not inside the picture")
    return int(edges[0]), int(edges[1]), int(edges[2]), int(edges[3])


def cicp_of(found: Sequence[Property], data: bytes) -> tuple[int, int] | None:
    """Primaries and transfer function of ITU-T H.273, of a `colr` box, else of the AV1 stream; None where neither names
    them. data: the file."""
    for kind, body in found:
        if kind == b"colr" and body.startswith(b"nclx"):
            primaries, transfer = struct.unpack_from(">HH", body, 4)
            return primaries, transfer
    streams = [body[4:] for kind, body in found if kind == b"av1C"]
    try:
        return colours_of(streams[0] or item_data(data)) if streams else None
    except IndexError:  # a damaged stream is the decoder's to find
        return None


def without_exif(data: bytes) -> bytes:
    """The file up to its last whole box, its EXIF items renamed, so that no decoder reads them."""
    end = max((box.end for box in iso_boxes(data) if box.kind != CUT), default=0)
    changed = bytearray(data[:end])
    for items in _inside(data, ((b"meta", _FULL),)):
        if items.kind != b"iinf":
            continue
        start = items.offset + items.head
        for item in iso_boxes(data, start + _FULL + (4 if data[start] else 2), items.end):
            body = item.offset + item.head
            at = body + _FULL + (4 if data[body : body + 1] == b"\2" else 6)
            if item.kind == b"infe" and data[at : at + 4] == b"Exif" and at + 4 <= item.end:
                changed[at : at + 4] = b"skip"
    return bytes(changed)


def _meta(data: bytes) -> dict[bytes, bytes]:
    return {box.kind: box.body(data) for box in _inside(data, ((b"meta", _FULL),))}


def _primary(meta: dict[bytes, bytes]) -> int | None:
    pitm = meta.get(b"pitm", b"")
    return int.from_bytes(pitm[_FULL : _FULL + (4 if pitm[0] else 2)], "big") if len(pitm) >= 6 else None


def item_data(data: bytes) -> bytes:
    """The primary item's data as far as it is in one piece in the file; empty where it is elsewhere."""
    meta = _meta(data)
    iloc, primary = meta.get(b"iloc", bytes(8)), _primary(meta)
    version, sizes = iloc[0], struct.unpack_from(">H", iloc, _FULL)[0]
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    pos = _FULL + 2

    def number(size: int) -> int:
        nonlocal pos
        pos += size
        if pos > len(iloc):
            raise IndexError("the iloc box is cut")
        return int.from_bytes(iloc[pos - size : pos], "big")

    for _ in range(number(4 if version == 2 else 2)):
        item = number(4 if version == 2 else 2)
        elsewhere = number(2) & 15 if version else 0
        number(2)
        base = number(base_size)
        extents = []
        for _ in range(number(2)):
            if version:
                number(index_size)
            extents.append((base + number(offset_size), number(length_size)))
        if item == primary and extents and not elsewhere:
            start, length = extents[0]
            return data[start : start + length]
    return b""


def _item_properties(data: bytes) -> Iterator[Property]:
    primary = _primary(_meta(data))
    path = ((b"meta", _FULL), (b"iprp", 0))
    known = [(box.kind, box.body(data)) for box in _inside(data, (*path, (b"ipco", 0)))]
    for box in _inside(data, path):
        if box.kind == b"ipma":
            numbers = _associated(box.body(data), primary)
            yield from (known[number - 1] for number in numbers if 0 < number <= len(known))


def _associated(ipma: bytes, item: int | None) -> Iterator[int]:
    """The numbers, from 1 on, of an item's properties; 0 is none."""
    long_items, long_numbers = ipma[0] > 0, ipma[3] & 1
    (entries,) = struct.unpack_from(">I", ipma, _FULL)
    pos = _FULL + 4
    for _ in range(entries):
        found, count = struct.unpack_from(">IB" if long_items else ">HB", ipma, pos)
        pos += 5 if long_items else 3
        for _ in range(count):
            (number,) = struct.unpack_from(">H" if long_numbers else ">B", ipma, pos)
            pos += 2 if long_numbers else 1
            if found == item:
                yield number & (0x7FFF if long_numbers else 0x7F)  # the highest bit: whether readers must know it


def _inside(
    data: bytes, path: tuple[tuple[bytes, int], ...], start: int = 0, end: int | None = None
) -> Iterator[Segment]:
    """The boxes in the first box at the end of a path of types; each with the bytes between its head and its boxes."""
    if not path:
        yield from (box for box in iso_boxes(data, start, end) if box.kind != CUT)
        return
    (kind, skipped), *rest = path
    for box in iso_boxes(data, start, end):
        if box.kind == kind:
            yield from _inside(data, tuple(rest), box.offset + box.head + skipped, box.end)
            return
