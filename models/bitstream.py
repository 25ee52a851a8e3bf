"""The bytes of one coded face: header, integer tables, entropy coder. models/FORMAT.md gives it byte by byte.

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

from mien.models.errors import PayloadDamagedError, PayloadTruncatedError, PayloadVersionError, WrongModelError

VERSION = 1
HEADER = struct.Struct(
    ">BHBH"
)  # version and step, model, bytes of the base layer, CRC-16 of what is before and after it
PRECISION = 14  # bits; a table's counts add up to 1 << PRECISION


@dataclass(frozen=True)
class Tables:
    """The static tables of one model.

    counts: (entries,) uint16, the tables of all classes one after the other, each symmetric around symbol 0.
    offsets: (classes + 1,) int64, where each class begins in counts; class 0 has the one symbol 0 and costs nothing.
    classes: (steps, symbols) uint8, the class of each symbol at each quantiser step, finest step first.
    """

    counts: NDArray[np.uint16]
    offsets: NDArray[np.int64]
    classes: NDArray[np.uint8]

    @property
    def steps(self) -> int:
        return len(self.classes)

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

    @cached_property
    def _groups(self) -> list[list[tuple[int, NDArray[np.intp]]]]:
        """For each step, (class, indices of its symbols): symbols of a class are coded in one call."""
        return [[(int(c), np.flatnonzero(row == c)) for c in np.unique(row) if c] for row in self.classes]

    @cached_property
    def _bits(self) -> NDArray[np.float64]:
        return PRECISION - np.log2(self.counts.astype(np.float64))

    def clip(self, symbols: NDArray[np.int32], step: int) -> NDArray[np.int32]:
        """Symbols that the tables of this step can code, the nearest ones."""
        limits = self.limits[self.classes[step]]
        return np.clip(symbols, -limits, limits)

    def estimate(self, symbols: NDArray[np.int32], step: int) -> float:
        """Bits of the symbols (int32, within the limits) at this step, without the coder."""
        classes = self.classes[step]
        return float(self._bits[self.offsets[classes] + self.limits[classes] + symbols].sum())

    def code(self, symbols: NDArray[np.int32], step: int) -> bytes:
        """Symbols (symbols,) int32, within the limits, to the fewest bytes that decode() turns back into them."""
        coder = constriction.stream.queue.RangeEncoder()
        for number, index in self._groups[step]:
            coder.encode((symbols[index] + self.limits[number]).astype(np.int32), self._models[number])
        sealed = coder.get_compressed().astype(">u4").tobytes()
        # The coder seals with whole words; any number in its last interval will do, and absent bytes are read as zeros.
        for length in range(max(len(sealed) - 8, 0), len(sealed)):
            number = int.from_bytes(sealed[:length], "big")
            for candidate in (number, number + 1):
                if candidate >> 8 * length == 0:
                    data = candidate.to_bytes(length, "big")
                    with contextlib.suppress(PayloadDamagedError):
                        if np.array_equal(self.decode(data, step), symbols):
                            return data
        return sealed

    def decode(self, data: bytes, step: int) -> NDArray[np.int32]:
        """The inverse of code(): (symbols,) int32; PayloadDamagedError where no symbols have these bytes."""
        words = np.frombuffer(data + bytes(-len(data) % 4 + 8), ">u4").astype(np.uint32)
        coder = constriction.stream.queue.RangeDecoder(words)
        symbols = np.zeros(self.classes.shape[1], np.int32)
        try:
            for number, index in self._groups[step]:
                symbols[index] = coder.decode(self._models[number], len(index)) - self.limits[number]
        except AssertionError as error:  # what constriction raises
            raise PayloadDamagedError("the coded face is damaged: its symbols are impossible") from error
        return symbols


@dataclass(frozen=True)
class Header:
    """The first bytes of a payload."""

    step: int
    model: int
    base_bytes: int
    checksum: int

    @property
    def total(self) -> int:
        return HEADER.size + self.base_bytes


def _checksum(head: bytes, body: bytes) -> int:
    return binascii.crc_hqx(body, binascii.crc_hqx(head, 0xFFFF))


def write_payload(symbols: NDArray[np.int32], step: int, tables: Tables, model: int) -> bytes:
    """A complete payload of a base layer; model is the decoder's 16-bit id.

    ValueError where it has over 255 bytes of symbols.
    """
    body = tables.code(symbols, step)
    if len(body) > 255:
        raise ValueError(f"a base layer has at most 255 bytes, not {len(body)}")
    head = HEADER.pack(VERSION << 5 | step, model, len(body), 0)[:4]
    return head + _checksum(head, body).to_bytes(2, "big") + body


def read_header(payload: bytes) -> Header:
    """The header, with length and checksum proven; a PayloadError says what is wrong."""
    if not payload:
        raise PayloadTruncatedError("the coded face is empty")
    version, step = payload[0] >> 5, payload[0] & 31
    if version != VERSION:
        raise PayloadVersionError(f"the coded face has format version {version}, this mien reads {VERSION}")
    if len(payload) < HEADER.size:
        raise PayloadTruncatedError(f"the coded face ends in its header, after {len(payload)} bytes")
    _, model, length, checksum = HEADER.unpack_from(payload)
    header = Header(step, model, length, checksum)
    if len(payload) < header.total:
        raise PayloadTruncatedError(f"the coded face has {len(payload)} of {header.total} bytes")
    if len(payload) > header.total:
        raise PayloadDamagedError(f"the coded face has {len(payload) - header.total} bytes too many")
    if _checksum(payload[:4], payload[HEADER.size :]) != checksum:
        raise PayloadDamagedError("the coded face is damaged: its checksum is wrong")
    return header


def read_payload(payload: bytes, tables: Tables, model: int) -> tuple[NDArray[np.int32], int]:
    """(symbols, step) of a payload coded with this model; a PayloadError says what is wrong with any other bytes."""
    header = read_header(payload)
    if header.model != model:
        raise WrongModelError(f"the coded face needs model {header.model:04x}, loaded is {model:04x}")
    if header.step >= tables.steps:
        raise PayloadDamagedError(f"the coded face names quantiser step {header.step} of {tables.steps}")
    return tables.decode(payload[HEADER.size :], header.step), header.step


def describe(payload: bytes) -> list[tuple[int, int, str, str]]:
    """What is inside, as (offset, length, name, value); raises as read_header does."""
    header = read_header(payload)
    return [
        (0, 1, "version, step", f"{VERSION}, {header.step}"),
        (1, 2, "model", f"{header.model:04x}"),
        (3, 1, "base layer bytes", str(header.base_bytes)),
        (4, 2, "checksum", f"{header.checksum:04x}"),
        (HEADER.size, header.base_bytes, "base layer", payload[HEADER.size :].hex()),
    ]
