import binascii

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.models.codec.bitstream import (
    HEADER,
    PRECISION,
    SECTION,
    SPREAD,
    Tables,
    decode_section,
    describe,
    read_header,
    write_base,
    write_layer,
)
from mien.models.errors import PayloadDamagedError, PayloadError, PayloadTruncatedError, PayloadVersionError
from mien.models.training.export import table

MODEL = 0xABCD
RATIOS = (0.2, 1.0, 6.0)
CLASSES = np.array([[3] * 6 + [2] * 20 + [1] * 40 + [0] * 14, [2] * 6 + [1] * 20 + [0] * 54], np.uint8)


@pytest.fixture(scope="module")
def tables() -> Tables:
    counts = [np.array([1 << PRECISION], np.uint16), *(table(ratio, 1.5) for ratio in RATIOS)]
    return Tables(np.concatenate(counts), np.cumsum([0, *map(len, counts)]), CLASSES)


@pytest.fixture(scope="module")
def spread(tables: Tables) -> Tables:
    """The same with rows around each step, as the layers' tables have them."""
    rows = np.repeat(CLASSES, [SPREAD + 1, SPREAD + 1], 0)
    return Tables(tables.counts, tables.offsets, rows, SPREAD)


def write(symbols: np.ndarray, step: int, tables: Tables, score: int = 200) -> bytes:
    return write_base(tables.code(symbols, step), step, score, MODEL)


def read(payload: bytes, tables: Tables) -> tuple[np.ndarray, int]:
    section = read_header(payload).sections[0]
    return decode_section(section, tables), section.step


def layered(tables: Tables, spread: Tables) -> tuple[bytes, list[int]]:
    """A payload of all four layers, and where each ends."""
    payload, ends = write(draw(tables, 5), 0, tables), []
    ends.append(len(payload))
    for layer, row in ((1, 0), (2, SPREAD), (3, -SPREAD)):
        symbols = spread.clip(draw(tables, 6 + layer), row + SPREAD)
        payload = write_layer(payload, layer, spread.code(symbols, row + SPREAD), 0, row)
        ends.append(len(payload))
    return payload, ends


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
    payload = write(symbols, step, tables)
    found, found_step = read(payload, tables)
    np.testing.assert_array_equal(found, symbols)
    assert found_step == step
    assert len(payload) - HEADER.size <= tables.estimate(symbols, step) / 8 + 1.01


@pytest.mark.parametrize("value", [-999, 999])
def test_extreme_symbols_are_clipped_and_come_back(tables: Tables, value: int) -> None:
    symbols = tables.clip(np.full(CLASSES.shape[1], value, np.int32), 0)
    found, _ = read(write(symbols, 0, tables), tables)
    np.testing.assert_array_equal(found, symbols)


def test_a_payload_may_end_with_any_layer_and_nowhere_else(tables: Tables, spread: Tables) -> None:
    payload, ends = layered(tables, spread)
    whole = read_header(payload)
    assert [section.layer for section in whole.sections] == [0, 1, 2, 3]
    assert whole.total == len(payload)
    assert whole.score == 200
    for length in range(len(payload)):
        if length in ends:
            header = read_header(payload[:length])
            assert header.sections == whole.sections[: ends.index(length) + 1]
        else:
            with pytest.raises(PayloadTruncatedError):
                read_header(payload[:length])


def test_symbols_of_layers_come_back(tables: Tables, spread: Tables) -> None:
    payload, _ = layered(tables, spread)
    for section, row in zip(read_header(payload).sections[1:], (0, SPREAD, -SPREAD), strict=True):
        assert section.row == row
        wanted = spread.clip(draw(tables, 6 + section.layer), row + SPREAD)
        np.testing.assert_array_equal(decode_section(section, spread), wanted)


def test_every_flipped_bit_is_found(tables: Tables, spread: Tables) -> None:
    payload, _ = layered(tables, spread)
    for bit in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PayloadError):
            read_header(bytes(damaged))


