"""Keyed pseudonyms: the faces of one person, across a collection, get one seed, and so become one new face.

Who is one person is decided by the recogniser's embeddings, which are regrouped as small rows; pixels are not. Without
the key a seed cannot be told from chance, and nothing that is written links two faces.
"""

import hashlib
import hmac
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import fsspec
import numpy as np
from numpy.typing import NDArray

from mien.models.errors import KeyFileError
from mien.models.faces import SAME_PERSON

MIN_KEY, MAX_KEY = 16, 4096  # bytes
MIN_ENTROPY = 50.0  # bits, by the frequencies of the key's own bytes; 16 random bytes have 60, "passwordpassword" 44


class Key:
    """A secret. What shows it anywhere (repr, format, pickle) shows its id, or fails."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @property
    def id(self) -> str:
        """8 hex digits that tell keys apart and may be recorded."""
        return self.sign(b"mien key id").hex()[:8]

    def sign(self, message: bytes) -> bytes:
        """HMAC-SHA256, 32 bytes."""
        return hmac.digest(self._secret, message, hashlib.sha256)

    def __repr__(self) -> str:
        return f"Key({self.id})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a key is never pickled: read it where it is needed")


def read_key(uri: str) -> Key:
    """The key in a file at a path or any fsspec URI: its bytes, without line ends behind them.

    Made, for example, by `openssl rand -hex 32`. KeyFileError, which never shows what is in the file, where it cannot
    be read or holds fewer than 16 bytes, over 4,096, or bytes that are easily guessed.
    """
    try:
        with fsspec.open(uri, "rb") as stream:
            secret: bytes = stream.read(MAX_KEY + 2).rstrip(b"\r\n")
    except Exception as error:  # every store has errors of its own
        known = "no such file" if isinstance(error, FileNotFoundError) else type(error).__name__
        reason = error.strerror if isinstance(error, OSError) and error.strerror else known
        raise KeyFileError(f"{uri}: the key cannot be read: {reason}") from None
    if not secret:
        raise KeyFileError(f"{uri}: the key file is empty")
    if len(secret) > MAX_KEY:
        raise KeyFileError(f"{uri}: over {MAX_KEY} bytes, no key")
    if len(secret) < MIN_KEY or _entropy(secret) < MIN_ENTROPY or _repeats(secret):
        raise KeyFileError(
            f"{uri}: the key is too weak: at least {MIN_KEY} random bytes are needed, as `openssl rand -hex 32` gives"
        )
    return Key(secret)


def _entropy(secret: bytes) -> float:
    counts = Counter(secret).values()
    return -sum(n * math.log2(n / len(secret)) for n in counts)


def _repeats(secret: bytes) -> bool:
    """Whether the key is a shorter one, under MIN_KEY bytes, again and again, or a run of neighbours (abcdef...)."""
    if any(secret[period:] == secret[:-period] for period in range(1, MIN_KEY)):
        return True
    return len({(b - a) % 256 for a, b in itertools.pairwise(secret)}) <= 2


@dataclass(frozen=True)
class FaceRow:
    """A face of the collection as far as grouping needs it.

    uri, face: the photo and the face's place in its list. age: when the file was last changed (Unix seconds, 0 where
    not known); content: the first 16 bytes of the SHA-256 of its bytes. embedding: 192 float32, little-endian; kept
    from every repr.
    """

    uri: str
    face: int
    age: float
    content: bytes
    embedding: bytes = field(repr=False)


def face_row(uri: str, face: int, age: float, data: bytes, embedding: NDArray[np.floating]) -> FaceRow:
    """The row of one face, of a photo whose file holds `data`."""
    return FaceRow(uri, face, age, hashlib.sha256(data).digest()[:16], np.asarray(embedding, "<f4").tobytes())


def group_faces(rows: Iterable[FaceRow]) -> list[tuple[FaceRow, FaceRow]]:
    """(face, leader of its group) for each face; the same for the same rows in any order.

    Leader clustering, the oldest file first: a face joins the most similar leader of at least SAME_PERSON, none twice
    within one photo, and else leads a group of its own, as every doubtful one does. A face that is added later changes
    no face before it.
    """
    ordered = sorted(rows, key=lambda row: (row.age, row.content, row.face, row.uri))
    leaders: list[FaceRow] = []
    places = np.empty((0, 192), np.float32)
    taken: dict[int, set[str]] = {}
    grouped = []
    for row in ordered:
        embedding = np.frombuffer(row.embedding, "<f4")
        if len(leaders) == len(places):
            places = np.concatenate([places, np.zeros((max(64, len(places)), 192), np.float32)])
        alike = places[: len(leaders)] @ embedding
        found = None
        for i in np.argsort(-alike, kind="stable"):
            if not alike[i] >= SAME_PERSON:
                break
            if row.uri not in taken[int(i)]:
                found = int(i)
                break
        if found is None:
            found = len(leaders)
            places[found] = embedding
            leaders.append(row)
            taken[found] = set()
        taken[found].add(row.uri)
        grouped.append((row, leaders[found]))
    return grouped


def seeds(rows: Iterable[FaceRow], key: Key) -> list[tuple[str, tuple[tuple[int, bytes], ...]]]:
    """(uri, ((face, seed), ...)) for each photo, for Deidentifier.new_face.

    A seed is HMAC-SHA256 of the key and the group's leader, 32 bytes, and the leader's embedding behind it, by which
    age and sex are judged in all photos alike. It is as secret as an embedding: for memory only.

    The leader stands for its group by the content of its photo's file and its place in it: copies and other names of
    that file, other runs and other collections give the same seed.
    """
    found: dict[str, list[tuple[int, bytes]]] = {}
    for row, leader in group_faces(rows):
        seed = key.sign(b"mien person " + leader.content + leader.face.to_bytes(4, "big"))
        found.setdefault(row.uri, []).append((row.face, seed + leader.embedding))
    return [(uri, tuple(sorted(faces))) for uri, faces in sorted(found.items())]


class _Seeds(beam.DoFn):
    """The key is read where it is used, so that no pipeline graph holds it; it must be the one the job began with."""

    def __init__(self, key_uri: str, key_id: str) -> None:
        self._key_uri, self._key_id = key_uri, key_id

    def setup(self) -> None:
        self._key = read_key(self._key_uri)
        if self._key.id != self._key_id:
            raise KeyFileError(f"{self._key_uri}: the key was changed while the job ran")

    def process(self, rows: tuple[int, Iterable[FaceRow]]) -> Iterator[tuple[str, tuple[tuple[int, bytes], ...]]]:
        yield from seeds(rows[1], self._key)


class NamePeople(beam.PTransform):
    """PCollection of FaceRow, of the whole collection -> (uri, ((face, seed), ...)), for beam.pvalue.AsDict.

    One worker sees all rows: about 1 kB a face, and time by faces times people. key_uri: see read_key, KeyFileError.
    """

    def __init__(self, key_uri: str) -> None:
        super().__init__()
        self._key_uri, self._key_id = key_uri, read_key(key_uri).id

    @property
    def key_id(self) -> str:
        """For records: tells keys apart, and nothing else of them."""
        return self._key_id

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        return (
            rows
            | "OneGroup" >> beam.Map(lambda row: (0, row))
            | beam.GroupByKey()
            | "Seeds" >> beam.ParDo(_Seeds(self._key_uri, self._key_id))
        )


def seeds_of(names: Sequence[tuple[int, bytes]] | None, face: int) -> bytes | None:
    """The seed of one face from what NamePeople gave for its photo; None where it has none."""
    return dict(names or ()).get(face)
