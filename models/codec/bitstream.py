"""The bytes of one coded face: sections, integer tables, entropy coder. models/FORMAT.md gives it byte by byte.

A payload is a base section and up to three enhancement sections; every prefix that ends with a section is a payload.

No float decides a symbol's probability: the tables are counts that add up to 2**14, so every probability is a dyadic
rational that a float64 holds exactly, and constriction's range coder turns it into the same 24-bit integers on every
machine.
"""

import binascii
import contextlib
import struct
from dataclasses import dataclass
from functools import cached_property

import constriction
import numpy as np
from numpy.typing import NDArray

from mien.models.errors import PayloadDamagedError, PayloadTruncatedError, PayloadVersionError

VERSION = 2
HEADER = struct.Struct(">BHBBH")  # version and step, model, score, bytes of symbols, CRC-16 of all but itself
LAYERS = ("base", "style", "grid 16", "grid 32")  # in the order of their sections
SECTION = 5  # bytes of an enhancement section's header: layer and step, row and bytes of symbols (2), CRC-16
SPREAD = 7  # rows of tables beyond the step's own, to either side, that a section may choose
PRECISION = 14  # bits; a table's counts add up to 1 << PRECISION


@dataclass(frozen=True)
class Tables:
    """The static tables of one model.

    counts: (entries,) uint16, the tables of all classes one after the other, each symmetric around symbol 0.
    offsets: (classes + 1,) int64, where each class begins in counts; class 0 has the one symbol 0 and costs nothing.
    classes: (rows, symbols) uint8, the class of each symbol in each row. A row is what is expected at one quantiser
        step, finest first. spread: how many rows come before that of step 0, and after that of the last step.
    """

    counts: NDArray[np.uint16]
    offsets: NDArray[np.int64]
    classes: NDArray[np.uint8]
    spread: int = 0

    @property
    def steps(self) -> int:
        return len(self.classes) - 2 * self.spread

    @property
    def symbols(self) -> int:
        return self.classes.shape[1]

    @cached_property
    def limits(self) -> NDArray[np.int32]:
        """(classes,) the largest symbol of each class."""
        return ((np.diff(self.offsets) - 1) // 2).astype(np.int32)

    @cached_property
    def _models(self) -> list[constriction.stream.model.Categorical | None]:
        models: list[constriction.stream.model.Categorical | None] = [None]
        for begin, end in zip(self.offsets[1:-1], self.offsets[2:], strict=True):
            probabilities = self.counts[begin:end].astype(np.float64) / (1 << PRECISION)
            models.append(constriction.stream.model.Categorical(probabilities, perfect=False))
        return models

    def _groups(self, row: int) -> list[tuple[int, NDArray[np.intp]]]:
        """(class, indices of its symbols) of a row: symbols of a class are coded in one call."""
        if row not in self._known:
            classes = self.classes[row]
            self._known[row] = [(int(c), np.flatnonzero(classes == c)) for c in np.unique(classes) if c]
        return self._known[row]

    @cached_property
    def _known(self) -> dict[int, list[tuple[int, NDArray[np.intp]]]]:
        return {}

    @cached_property
    def bits(self) -> NDArray[np.float64]:
        """(entries,) what a symbol costs, beside its count."""
        return PRECISION - np.log2(self.counts.astype(np.float64))

    def places(self, row: int) -> NDArray[np.int64]:
        """(symbols,) where in counts, and so in bits, each symbol's 0 stands."""
        if row not in self._known_places:
            self._known_places[row] = self.offsets[self.classes[row]] + self.limits[self.classes[row]]
        return self._known_places[row]

    @cached_property
    def _known_places(self) -> dict[int, NDArray[np.int64]]:
        return {}

    def clip(self, symbols: NDArray[np.int32], row: int) -> NDArray[np.int32]:
        """Symbols that the tables of this row can code, the nearest ones."""
        limits = self.limits[self.classes[row]]
        return np.clip(symbols, -limits, limits)

    def estimate(self, symbols: NDArray[np.int32], row: int) -> float:
        """Bits of the symbols (int32, within the limits) with this row's tables, without the coder."""
        return float(self.estimates(symbols[None], row)[0])

    def estimates(self, symbols: NDArray[np.int32], row: int) -> NDArray[np.float64]:
        """estimate() of each of (N, symbols), (N,)."""
        found: NDArray[np.float64] = self.bits[self.places(row) + symbols].sum(1)
        return found

    def best_rows(self, symbols: NDArray[np.int32], step: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """For each of several codings of a layer the row that takes the fewest bits without a loss, and the bits.

        symbols: (N, symbols) int32 of this step. Rows, (N,), within `spread` of the step's own; its own, and infinity,
        where none has room for all symbols.
        """
        rows = range(step, step + 2 * self.spread + 1)
        limits = self.limits[self.classes[rows.start : rows.stop]]
        held = np.clip(symbols[:, None], -limits, limits)
        bits = self.bits[np.stack([self.places(row) for row in rows]) + held].sum(2)
        bits[(held != symbols[:, None]).any(2)] = np.inf
        best, fewest = bits.argmin(1), bits.min(1)
        return np.where(np.isinf(fewest), self.spread, best) + step, fewest

    def code(self, symbols: NDArray[np.int32], row: int) -> bytes:
        """Symbols (symbols,) int32, within the limits, to the fewest bytes that decode() turns back into them."""
        coder = constriction.stream.queue.RangeEncoder()
        for number, index in self._groups(row):
            coder.encode((symbols[index] + self.limits[number]).astype(np.int32), self._models[number])
        sealed = coder.get_compressed().astype(">u4").tobytes()
        # The coder seals with whole words; any number in its last interval will do, and absent bytes are read as zeros.
        for length in range(max(len(sealed) - 8, 0), len(sealed)):
            number = int.from_bytes(sealed[:length], "big")
            for candidate in (number, number + 1):
                if candidate >> 8 * length == 0:
                    data = candidate.to_bytes(length, "big")
                    with contextlib.suppress(PayloadDamagedError):
                        if np.array_equal(self.decode(data, row), symbols):
                            return data
        return sealed

    def decode(self, data: bytes, row: int) -> NDArray[np.int32]:
        """The inverse of code(): (symbols,) int32; PayloadDamagedError where no symbols have these bytes."""
        words = np.frombuffer(data + bytes(-len(data) % 4 + 8), ">u4").astype(np.uint32)
        coder = constriction.stream.queue.RangeDecoder(words)
        symbols = np.zeros(self.symbols, np.int32)
        try:
            for number, index in self._groups(row):
                symbols[index] = coder.decode(self._models[number], len(index)) - self.limits[number]
        except AssertionError as error:  # what constriction raises
            raise PayloadDamagedError("the coded face is damaged: its symbols are impossible") from error
        return symbols


@dataclass(frozen=True)
class Section:
    """One layer's part of a payload: bytes offset to offset + size, of which the last are its symbols.

    row: of the tables, less that of the step: how much more (above 0) or less spread the symbols are than expected.
    """

    layer: int
    step: int
    row: int
    offset: int
    size: int
    symbols: bytes


@dataclass(frozen=True)
class Header:
    """What a payload says of itself. score: 0 to 255 for 0 to 1, how well it stands for its face."""

    version: int
    model: int
    score: int
    sections: tuple[Section, ...]

    @property
    def total(self) -> int:
        """Bytes of the payload."""
        return self.sections[-1].offset + self.sections[-1].size


def write_base(symbols: bytes, step: int, score: int, model: int) -> bytes:
    """A payload of a base section alone; model: the decoder's 16-bit id; ValueError for over 255 bytes of symbols."""
    if len(symbols) > 255:
        raise ValueError(f"a base layer has at most 255 bytes of symbols, not {len(symbols)}")
    head = HEADER.pack(VERSION << 5 | step, model, score, len(symbols), 0)[:-2]
    return head + _checksum(head + symbols).to_bytes(2, "big") + symbols


def write_layer(payload: bytes, layer: int, symbols: bytes, step: int, row: int) -> bytes:
    """The payload with one more section behind its last; row: -7 to 7; ValueError for over 4,095 bytes of symbols."""
    if len(symbols) > 0xFFF:
        raise ValueError(f"a layer has at most 4,095 bytes of symbols, not {len(symbols)}")
    head = bytes([layer << 5 | step]) + (row + SPREAD << 12 | len(symbols)).to_bytes(2, "big")
    return payload + head + _checksum(payload + head + symbols).to_bytes(2, "big") + symbols


def read_header(payload: bytes) -> Header:
    """The header, with every section's length and checksum proven; a PayloadError says what is wrong."""
    if not payload:
        raise PayloadTruncatedError("the coded face is empty")
    version, step = payload[0] >> 5, payload[0] & 31
    if version != VERSION:
        raise PayloadVersionError(f"the coded face has format version {version}, this mien reads version {VERSION}")
    if len(payload) < HEADER.size:
        raise PayloadTruncatedError(f"the coded face ends in its header, after {len(payload)} bytes")
    _, model, score, length, checksum = HEADER.unpack_from(payload)
    end = HEADER.size + length
    if len(payload) < end:
        raise PayloadTruncatedError(f"the coded face has {len(payload)} of at least {end} bytes")
    sections = [Section(0, step, 0, 0, end, payload[HEADER.size : end])]
    _prove(payload[: HEADER.size - 2] + sections[0].symbols, checksum)
    while end < len(payload):
        sections.append(_read_layer(payload, end, sections[-1].layer))
        end += sections[-1].size
    return Header(version, model, score, tuple(sections))


def _read_layer(payload: bytes, offset: int, before: int) -> Section:
    if len(payload) < offset + SECTION:
        raise PayloadTruncatedError(f"the coded face ends in the header of a layer, after {len(payload)} bytes")
    layer, step = payload[offset] >> 5, payload[offset] & 31
    if not before < layer < len(LAYERS):
        raise PayloadDamagedError(f"the coded face has a layer {layer} behind layer {before}")
    begin, word = offset + SECTION, int.from_bytes(payload[offset + 1 : offset + 3], "big")
    end = begin + (word & 0xFFF)
    if len(payload) < end:
        raise PayloadTruncatedError(f"the coded face has {len(payload)} of at least {end} bytes")
    checksum = int.from_bytes(payload[offset + 3 : begin], "big")
    _prove(payload[: begin - 2] + payload[begin:end], checksum)
    row = (word >> 12) - SPREAD
    if row > SPREAD:
        raise PayloadDamagedError(f"the coded face names row {row} of its tables")
    return Section(layer, step, row, offset, end - offset, payload[begin:end])


def _checksum(data: bytes) -> int:
    return binascii.crc_hqx(data, 0xFFFF)


def _prove(data: bytes, checksum: int) -> None:
    if _checksum(data) != checksum:
        raise PayloadDamagedError("the coded face is damaged: its checksum is wrong")


def decode_section(section: Section, tables: Tables) -> NDArray[np.int32]:
    """The symbols of a section; PayloadDamagedError where its step or its bytes are not of these tables."""
    if section.step >= tables.steps:
        raise PayloadDamagedError(f"the coded face names quantiser step {section.step} of {tables.steps}")
    return tables.decode(section.symbols, section.step + section.row + tables.spread)


def describe(payload: bytes) -> list[tuple[int, int, str, str]]:
    """What is inside, as (offset, length, name, value); raises as read_header does."""
    header = read_header(payload)
    base, *layers = header.sections
    at = base.size - len(base.symbols)
    pieces = [
        (0, 1, "version, step", f"{header.version}, {base.step}"),
        (1, 2, "model", f"{header.model:04x}"),
        (3, 1, "score", f"{header.score / 255:.3f}"),
        (at - 3, 1, "base layer bytes", str(len(base.symbols))),
        (at - 2, 2, "checksum", payload[at - 2 : at].hex()),
        (at, len(base.symbols), "base layer", base.symbols.hex()),
    ]
    for section in layers:
        name, at = LAYERS[section.layer], section.offset
        pieces += [
            (at, 1, "layer, step", f"{name}, {section.step}"),
            (at + 1, 2, f"row, {name} bytes", f"{section.row:+d}, {len(section.symbols)}"),
            (at + 3, 2, "checksum", payload[at + 3 : at + 5].hex()),
            (at + SECTION, len(section.symbols), name, section.symbols.hex()),
        ]
    return pieces
