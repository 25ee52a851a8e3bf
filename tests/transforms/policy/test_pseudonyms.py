import dataclasses
import math
import pickle
import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that

from mien.models.errors import KeyFileError
from mien.models.faces.face import Face
from mien.transforms.elements import FaceSeed, Photo
from mien.transforms.policy.pseudonyms import (
    MIN_ENTROPY,
    FaceRow,
    Key,
    KeyFile,
    NamePeople,
    SealedRow,
    _entropy,
    _repeats,
    _Seeds,
    face_row,
    group_faces,
    opened_row,
    read_key,
    sealed_row,
    sealed_seeds,
    seeds,
    seeds_by_face,
)
from mien.transforms.settings import FindSettings
from mien.transforms.steps.decode import decode_photo
from mien.transforms.steps.people import FaceRows, embeddings_of

DATA = Path(__file__).parents[2] / "data"
KEY = Key(b"0123 a key for tests 4567")


def embedding(person: int, away: float = 0.0, seed: int = 0) -> np.ndarray:
    """A person's embedding, turned by so many degrees in a direction of its own."""
    vectors = np.random.default_rng([person, seed]).normal(size=192)
    base = np.random.default_rng(person).normal(size=192)
    base /= np.linalg.norm(base)
    vectors -= base * (vectors @ base)
    angle = np.deg2rad(away)
    return np.cos(angle) * base + np.sin(angle) * vectors / np.linalg.norm(vectors)


def row(name: str, face: int, age: float, person: int, away: float = 0.0, seed: int = 1) -> FaceRow:
    return face_row(name, face, place(face), age, name.encode(), embedding(person, away, seed))


def place(face: int) -> tuple[float, float, float, float]:
    return 200.0 * face, 10.0, 100.0, 120.0


ROWS = [
    row("a", 0, 10.0, 1),
    row("a", 1, 10.0, 2),
    row("b", 0, 20.0, 1, away=40.0),  # cosine 0.77
    row("b", 1, 20.0, 3),
    row("c", 0, 30.0, 2, away=50.0),  # 0.64
    row("c", 1, 30.0, 1, away=65.0),  # 0.42: doubtful
]


def test_faces_of_one_person_share_a_group_and_doubtful_ones_have_their_own() -> None:
    found = {(face.uri, face.face): (leader.uri, leader.face) for face, leader in group_faces(ROWS)}
    assert found == {
        ("a", 0): ("a", 0),
        ("a", 1): ("a", 1),
        ("b", 0): ("a", 0),
        ("b", 1): ("b", 1),
        ("c", 0): ("a", 1),
        ("c", 1): ("c", 1),
    }


def test_no_person_is_twice_in_a_photo() -> None:
    rows = [row("a", 0, 1.0, 1), row("b", 0, 2.0, 1, away=30.0), row("b", 1, 2.0, 1, away=10.0, seed=2)]
    leaders = [leader for _, leader in group_faces(rows)]
    assert leaders[1] is not leaders[2]


def test_seeds_do_not_depend_on_order_and_later_photos_change_none() -> None:
    expected = seeds(ROWS, KEY)
    assert seeds(ROWS[::-1], KEY) == expected
    later = [row(f"n{i}", 0, 40.0 + i, person, away=20.0) for i, person in enumerate((1, 2, 3, 4, 5))]
    assert dict(seeds([*later, *ROWS], KEY)).items() >= dict(expected).items()
    by_photo = dict(seeds([*later, *ROWS], KEY))
    assert by_photo["n0"][0][1] == by_photo["a"][0][1]
    assert by_photo["a"][1][0] == place(1)


