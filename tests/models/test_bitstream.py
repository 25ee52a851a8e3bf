import binascii

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.models.bitstream import HEADER, PRECISION, Tables, describe, read_header, read_payload, write_payload
from mien.models.errors import (
    PayloadDamagedError,
    PayloadError,
    PayloadTruncatedError,
    PayloadVersionError,
    WrongModelError,
)
from mien.models.training.export import table

MODEL = 0xABCD
RATIOS = (0.2, 1.0, 6.0)
CLASSES = np.array([[3] * 6 + [2] * 20 + [1] * 40 + [0] * 14, [2] * 6 + [1] * 20 + [0] * 54], np.uint8)


@pytest.fixture(scope="module")
def tables() -> Tables:
    counts = [np.array([1 << PRECISION], np.uint16), *(table(ratio, 1.5) for ratio in RATIOS)]
    return Tables(np.concatenate(counts), np.cumsum([0, *map(len, counts)]), CLASSES)


def draw(tables: Tables, seed: int, step: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    ratio = np.array([0.0, *RATIOS])[tables.classes[step]]
    return tables.clip(np.rint(random.normal(size=len(ratio)) * ratio).astype(np.int32), step)


def test_tables_have_no_impossible_symbol(tables: Tables) -> None:
    for begin, end in zip(tables.offsets[:-1], tables.offsets[1:], strict=True):
        counts = tables.counts[begin:end]
        assert counts.sum() == 1 << PRECISION
        assert counts.min() > 0
        np.testing.assert_array_equal(counts, counts[::-1])


@given(st.integers(0, 2**32), st.integers(0, 1))
@settings(max_examples=200, deadline=None)
def test_round_trip_near_the_entropy(tables: Tables, seed: int, step: int) -> None:
    symbols = draw(tables, seed, step)
    payload = write_payload(symbols, step, tables, MODEL)
    found, found_step = read_payload(payload, tables, MODEL)
    np.testing.assert_array_equal(found, symbols)
    assert found_step == step
    assert len(payload) - HEADER.size <= tables.estimate(symbols, step) / 8 + 1.01


@pytest.mark.parametrize("value", [-999, 999])
def test_extreme_symbols_are_clipped_and_come_back(tables: Tables, value: int) -> None:
    symbols = tables.clip(np.full(CLASSES.shape[1], value, np.int32), 0)
    found, _ = read_payload(write_payload(symbols, 0, tables, MODEL), tables, MODEL)
    np.testing.assert_array_equal(found, symbols)


def test_every_cut_is_truncated(tables: Tables) -> None:
    payload = write_payload(draw(tables, 1), 0, tables, MODEL)
    for length in range(len(payload)):
        with pytest.raises(PayloadTruncatedError):
            read_payload(payload[:length], tables, MODEL)


def test_every_flipped_bit_is_found(tables: Tables) -> None:
    payload = write_payload(draw(tables, 2), 0, tables, MODEL)
    for bit in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PayloadError):
            read_payload(bytes(damaged), tables, MODEL)


@given(st.binary(max_size=100))
@settings(max_examples=500, deadline=None)
def test_random_bytes_are_a_payload_error(tables: Tables, data: bytes) -> None:
    with pytest.raises(PayloadError):
        read_payload(data, tables, MODEL)


@given(st.binary(max_size=80))
@settings(max_examples=500, deadline=None)
def test_random_symbol_bytes_with_a_right_checksum_never_crash(tables: Tables, body: bytes) -> None:
    try:
        symbols = tables.decode(body, 0)
    except PayloadDamagedError:
        return
    assert (np.abs(symbols) <= tables.limits[tables.classes[0]]).all()


def test_errors_say_which(tables: Tables) -> None:
    payload = write_payload(draw(tables, 3, 1), 1, tables, MODEL)
    with pytest.raises(PayloadTruncatedError, match="empty"):
        read_payload(b"", tables, MODEL)
    with pytest.raises(PayloadVersionError, match="version 2"):
        read_payload(bytes([2 << 5]) + payload[1:], tables, MODEL)
    with pytest.raises(WrongModelError, match="abcd, loaded is 1234"):
        read_payload(payload, tables, 0x1234)
    with pytest.raises(PayloadDamagedError, match="1 bytes too many"):
        read_payload(payload + b"\0", tables, MODEL)
    with pytest.raises(PayloadDamagedError, match="checksum"):
        read_payload(payload[:-1] + bytes([payload[-1] ^ 1]), tables, MODEL)
    with pytest.raises(PayloadDamagedError, match="step 30 of 2"):
        read_payload(forged_step(payload, 30), tables, MODEL)


def forged_step(payload: bytes, step: int) -> bytes:
    """The payload with another step and a checksum that fits it."""
    head = bytes([payload[0] & 0xE0 | step]) + payload[1:4]
    return head + binascii.crc_hqx(payload[6:], binascii.crc_hqx(head, 0xFFFF)).to_bytes(2, "big") + payload[6:]


def test_describe_covers_every_byte(tables: Tables) -> None:
    payload = write_payload(draw(tables, 4), 0, tables, MODEL)
    pieces = describe(payload)
    assert [offset for offset, *_ in pieces] == list(np.cumsum([0, *(length for _, length, *_ in pieces)])[:-1])
    assert pieces[-1][0] + pieces[-1][1] == len(payload) == read_header(payload).total
