"""The faces of one photo as a few bytes: what mien adds to an image file. models/FORMAT.md specifies every byte.

What faces have in common is written once, in tables; then each face takes about 16 bytes beside its payload. A score is
stored in steps of 1/255, a transform in pack_transform's steps, a box in steps of 1/64 of the face's square where there
is a transform and of 1/4 pixel where there is none. Packing what was unpacked gives the same bytes again.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from mien.models.errors import ContainerError
from mien.models.faces import pack_transform, square, unpack_transform

VERSION = 1
COMPACT = 0x80  # a bit of the version byte: texts may be known ones, and faces may be counted without being listed

# What chunks of the compact form say by number; only ever added to at the end, so that every later version reads it.
KNOWN_TEXTS = (
    "",
    "0.1.0",
    "compress:a2a4324fad0e",
    "otherwise",
    "preserve",
    "keep",
    "realistic",
    "deidentify",
    "fill",
    "pixelate",
    "blur",
    "layers1-bd44",
)

_ALIGNED, _NEAR = 1, 2  # bits of a face's first number: a transform follows; the box is coded relative to it
_STEPS = 16  # a pixel: the grid of transforms, on which boxes near them lie too
_FREE_STEPS = 4  # a pixel: the grid of other boxes
_MAX_SIDE = 1 << 24  # pixels; what any number of a box may reach


@dataclass(frozen=True)
class StoredFace:
    """One face as it lies beside the background.

    box: x, y, width, height in pixels of the upright photo. transform: 6 floats as in mien.models.faces.alignment,
    empty where the face could not be aligned. action: what was done. rule: the policy's rule that said so. model: the
    id of the codec model, payload: the coded face; both empty for an action that codes nothing. score: 0 to 1.
    """

    box: tuple[float, float, float, float]
    transform: tuple[float, ...]
    action: str
    rule: str
    model: str
    payload: bytes
    score: float


@dataclass(frozen=True)
class StoredPhoto:
    """All that mien stores of a photo beside its background. width, height: of the photo, in pixels. policy: the name
    or hash of the policy that was used. version: of the mien that wrote it. unlisted: how many faces more there are,
    whose own pixels the background holds; the compact form alone can say so."""

    width: int
    height: int
    faces: tuple[StoredFace, ...]
    policy: str
    version: str
    unlisted: int = 0


@dataclass(frozen=True)
class Field:
    """One field of the chunk: where it lies, its name and its value for a reader's eyes."""

    offset: int
    length: int
    name: str
    value: str


def pack_photo(photo: StoredPhoto, compact: bool = False) -> bytes:
    """The chunk's bytes, in the full form or the compact one, which says KNOWN_TEXTS by their number.

    ValueError for what it cannot hold: no pixels, a score outside 0..1, a box without size, unlisted faces in the full
    form.
    """
    if photo.unlisted and not compact:
        raise ValueError("only the compact form counts faces that it does not list")
    if photo.width < 1 or photo.height < 1 or max(photo.width, photo.height) > _MAX_SIDE:
        raise ValueError(f"a photo of {photo.width} x {photo.height} pixels cannot be stored")
    kinds = list(dict.fromkeys((face.action, face.rule, face.model) for face in photo.faces))
    texts = list(dict.fromkeys([photo.policy, photo.version, *(text for kind in kinds for text in kind)]))
    body = bytearray()
    _put(body, photo.width)
    _put(body, photo.height)
    _put(body, len(texts))
    for text in texts:
        if compact and text in KNOWN_TEXTS:
            _put(body, 2 * KNOWN_TEXTS.index(text) + 1)
            continue
        encoded = text.encode()
        _put(body, 2 * len(encoded) if compact else len(encoded))
        body += encoded
    _put(body, texts.index(photo.policy))
    _put(body, texts.index(photo.version))
    _put(body, len(kinds))
    for kind in kinds:
        for text in kind:
            _put(body, texts.index(text))
    _put(body, len(photo.faces))
    numbers = {kind: number for number, kind in enumerate(kinds)}
    for face in photo.faces:
        _put_face(body, face, numbers[face.action, face.rule, face.model])
    if compact:
        _put(body, photo.unlisted)
    head = bytes([VERSION | COMPACT * compact])
    return head + zlib.crc32(body, zlib.crc32(head)).to_bytes(4, "little") + bytes(body)