def test_layers_of_another_payload_are_refused(tables: Tables, spread: Tables) -> None:
    """A section's checksum covers all that comes before it."""
    payload, ends = layered(tables, spread)
    other = write(draw(tables, 50), 0, tables)
    with pytest.raises(PayloadDamagedError, match="checksum"):
        read_header(other + payload[ends[0] :])
    with pytest.raises(PayloadDamagedError, match="layer 1 behind layer 1"):
        read_header(payload[: ends[1]] + payload[ends[0] : ends[1]])


@given(st.binary(max_size=100))
@settings(max_examples=500, deadline=None)
def test_random_bytes_are_a_payload_error(data: bytes) -> None:
    with pytest.raises(PayloadError):
        read_header(data)


@given(st.integers(0, 2**32), st.binary(min_size=1, max_size=60))
@settings(max_examples=300, deadline=None)
def test_random_bytes_behind_a_payload_are_a_payload_error(tables: Tables, seed: int, data: bytes) -> None:
    with pytest.raises(PayloadError):
        read_header(write(draw(tables, seed), 0, tables) + data)


@given(st.binary(max_size=80))
@settings(max_examples=500, deadline=None)
def test_random_symbol_bytes_with_a_right_checksum_never_crash(tables: Tables, body: bytes) -> None:
    try:
        symbols = tables.decode(body, 0)
    except PayloadDamagedError:
        return
    assert (np.abs(symbols) <= tables.limits[tables.classes[0]]).all()


def test_the_best_rows_lose_nothing_and_cost_least(spread: Tables) -> None:
    wide, narrow = np.zeros(spread.symbols, np.int32), np.zeros(spread.symbols, np.int32)
    wide[:6] = spread.limits[3]
    rows, fewest = spread.best_rows(np.stack([wide, narrow]), 0)
    for symbols, row, bits in zip((wide, narrow), rows.tolist(), fewest.tolist(), strict=True):
        np.testing.assert_array_equal(spread.decode(spread.code(symbols, row), row), symbols)
        assert bits == min(
            spread.estimate(symbols, r)
            for r in range(2 * SPREAD + 1)
            if np.array_equal(spread.clip(symbols, r), symbols)
        )


def test_errors_say_which(tables: Tables) -> None:
    payload = write(draw(tables, 3, 1), 1, tables)
    with pytest.raises(PayloadTruncatedError, match="empty"):
        read_header(b"")
    for version in (1, 3):
        with pytest.raises(PayloadVersionError, match=f"version {version}, this mien reads version 2"):
            read_header(bytes([version << 5]) + payload[1:])
    with pytest.raises(PayloadTruncatedError, match="header of a layer"):
        read_header(payload + b"\x20")
    with pytest.raises(PayloadDamagedError, match="checksum"):
        read_header(payload[:-1] + bytes([payload[-1] ^ 1]))
    with pytest.raises(PayloadDamagedError, match="step 30 of 2"):
        read(forged_step(payload, 30), tables)


def forged_step(payload: bytes, step: int) -> bytes:
    """The payload with another step and a checksum that fits it."""
    head = bytes([payload[0] & 0xE0 | step]) + payload[1:5]
    return head + binascii.crc_hqx(head + payload[7:], 0xFFFF).to_bytes(2, "big") + payload[7:]


def test_too_much_for_a_section_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 255 bytes"):
        write_base(bytes(256), 0, 0, MODEL)
    with pytest.raises(ValueError, match="at most 4,095 bytes"):
        write_layer(write_base(b"", 0, 0, MODEL), 1, bytes(4096), 0, 0)


def test_describe_covers_every_byte(tables: Tables, spread: Tables) -> None:
    payload, _ = layered(tables, spread)
    pieces = describe(payload)
    assert [at for at, *_ in pieces] == list(np.cumsum([0, *(length for _, length, *_ in pieces)])[:-1])
    assert pieces[-1][0] + pieces[-1][1] == len(payload) == read_header(payload).total
    assert SECTION == 5
    assert HEADER.size == 7