def test_seeds_need_the_key_and_not_the_name() -> None:
    mine, others = dict(seeds(ROWS, KEY)), dict(seeds(ROWS, Key(secrets.token_bytes(32))))
    flat = [{seed for faces in found.values() for _, seed in faces} for found in (mine, others)]
    assert len(flat[0]) == len(flat[1]) == 4
    assert not {seed[:32] for seed in flat[0]} & {seed[:32] for seed in flat[1]}
    assert all(len(seed) == 32 + 4 * 192 for seed in flat[0])
    assert mine["a"][1][1] == mine["c"][0][1]
    moved = face_row("elsewhere/a", 0, place(0), 99.0, b"a", embedding(1))
    assert seeds([moved], KEY)[0][1][0][1] == mine["a"][0][1]


def test_an_embedding_that_is_no_number_joins_nobody() -> None:
    broken = [face_row(name, 0, place(0), 1.0, name.encode(), np.full(192, np.nan)) for name in ("x", "y")]
    found = group_faces([*ROWS, *broken])
    assert len({leader.uri for face, leader in found if face.uri in ("x", "y")}) == 2
    assert [leader.uri for face, leader in found if face.uri == "a"] == ["a", "a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"short", "too weak"),
        (bytes(32), "too weak"),
        (b"passwordpassword", "too weak"),
        (b"abcabcabcabc1" * 3, "too weak"),
        (bytes(range(64)), "too weak"),
        (secrets.token_bytes(5000), "over 4096 bytes"),
    ],
)
def test_bad_keys(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeyFileError, match=message) as error:
        read_key(str(path))
    assert str(path) in str(error.value)
    if content and len(content) > 2:
        assert content.decode("latin-1") not in str(error.value).replace(str(path), "")


def test_good_keys_are_not_refused(tmp_path: Path) -> None:
    """Of 16 random bytes less than one key in 10^6 is refused; before, one in 256 was: its last byte is its first."""
    places = np.random.default_rng(1).integers(0, 256, (100_000, 16), np.uint8)
    refused = [key for key in map(bytes, places) if _entropy(key) < MIN_ENTROPY or _repeats(key)]
    assert refused == []
    # too few bits: every way in which 16 bytes fall on values, by how often each of these comes
    rate = 0.0
    for counts in partitions(16):
        if -sum(n * math.log2(n / 16) for n in counts) < MIN_ENTROPY:
            ways = math.factorial(16) / math.prod(map(math.factorial, counts))
            same = math.prod(map(math.factorial, Counter(counts).values()))
            rate += ways * math.perm(256, len(counts)) / same / 256**16
    repeats = sum(256.0 ** -(16 - period) for period in range(1, 9))  # the same bytes again after each period
    steps = 256 * 256 * 256 * 2**15 / 256**16  # no more than two steps between neighbours
    assert 0 < rate + repeats + steps < 1e-6
    path = tmp_path / "key"
    path.write_bytes(bytes([*places[0][:15], places[0][0]]))
    read_key(str(path))


def partitions(total: int, most: int = 99) -> Iterator[tuple[int, ...]]:
    if total == 0:
        yield ()
    for n in range(min(total, most), 0, -1):
        yield from ((n, *rest) for rest in partitions(total - n, n))


def test_a_key_is_never_shown(tmp_path: Path) -> None:
    secret = secrets.token_hex(32)
    for name, text in (("key", secret), ("line", f"{secret}\n")):
        (tmp_path / name).write_text(text)
    key = read_key(f"file://{tmp_path}/key")
    assert read_key(str(tmp_path / "line")).id == key.id
    assert len(key.id) == 8
    assert secret not in repr(key) + str(key) + f"{key!r}{vars(NamePeople(KeyFile.of(str(tmp_path / 'key'))))}"
    with pytest.raises(TypeError):
        pickle.dumps(key)
    assert repr(ROWS[0]).count("embedding") == 0


