"""The chunk's bytes: what comes back, how few they are, and what damage does."""

import contextlib
import dataclasses
import math
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mien.models.errors import ContainerError
from mien.models.faces.alignment import similarity, snap_transform
from mien.models.images.chunk import (
    COMPACT,
    KNOWN_TEXTS,
    VERSION,
    Field,
    StoredFace,
    StoredPhoto,
    pack_photo,
    unpack_photo,
)


def face(seed: int, payload: bytes | None = None) -> StoredFace:
    """A face like a real one: the box where MediaPipe would find it."""
    random = np.random.default_rng(seed)
    cx, cy = float(random.uniform(100, 3900)), float(random.uniform(100, 2900))
    side = float(random.uniform(30, 900))
    size = side * float(random.normal(0.68, 0.044))
    return StoredFace(
        box=(cx - size / 2, cy + side * float(random.normal(0.09, 0.015)) - size / 2, size, size),
        transform=similarity(cx, cy, side, float(random.normal(0, 0.3))),
        action="preserve",
        rule="subjects",
        model="mien-base-1",
        payload=random.bytes(62) if payload is None else payload,
        score=float(random.uniform(0, 1)),
    )


def redacted(seed: int) -> StoredFace:
    random = np.random.default_rng(seed)
    box = tuple(float(v) for v in random.uniform(2, 900, 4))
    return StoredFace((box[0] - 50, box[1], box[2], box[3]), (), "fill", "otherwise", "", b"", 0.5)


def photo(count: int) -> StoredPhoto:
    faces = tuple(redacted(i) if i % 5 == 4 else face(i) for i in range(count))
    return StoredPhoto(4000, 3000, faces, "compress", "0.1.0")


def test_the_worked_example_of_format_md() -> None:
    """Written by version 0.1.0; every later version reads it alike."""
    chunk = bytes.fromhex(
        "0155973bcea006d8040808636f6d707265737305302e312e30087072657365727665087375626a6563747306626173652d31046669"
        "6c6c096f74686572776973650000010202030405060702039072a84dac1928fd9e4792fa0a0102030405060708090a041bc207485a9c00"
    )
    stored = unpack_photo(chunk)
    one, two = stored.faces
    assert (stored.width, stored.height, stored.policy, stored.version) == (800, 600, "compress", "0.1.0")
    assert one.transform == pytest.approx(similarity(456.5, 309.25, 202.75, -728 / 65536 * 2 * math.pi), abs=1e-9)
    assert one.box == (386.9375, 258.0625, 139.1875, 139.1875)
    assert (one.action, one.rule, one.model, one.score) == ("preserve", "subjects", "base-1", 250 / 255)
    assert one.payload == bytes(range(1, 11))
    assert two == StoredFace((-3.5, 120.25, 18.0, 22.5), (), "fill", "otherwise", "", b"", 156 / 255)
    assert pack_photo(stored) == chunk


@pytest.mark.parametrize("count", [0, 1, 60, 3000])
def test_what_was_snapped_comes_back_exactly(count: int) -> None:
    chunk = pack_photo(photo(count))
    snapped = unpack_photo(chunk)
    assert len(snapped.faces) == count
    assert pack_photo(snapped) == chunk
    assert unpack_photo(pack_photo(snapped)) == snapped


def test_one_snap_moves_little() -> None:
    given_photo = photo(300)
    stored_photo = unpack_photo(pack_photo(given_photo))
    assert (stored_photo.width, stored_photo.height) == (4000, 3000)
    assert (stored_photo.policy, stored_photo.version) == ("compress", "0.1.0")
    for given_face, stored in zip(given_photo.faces, stored_photo.faces, strict=True):
        assert (stored.action, stored.rule, stored.model) == (given_face.action, given_face.rule, given_face.model)
        assert stored.payload == given_face.payload
        assert stored.score == pytest.approx(given_face.score, abs=0.5 / 255)
        if given_face.transform:
            assert stored.transform == snap_transform(given_face.transform)
            side = 512 * math.hypot(given_face.transform[0], given_face.transform[1])
            assert stored.box == pytest.approx(given_face.box, abs=side / 128 + 0.2)
        else:
            assert stored.transform == ()
            assert stored.box == pytest.approx(given_face.box, abs=0.125)


