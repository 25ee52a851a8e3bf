"""The one walk over the parts of an image file: JPEG segments, PNG chunks, RIFF chunks (WebP), boxes (AVIF, HEIF).

Reading, writing mien's chunk and auditing all walk here, so that no byte is seen by one and not by another. The parts
follow each other without a gap from the file's first byte to its last, whatever the file says of itself. Nothing is
refused: what cannot be walked is one last part of kind CUT, which each caller judges by itself.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

# Kinds beside the formats' own, longer than any of those
FILL = b"fill bytes"  # 0xFF before a JPEG marker, which mean nothing
GAP = b"bytes between segments"  # of a JPEG; every decoder passes over them
SCAN = b"scan data"  # entropy-coded data of a JPEG, with its restart markers
CUT = b"cut off"  # from here on to the end of the file there is no part of the format
AFTER = b"after the end"  # whole by the format's rules; readers ignore what follows

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SOI, EOI, SOS, COMMENT = b"\xd8", b"\xd9", b"\xda", b"\xfe"

_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # no stuffed byte, no restart


@dataclass(frozen=True)
class Segment:
    """One part of a file. kind: a JPEG marker's second byte, four letters of the others, or a kind of this module.
    offset, length: in the file, in bytes. head: bytes of the part before its body, a PNG chunk's checksum and RIFF's
    padding behind it: tail."""

    kind: bytes
    offset: int
    length: int
    head: int = 0
    tail: int = 0

    @property
    def end(self) -> int:
        return self.offset + self.length

    def body(self, data: bytes) -> bytes:
        """The part of the file without the head and the tail. data: the file that was walked."""
        return data[self.offset + self.head : self.end - self.tail]


def jpeg_segments(data: bytes) -> Iterator[Segment]:
    """From SOI on, as libjpeg goes: over bytes that are no marker, and to EOI. data: starts with SOI."""
    yield Segment(SOI, 0, 2, 2)
    pos = 2
    while pos < len(data):
        found = _MARKER.search(data, pos)
        at = found.start() if found else len(data)
        if at > pos:
            gap = len(data[pos:at].rstrip(b"\xff")) if found else at - pos
            if gap:
                yield Segment(GAP, pos, gap)
            if pos + gap < at:
                yield Segment(FILL, pos + gap, at - pos - gap)
            pos = at
            continue
        marker = data[pos + 1 : pos + 2]
        if marker == b"\x01" or b"\xd0" <= marker <= b"\xd9":  # no length follows
            yield Segment(marker, pos, 2, 2)
            pos += 2
            if marker != EOI:
                continue
            if pos < len(data):
                yield Segment(AFTER, pos, len(data) - pos)
            return
        length = 2 + int.from_bytes(data[pos + 2 : pos + 4], "big")
        if length < 4 or length > len(data) - pos:
            yield Segment(CUT, pos, len(data) - pos)
            return
        yield Segment(marker, pos, length, 4)
        pos += length
        if marker == SOS:
            found = _SCAN_END.search(data, pos)
            at = found.start() if found else len(data)
            while at > pos and data[at - 1] == 0xFF and found:  # fill bytes before the marker
                at -= 1
            yield Segment(SCAN, pos, at - pos)
            pos = at


def png_chunks(data: bytes) -> Iterator[Segment]:
    """The signature, which is of kind "PNG", and the chunks to IEND. data: starts with the signature."""
    yield Segment(b"PNG", 0, len(PNG_SIGNATURE), len(PNG_SIGNATURE))
    pos = len(PNG_SIGNATURE)
    while len(data) - pos >= 12:
        length, kind = struct.unpack_from(">I4s", data, pos)
        if length > len(data) - pos - 12:
            break
        yield Segment(kind, pos, 12 + length, 8, 4)
        pos += 12 + length
        if kind == b"IEND":
            if pos < len(data):
                yield Segment(AFTER, pos, len(data) - pos)
            return
    yield Segment(CUT, pos, len(data) - pos)


def riff_chunks(data: bytes) -> Iterator[Segment]:
    """The file's head, which is of kind "RIFF", and its chunks. data: starts with a head of 12 bytes."""
    yield Segment(b"RIFF", 0, 12, 12)
    end = 8 + int.from_bytes(data[4:8], "little")
    pos = 12
    while end - pos >= 8 and len(data) - pos >= 8:
        kind, size = struct.unpack_from("<4sI", data, pos)
        length = 8 + size + size % 2
        if length > min(end, len(data)) - pos:
            break
        yield Segment(kind, pos, length, 8, size % 2)
        pos += length
    if pos != end:
        yield Segment(CUT, pos, len(data) - pos)
    elif pos < len(data):
        yield Segment(AFTER, pos, len(data) - pos)


def iso_boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Segment]:
    """The boxes of an ISO base media file, or those inside a box, from start to end; those in them are not walked."""
    pos, end = start, len(data) if end is None else end
    while pos < end:
        size, kind, head = 0, CUT, 8
        if end - pos >= 8:
            size, kind = struct.unpack_from(">I4s", data, pos)
            if size == 1 and end - pos >= 16:
                (size,), head = struct.unpack_from(">Q", data, pos + 8), 16
            elif size == 0:  # to the end
                size = end - pos
        if size < head or size > end - pos or kind == bytes(4):  # zeros are padding
            yield Segment(CUT, pos, end - pos)
            return
        yield Segment(kind, pos, size, head)
        pos += size