def unpack_photo(chunk: bytes, fields: list[Field] | None = None) -> StoredPhoto:
    """Reads what pack_photo wrote, and adds each field to fields where that is given. ContainerError for a chunk that
    is cut, damaged or of a newer version; the memory is bounded by the chunk's length, whatever the chunk says."""
    reader = _Reader(chunk, fields)
    version = reader.byte("version")
    compact = version == VERSION | COMPACT
    if version != VERSION and not compact:
        raise ContainerError(f"mien's chunk has version {version}; this mien reads version {VERSION}: a newer one may")
    checksum = int.from_bytes(reader.take(4, "checksum", chunk[4:0:-1].hex()), "little")
    if checksum != zlib.crc32(chunk[5:], zlib.crc32(chunk[:1])):
        raise ContainerError("mien's chunk is damaged: its checksum is wrong")
    width, height = reader.number("width"), reader.number("height")
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
        raise ContainerError(f"mien's chunk is of a photo of {width} x {height} pixels")
    texts = [reader.text(f"texts[{i}]", compact) for i in range(reader.number("texts"))]
    policy, tool = (reader.entry(texts, name) for name in ("policy", "mien"))
    kinds = []
    for i in range(reader.number("kinds")):
        action, rule, model = (reader.entry(texts, f"kinds[{i}].{name}") for name in ("action", "rule", "model"))
        kinds.append((action, rule, model))
    faces = tuple([_get_face(reader, kinds, f"faces[{i}].") for i in range(reader.number("faces"))])
    unlisted = reader.number("unlisted faces") if compact else 0
    if reader.offset != len(chunk):
        raise ContainerError("mien's chunk goes on after its last face")
    return StoredPhoto(width, height, faces, policy, tool, unlisted)


def _put_face(body: bytearray, face: StoredFace, kind: int) -> None:
    if not 0 <= face.score <= 1:
        raise ValueError(f"the score {face.score} is not in 0..1")
    if (
        len(face.box) != 4
        or not all(math.isfinite(v) and abs(v) < _MAX_SIDE for v in face.box)
        or min(face.box[2:]) <= 0
    ):
        raise ValueError(f"no box: {face.box}")
    packed = pack_transform(face.transform) if face.transform else b""
    steps = _near_box(face.box, unpack_transform(packed)[0]) if packed else None
    _put(body, kind << 2 | bool(packed) * _ALIGNED | (steps is not None) * _NEAR)
    body += packed
    if steps is not None:
        body += sum((step + 32) << 6 * i for i, step in enumerate(steps)).to_bytes(3, "little")
    else:
        x, y, width, height = (round(value * _FREE_STEPS) for value in face.box)
        for value in (x, y):
            _put(body, 2 * value if value >= 0 else -2 * value - 1)
        for value in (width, height):
            _put(body, max(1, value))
    body.append(round(face.score * 255))
    _put(body, len(face.payload))
    body += face.payload


def _get_face(reader: "_Reader", kinds: Sequence[tuple[str, str, str]], name: str) -> StoredFace:
    start = reader.offset
    number = reader.number()
    if number >> 2 >= len(kinds) or number & 3 == _NEAR:
        raise ContainerError("mien's chunk names a kind of face that it does not list")
    action, rule, model = kinds[number >> 2]
    reader.note(start, name + "kind", f"{number >> 2}: {action}, rule {rule or '-'}, model {model or '-'}")

    transform: tuple[float, ...] = ()
    if number & _ALIGNED:
        start = reader.offset
        transform, reader.offset = unpack_transform(reader.data, start)
        cx, cy, side, angle = square(transform)
        reader.note(
            start,
            name + "transform",
            f"centre {cx:g}, {cy:g}, side {side:g} px, turned {math.degrees(angle):.2f} degrees",
        )

    start = reader.offset
    if number & _NEAR:
        packed = int.from_bytes(reader.take(3), "little")
        guess, unit = _guess(transform)
        x, y, width, height = ((at + unit * ((packed >> 6 * i & 63) - 32)) / _STEPS for i, at in enumerate(guess))
    else:
        left, top, across, down = (reader.number() for _ in range(4))
        x, y = (((value >> 1) ^ -(value & 1)) / _FREE_STEPS for value in (left, top))
        width, height = across / _FREE_STEPS, down / _FREE_STEPS
    if min(width, height) <= 0 or max(abs(x), abs(y), width, height) >= _MAX_SIDE:
        raise ContainerError("mien's chunk has a face whose box cannot be")
    reader.note(start, name + "box", f"{x:g}, {y:g}, {width:g} x {height:g} px")

    score = reader.byte(name + "score", scale=255)
    length = reader.number(name + "payload length")
    payload = reader.take(length, name + "payload")
    return StoredFace((x, y, width, height), transform, action, rule, model, payload, score / 255)


