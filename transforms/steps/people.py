"""Who is who: faces compared with the galleries that a policy names, and pseudonyms that go with a photo's faces."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
import numpy as np
import numpy.typing as npt

from mien.models.codec import FaceCodec
from mien.models.errors import GalleryError
from mien.models.faces import Face, align_face, square
from mien.models.privacy import Gallery, embed, gallery_digest, load_gallery, looks_grown_up
from mien.models.runtime import tune_process
from mien.transforms.elements import FaceSeed, ListedFile, Photo, PhotoInWork, Pixels
from mien.transforms.policy import KeyFile, NamePeople, Policy, SealedRow, face_row, sealed_row
from mien.transforms.settings import FindSettings
from mien.transforms.sources import MAX_BYTES, PhotoReader
from mien.transforms.steps.decode import decode_photo
from mien.transforms.steps.detect import Finder
from mien.transforms.workers import IsolatedStages, Stage

# photo pixels of the side of a face's square below which it is nobody's: what the recogniser sees is then the size
MIN_SIDE = 64.0

Embedding = npt.NDArray[np.float32]


def gallery(uri: str, digest: str = "") -> Gallery:
    """The people of a gallery, read once a process for each state of its photos.

    digest: of the photos that are wanted (mien.models.privacy.gallery.gallery_digest), by default as they are now.
    GalleryError
    for a gallery that cannot be used, and for one that holds other photos.
    """
    return _gallery(uri, digest or gallery_digest(uri))


@functools.lru_cache(maxsize=256)
def _gallery(uri: str, digest: str) -> Gallery:
    found = load_gallery(uri, FaceCodec.load().recogniser)
    if found.digest != digest:
        raise GalleryError(f"{uri}: the gallery was changed while the job ran")
    return found


def with_galleries(policy: Policy) -> Policy:
    """The policy with the digests of its galleries, which workers compare with what they read.

    Each is read now: GalleryError says what is wrong with one.
    """
    policy = policy.pinned()
    for uri in policy.galleries:
        gallery(uri, policy.digests[uri])
    return policy


def embeddings_of(pixels: Pixels, faces: Sequence[Face]) -> tuple[Embedding | None, ...]:
    """The recogniser's embedding (192,) of each face; None for one that cannot be aligned or is under MIN_SIDE."""
    crops: dict[int, Pixels] = {}
    for i, face in enumerate(faces):
        if face.transform and square(face.transform)[2] >= MIN_SIDE:
            try:
                crops[i] = align_face(pixels, face.transform)
            except ValueError:  # a square far larger than the photo
                continue
    recogniser = FaceCodec.load().recogniser
    return tuple(embed(crops[i][None], recogniser)[0] if i in crops else None for i in range(len(faces)))


def grown_up(embedding: Embedding) -> bool:
    """Whether a face clearly looks grown up, see mien.models.privacy.age."""
    return looks_grown_up(embedding, FaceCodec.load().basis)


def other_people(photo: PhotoInWork, f: int, avoid: Sequence[npt.NDArray[np.float64]]) -> list[npt.NDArray[np.float64]]:
    """Embeddings of whom a new face may not resemble: everybody else in the photo, and who is in avoid."""
    return [*(e.astype(np.float64) for i, e in enumerate(photo.embeddings) if i != f and e is not None), *avoid]


def avoided(policy: Policy) -> list[npt.NDArray[np.float64]]:
    """Embeddings of everybody in the policy's galleries, whom no new face may resemble. GalleryError."""
    galleries = [gallery(*known) for known in policy.digests.items()]
    return [embedding for one in galleries for embedding in one.embeddings.astype(np.float64)]


class _ReadAgain(beam.DoFn):
    """A file that cannot be read here fails on its way too, where it is told."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    def setup(self) -> None:
        self._reader = PhotoReader()

    def finish_bundle(self) -> None:
        self._reader.close()

    def process(self, element: ListedFile | Photo) -> Iterator[Photo]:
        if isinstance(element, ListedFile):
            with contextlib.suppress(Exception):
                yield Photo(element.uri, self._reader.read(element, self._max_bytes), element.name, element)
            return
        yield element


class _FaceRows(Stage):
    """What grouping needs of each face, sealed."""

    stage = "people"

    def __init__(self, key_file: KeyFile, settings: FindSettings) -> None:
        self._key_file = key_file
        self._settings = settings

    def setup(self) -> None:
        tune_process(self._settings.threads)
        self._key = self._key_file.read()
        self._finder = Finder(self._settings)

    def teardown(self) -> None:
        self._finder.close()

    def work(self, element: Photo) -> Iterable[SealedRow]:
        work = self._finder.find(decode_photo(element, self._settings.max_pixels))
        age = element.origin.modified if element.origin else 0.0
        for i, (face, embedding) in enumerate(zip(work.faces, embeddings_of(work.pixels, work.faces), strict=True)):
            if embedding is not None:
                yield sealed_row(face_row(element.uri, i, face.box, age, element.data, embedding), self._key)


class FaceRows(beam.PTransform):
    """ListedFile or Photo -> SealedRow of every face that the recogniser can tell, for NamePeople.

    max_bytes: of a file that is read here.
    """

    def __init__(self, key_file: KeyFile, settings: FindSettings, max_bytes: int = MAX_BYTES) -> None:
        super().__init__()
        self._read = _ReadAgain(max_bytes)
        self._rows = IsolatedStages([_FaceRows(key_file, settings)], SealedRow, settings.photo_limits)

    def expand(self, photos: beam.PCollection) -> beam.PCollection:
        read = photos | beam.ParDo(self._read).with_output_types(Photo)
        return (read | self._rows).photos  # a photo that fails here fails on its way too, where it is told


class _GiveSeeds(beam.DoFn):
    def process(self, photo: Photo, names: dict[str, tuple[FaceSeed, ...]]) -> Iterator[Photo]:
        yield dataclasses.replace(photo, seeds=tuple(names.get(photo.uri) or ()))


class GiveSeeds(beam.PTransform):
    """Photo -> the same with the seed of each face's person, sealed. rows: SealedRow of the whole collection."""

    def __init__(self, rows: beam.PCollection, key_file: KeyFile) -> None:
        super().__init__()
        self._rows = rows
        self._names = NamePeople(key_file)

    def expand(self, photos: beam.PCollection) -> beam.PCollection:
        names = beam.pvalue.AsDict(self._rows | self._names)
        return photos | beam.ParDo(_GiveSeeds(), names).with_output_types(Photo)