def test_a_face_takes_few_bytes_beside_its_payload() -> None:
    empty = len(pack_photo(photo(0)))
    one = len(pack_photo(StoredPhoto(4000, 3000, (face(1),), "compress", "0.1.0"))) - 62
    many = pack_photo(StoredPhoto(4000, 3000, tuple(face(i) for i in range(500)), "compress", "0.1.0"))
    assert empty <= 30
    assert one - empty <= 50  # with the names of its action, rule and model
    assert (len(many) - one) / 499 - 62 <= 16


def test_boxes_far_from_their_squares_and_tiny_ones() -> None:
    square = similarity(1000, 800, 200, 0.4)
    boxes = [(0.0, 0.0, 5.0, 3000.0), (-900.0, 5000.0, 0.01, 0.01), (948.0, 766.0, 136.0, 136.0)]
    tiny = StoredFace((10.0, 10.0, 0.02, 0.02), similarity(10, 10, 1, 3), "keep", "", "", b"", 1.0)
    faces = (*(StoredFace(box, square, "keep", "", "", b"", 0.0) for box in boxes), tiny)
    snapped = unpack_photo(pack_photo(StoredPhoto(50, 50, faces, "", "")))
    for given_face, stored in zip(faces[:3], snapped.faces, strict=False):
        assert stored.box == pytest.approx(given_face.box, abs=2)
        assert min(stored.box[2:]) > 0
    assert unpack_photo(pack_photo(snapped)) == snapped


coordinate = st.floats(-5000, 50000)
length = st.floats(0.01, 20000)
name = st.text(max_size=20)
faces = st.builds(
    StoredFace,
    st.tuples(coordinate, coordinate, length, length),
    st.just(()) | st.builds(similarity, coordinate, coordinate, st.floats(1.1, 20000), st.floats(-4, 4)),
    name,
    name,
    name,
    st.binary(max_size=400),
    st.floats(0, 1),
)
photos = st.builds(
    StoredPhoto,
    st.integers(1, 100000),
    st.integers(1, 100000),
    st.lists(faces, max_size=6).map(tuple),
    name,
    name,
)


@settings(max_examples=200, deadline=None)
@given(photos)
def test_any_photo_round_trips(any_photo: StoredPhoto) -> None:
    snapped = unpack_photo(pack_photo(any_photo))
    assert unpack_photo(pack_photo(snapped)) == snapped
    assert [f.payload for f in snapped.faces] == [f.payload for f in any_photo.faces]
    assert [(f.action, f.rule, f.model) for f in snapped.faces] == [
        (f.action, f.rule, f.model) for f in any_photo.faces
    ]


@settings(max_examples=400, deadline=None)
@example(b"")
@example(b"\xff\xff\xff\xff\x0f" * 8)
@given(st.binary(max_size=200))
def test_any_bytes_with_a_right_checksum_are_a_photo_or_an_error(body: bytes) -> None:
    with contextlib.suppress(ContainerError):
        result = unpack_photo(signed(body))
        assert len(unpack_photo(pack_photo(result)).faces) == len(result.faces)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255), st.integers(0, 10_000))
def test_a_damaged_body_with_a_right_checksum_never_crashes(at: int, flip: int, cut: int) -> None:
    body = bytearray(pack_photo(photo(6))[5:])
    body[at % len(body)] ^= flip
    for damaged in (bytes(body), bytes(body[: cut % len(body)])):
        with contextlib.suppress(ContainerError):
            unpack_photo(signed(damaged))


def test_numbers_of_things_that_are_not_there_take_no_memory() -> None:
    huge = b"\xff\xff\xff\xff\x0f"
    for body in (
        b"\x08\x08" + huge,
        b"\x08\x08\x01" + huge + b"abc",
        b"\x08\x08\x01\0\0\0" + huge,
        b"\x08\x08\x01\0\0\0\x01\0\0\0" + huge,
        b"\x08\x08\x01\0\0\0\x01\0\0\0\x01\0\x08\x08\x08\x08\x00" + huge,
    ):
        tracemalloc.start()
        with pytest.raises(ContainerError, match="cut off"):
            unpack_photo(signed(body))
        assert tracemalloc.get_traced_memory()[1] < 100_000
        tracemalloc.stop()