def _near_box(box: Sequence[float], transform: Sequence[float]) -> tuple[int, ...] | None:
    """The box in steps from the one that the transform lets expect; None where it is too far from that."""
    guess, unit = _guess(transform)
    steps = tuple(round((value * _STEPS - at) / unit) for value, at in zip(box, guess, strict=True))
    keeps_size = min(at + unit * step for step, at in zip(steps[2:], guess[2:], strict=True)) > 0
    return steps if keeps_size and all(-32 <= step <= 31 for step in steps) else None


def _guess(transform: Sequence[float]) -> tuple[tuple[int, int, int, int], int]:
    """The box of a face from its square, and the step in which a real box differs from it, in 1/16 px; all integers, so
    that every machine finds the same. Fitted to MediaPipe's full-range detector on 60 aligned faces: the boxes' middles
    lie 0.09 sides below the square's (deviation 0.015), their sides are 0.68 of its side (0.044)."""
    cx, cy, side = (round(value * _STEPS) for value in square(transform)[:3])
    size = side * 5 // 8  # between MediaPipe's boxes and other detectors' tighter ones
    return (cx - size // 2, cy + side // 11 - size // 2, size, size), max(1, side // 64)


def _put(body: bytearray, value: int) -> None:
    """LEB128: seven bits a byte, the lowest first."""
    while value >= 128:
        body.append(value & 127 | 128)
        value >>= 7
    body.append(value)


class _Reader:
    """Reads numbers and texts one after the other and never beyond the end."""

    def __init__(self, data: bytes, fields: list[Field] | None) -> None:
        self.data = data
        self.offset = 0
        self._fields = fields

    def note(self, start: int, name: str, value: object) -> None:
        if self._fields is not None and name and self.offset > start:
            self._fields.append(Field(start, self.offset - start, name, str(value)))

    def take(self, length: int, name: str = "", value: object = "") -> bytes:
        start = self.offset
        if length > len(self.data) - start:
            raise ContainerError(f"mien's chunk is cut off at byte {len(self.data)}")
        self.offset = start + length
        self.note(start, name, value)
        return self.data[start : self.offset]

    def byte(self, name: str, scale: int = 1) -> int:
        start = self.offset
        value = self.take(1)[0]
        self.note(start, name, value if scale == 1 else f"{value / scale:.3f}")
        return value

    def number(self, name: str = "") -> int:
        """At most 5 bytes, in their shortest form only."""
        start = self.offset
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                if byte == 0 and shift:
                    break
                self.note(start, name, value)
                return value
        raise ContainerError(f"mien's chunk has no number at byte {start}")

    def text(self, name: str, compact: bool) -> str:
        start = self.offset
        length = self.number()
        if compact:
            length, known = length >> 1, length & 1
            if known and length >= len(KNOWN_TEXTS):
                raise ContainerError(f"mien's chunk names known text {length}: a newer mien may read it")
            if known:
                self.note(start, name, KNOWN_TEXTS[length])
                return KNOWN_TEXTS[length]
        encoded = self.take(length)
        try:
            value = encoded.decode()
        except UnicodeDecodeError:
            raise ContainerError(f"mien's chunk has no text at byte {start}") from None
        self.note(start, name, value)
        return value

    def entry(self, table: Sequence[str], name: str) -> str:
        start = self.offset
        index = self.number()
        if index >= len(table):
            raise ContainerError(f"mien's chunk names text {index} of {len(table)}")
        self.note(start, name, table[index])
        return table[index]