def test_each_face_gets_the_seed_of_its_place() -> None:
    """As on another processor: the boxes are a little different, and in another order."""
    (_, first), *_ = seeds(ROWS[:2], KEY)
    known = dict(first)
    sealed = sealed_seeds("a", first, KEY)
    moved = [Face((x + 4, y - 3, w + 2, h - 5), 0.9) for x, y, w, h in (place(1), place(0))]
    elsewhere = Face((0.0, 300.0, 100.0, 120.0), 0.9)
    assert seeds_by_face("a", [elsewhere, *moved], sealed, KEY) == {1: known[place(1)], 2: known[place(0)]}
    assert seeds_by_face("a", moved, sealed[::-1], KEY) == {0: known[place(1)], 1: known[place(0)]}
    assert seeds_by_face("a", [elsewhere], sealed, KEY) == seeds_by_face("a", moved, (), KEY) == {}


def test_what_is_sealed_is_opened_by_the_key_for_the_same_photo_alone() -> None:
    sealed = sealed_row(ROWS[0], KEY)
    assert opened_row(sealed, KEY) == ROWS[0]
    assert sealed_row(ROWS[0], KEY).sealed != sealed.sealed
    with pytest.raises(KeyFileError, match="cannot be opened"):
        opened_row(sealed, Key(secrets.token_bytes(32)))
    with pytest.raises(KeyFileError, match="cannot be opened"):
        opened_row(dataclasses.replace(sealed, uri="b"), KEY)
    seed = sealed_seeds("a", [(place(0), b"seed")], KEY)
    with pytest.raises(KeyFileError, match="cannot be opened"):
        seeds_by_face("b", [Face(place(0), 0.9)], seed, KEY)


def holds(element: object, embedding: np.ndarray) -> bool:
    """Whether a part of the embedding, in any precision, is in the element as it travels."""
    data = pickle.dumps(element)
    return any(embedding[:8].astype(kind).tobytes() in data for kind in ("<f2", "<f4", "<f8"))


def test_no_embedding_crosses_workers(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(secrets.token_bytes(32))
    key_file = KeyFile.of(str(path))
    photo = Photo("x.jpg", (DATA / "samples/1.jpg").read_bytes())
    (stage,) = FaceRows(key_file, FindSettings())._rows.stages
    stage.setup()
    try:
        (row,) = stage.work(photo)
        work = stage._finder.find(decode_photo(photo, 10**7))
    finally:
        stage.teardown()
    (embedding,) = embeddings_of(work.pixels, work.faces)
    assert isinstance(row, SealedRow)
    opened = opened_row(row, key_file.read())
    assert opened.box == work.faces[0].box
    assert opened.embedding == embedding.astype("<f4").tobytes()
    assert holds(opened, embedding)
    assert not holds(row, embedding)

    step = _Seeds(key_file)
    step.setup()
    ((_, (named,)),) = step.process((0, [row]))
    assert not holds(named, embedding)
    (seed,) = seeds_by_face("x.jpg", work.faces, [named], key_file.read()).values()
    assert seed[32:] == opened.embedding
    assert seed[:32] not in pickle.dumps(named)


def test_in_a_pipeline(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(secrets.token_bytes(32))
    key_file = KeyFile.of(str(path))
    expected = dict(seeds(ROWS, key_file.read()))

    def opened(found: list[tuple[str, tuple[FaceSeed, ...]]]) -> None:
        told = {}
        for uri, faces in found:
            by_face = seeds_by_face(uri, [Face(one.box, 0.9) for one in faces], faces, read_key(key_file.uri))
            told[uri] = tuple((tuple(one.box), by_face[i]) for i, one in enumerate(faces))
        assert told == expected

    with TestPipeline() as pipeline:
        rows = [sealed_row(row, key_file.read()) for row in ROWS]
        named = pipeline | beam.Create(rows) | NamePeople(key_file)
        assert_that(named, opened)
        assert path.read_bytes() not in pipeline.to_runner_api().SerializeToString()


def test_the_key_must_stay_the_same(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(secrets.token_bytes(32))
    key_file = KeyFile.of(str(path))
    rows = [sealed_row(row, key_file.read()) for row in ROWS]
    path.write_bytes(secrets.token_bytes(32))
    with pytest.raises(Exception, match="the key was changed"), TestPipeline() as pipeline:
        pipeline | beam.Create(rows) | NamePeople(key_file)