def test_messages_tell_the_cause() -> None:
    chunk = pack_photo(photo(2))
    with pytest.raises(ContainerError, match="checksum"):
        unpack_photo(chunk[:-1] + bytes([chunk[-1] ^ 1]))
    with pytest.raises(ContainerError, match="checksum"):
        unpack_photo(chunk[:-1])
    with pytest.raises(ContainerError, match="cut off"):
        unpack_photo(chunk[:3])
    with pytest.raises(ContainerError, match="version 2; this mien reads version 1"):
        unpack_photo(bytes([VERSION + 1]) + chunk[1:])
    with pytest.raises(ContainerError, match="after its last face"):
        unpack_photo(signed(chunk[5:] + b"\0"))


@pytest.mark.parametrize(
    "change",
    [
        {"score": 1.5},
        {"score": math.nan},
        {"box": (0.0, 0.0, 0.0, 5.0)},
        {"box": (0.0, math.inf, 5.0, 5.0)},
        {"box": (0.0, 0.0, 5.0)},
        {"transform": (1.0, 0.0, 0.0)},
        {"transform": (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)},
    ],
)
def test_what_cannot_be_stored_is_refused(change: dict[str, object]) -> None:
    bad = StoredFace(**{**vars(face(1)), **change})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"score|box|transform"):
        pack_photo(StoredPhoto(10, 10, (bad,), "", ""))


def test_a_photo_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="0 x 5"):
        pack_photo(StoredPhoto(0, 5, (), "", ""))


def test_fields_cover_every_byte_once() -> None:
    chunk = pack_photo(photo(5))
    fields: list[Field] = []
    unpack_photo(chunk, fields)
    end = 0
    for field in fields:
        assert field.offset == end
        end += field.length
    assert end == len(chunk)
    values = {field.name: field.value for field in fields}
    assert values["policy"] == "compress"
    assert values["faces[0].kind"] == "0: preserve, rule subjects, model mien-base-1"
    assert values["faces[4].kind"] == "1: fill, rule otherwise, model -"
    assert "faces[4].transform" not in values


def signed(body: bytes) -> bytes:
    head = bytes([VERSION])
    return head + zlib.crc32(body, zlib.crc32(head)).to_bytes(4, "little") + body


@pytest.mark.parametrize("count", [0, 1, 60])
def test_the_compact_form_says_the_same_in_fewer_bytes(count: int) -> None:
    faces = tuple(dataclasses.replace(each, rule="otherwise", model="layers1-bd44") for each in photo(count).faces)
    given = unpack_photo(pack_photo(dataclasses.replace(photo(count), faces=faces, policy="compress:a2a4324fad0e")))
    fields: list[Field] = []
    compact = pack_photo(given, compact=True)
    assert unpack_photo(compact, fields) == given
    assert sum(each.length for each in fields) == len(compact)
    assert len(pack_photo(given)) - len(compact) >= (50 if count else 20)
    assert len(pack_photo(dataclasses.replace(given, faces=()), compact=True)) == 17


def test_faces_that_are_only_counted() -> None:
    given = dataclasses.replace(unpack_photo(pack_photo(photo(2))), unlisted=300)
    assert unpack_photo(pack_photo(given, compact=True)).unlisted == 300
    with pytest.raises(ValueError, match="compact"):
        pack_photo(given)


def test_texts_that_a_newer_version_knows_are_refused() -> None:
    body = bytes([10, 10, 1, 2 * len(KNOWN_TEXTS) + 1, 0, 0, 0, 0, 0])
    head = bytes([VERSION | COMPACT])
    with pytest.raises(ContainerError, match="a newer mien may read it"):
        unpack_photo(head + zlib.crc32(body, zlib.crc32(head)).to_bytes(4, "little") + body)


def test_known_texts_keep_their_numbers() -> None:
    """Files name them by place."""
    assert KNOWN_TEXTS[:6] == ("", "0.1.0", "compress:a2a4324fad0e", "otherwise", "preserve", "keep")
