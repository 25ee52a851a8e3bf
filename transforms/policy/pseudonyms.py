"""Keyed pseudonyms: the faces of one person, across a collection, get one seed, and so become one new face.

Who is one person is decided by the recogniser's embeddings, which are regrouped as small rows; pixels are not. Without
the key a seed cannot be told from chance, and nothing that is written links two faces.

A runner may keep what is regrouped in a storage of its own, until the job ends or longer. Embeddings and seeds go there
sealed: encrypted with AES-256-GCM under a key that follows from the job's key, which every worker reads for itself. All
that can be read there of a face is its photo's URI, its box and number, and the time and a hash of the photo's file.
"""

import hashlib
import hmac
import itertools
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from mien.models.errors import KeyFileError
from mien.models.faces import SAME_PERSON, Face, same_places
from mien.transforms.elements import FaceSeed
from mien.transforms.stores import read_start

MIN_KEY, MAX_KEY = 16, 4096  # bytes
_NONCE = 12  # bytes, as AES-GCM wants it
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

    def seal(self, data: bytes, about: bytes) -> bytes:
        """The data encrypted, 28 bytes longer and never the same twice; about: what open() must be told again."""
        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(self.sign(b"mien seal")).encrypt(nonce, data, about)

    def open(self, sealed: bytes, about: bytes) -> bytes:
        """What was sealed. KeyFileError where it was sealed with another key or about something else."""
        try:
            return AESGCM(self.sign(b"mien seal")).decrypt(sealed[:_NONCE], sealed[_NONCE:], about)
        except (InvalidTag, ValueError):
            raise KeyFileError("a sealed row cannot be opened: the key was changed while the job ran") from None

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
        secret = read_start(uri, MAX_KEY + 2).rstrip(b"\r\n")
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
    """Whether the key is a shorter one, under MIN_KEY bytes, at least twice, or a run of neighbours (abcdef...)."""
    # a longer period than half of the key is chance: the last of 16 random bytes is the first in one key of 256
    if any(secret[period:] == secret[:-period] for period in range(1, min(MIN_KEY, len(secret) // 2 + 1))):
        return True
    return len({(b - a) % 256 for a, b in itertools.pairwise(secret)}) <= 2


@dataclass(frozen=True)
class KeyFile:
    """What travels in a key's place: where it lies, and the id that it must have."""

    uri: str
    id: str

    @classmethod
    def of(cls, uri: str) -> "KeyFile":
        """The key file as it is now. KeyFileError, see read_key."""
        return cls(uri, read_key(uri).id)

    def read(self) -> Key:
        """The key. KeyFileError, also for another one than the job began with."""
        key = read_key(self.uri)
        if key.id != self.id:
            raise KeyFileError(f"{self.uri}: the key was changed while the job ran")
        return key


Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class FaceRow:
    """A face of the collection as far as grouping needs it; in memory only.

    uri, face, box: the photo, the face's number in its list, and its place in photo pixels. age: when the file was last
    changed (Unix seconds, 0 where not known); content: the first 16 bytes of the SHA-256 of its bytes. embedding: 192
    float32, little-endian; kept from every repr.
    """

    uri: str
    face: int
    box: Box
    age: float
    content: bytes
    embedding: bytes = field(repr=False)


@dataclass(frozen=True)
class SealedRow:
    """A FaceRow as it crosses workers: its embedding is sealed, and nothing else of the face is in it but its place."""

    uri: str
    face: int
    box: Box
    age: float
    content: bytes
    sealed: bytes = field(repr=False)


def face_row(uri: str, face: int, box: Box, age: float, data: bytes, embedding: NDArray[np.floating]) -> FaceRow:
    """The row of one face, of a photo whose file holds `data`."""
    return FaceRow(uri, face, box, age, hashlib.sha256(data).digest()[:16], np.asarray(embedding, "<f4").tobytes())


def sealed_row(row: FaceRow, key: Key) -> SealedRow:
    """The row for other workers."""
    sealed = key.seal(row.embedding, _about_row(row))
    return SealedRow(row.uri, row.face, row.box, row.age, row.content, sealed)


def opened_row(row: SealedRow, key: Key) -> FaceRow:
    """The row that was sealed. KeyFileError where another key or another row was."""
    x, y, w, h = row.box
    embedding = key.open(row.sealed, _about_row(row))
    return FaceRow(row.uri, row.face, (x, y, w, h), row.age, row.content, embedding)


def _about_row(row: FaceRow | SealedRow) -> bytes:
    return b"mien row " + row.content + row.face.to_bytes(4, "big") + row.uri.encode(errors="surrogatepass")


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


def seeds(rows: Iterable[FaceRow], key: Key) -> list[tuple[str, tuple[tuple[Box, bytes], ...]]]:
    """(uri, ((box, seed), ...)) for each photo, for Deidentifier.new_face.

    A seed is HMAC-SHA256 of the key and the group's leader, 32 bytes, and the leader's embedding behind it, by which
    age and sex are judged in all photos alike. It is as secret as an embedding: for memory only.

    The leader stands for its group by the content of its photo's file and its number in it: copies and other names of
    that file, other runs and other collections give the same seed.
    """
    found: dict[str, list[tuple[Box, bytes]]] = {}
    for row, leader in group_faces(rows):
        seed = key.sign(b"mien person " + leader.content + leader.face.to_bytes(4, "big"))
        found.setdefault(row.uri, []).append((row.box, seed + leader.embedding))
    return [(uri, tuple(sorted(faces))) for uri, faces in sorted(found.items())]


def sealed_seeds(uri: str, faces: Iterable[tuple[Box, bytes]], key: Key) -> tuple[FaceSeed, ...]:
    """The seeds of a photo's faces for other workers."""
    return tuple(FaceSeed(box, key.seal(seed, _about_seed(uri))) for box, seed in faces)


def seeds_by_face(uri: str, faces: Sequence[Face], sealed: Sequence[FaceSeed], key: Key) -> dict[int, bytes]:
    """The seeds of a photo's faces by their index: each face has that of the same place, or none. KeyFileError.

    The faces were found by a search of their own, maybe on another processor: in another order, with other boxes.
    """
    boxes = [np.array([one.box for one in found], np.float64).reshape(-1, 4) for found in (faces, sealed)]
    return {i: key.open(sealed[j].sealed, _about_seed(uri)) for i, j in same_places(*boxes).items()}


def _about_seed(uri: str) -> bytes:
    return b"mien seed " + uri.encode(errors="surrogatepass")


class _Seeds(beam.DoFn):
    """The key is read where it is used, so that no pipeline graph holds it."""

    def __init__(self, key_file: KeyFile) -> None:
        self._key_file = key_file

    def setup(self) -> None:
        self._key = self._key_file.read()

    def process(self, rows: tuple[int, Iterable[SealedRow]]) -> Iterator[tuple[str, tuple[FaceSeed, ...]]]:
        for uri, faces in seeds((opened_row(row, self._key) for row in rows[1]), self._key):
            yield uri, sealed_seeds(uri, faces, self._key)


class NamePeople(beam.PTransform):
    """PCollection of SealedRow, of the whole collection -> (uri, FaceSeeds), for beam.pvalue.AsDict.

    One worker sees all rows: about 1 kB a face, and time by faces times people. Raises KeyFileError.
    """

    def __init__(self, key_file: KeyFile) -> None:
        super().__init__()
        self._key_file = key_file

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        return (
            rows
            | "OneGroup" >> beam.Map(lambda row: (0, row))
            | beam.GroupByKey()
            | "Seeds" >> beam.ParDo(_Seeds(self._key_file))
        )
