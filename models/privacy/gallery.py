"""Galleries: reference photos of people, and whether a face is one of theirs.

Embeddings are made when a gallery is read and live in memory only: nothing here writes, logs or shows one.

How often a whole look-up says what, in percent. Strangers: 387 people, each beside references of 1,013 others, drawn 20
times (once of 1,000). Known: 22 faces of 66 px and more in group photos, beside a portrait of the same person and
references of others (dlib's recogniser, which takes no part here, paired them, without the hardest).

| references | cosine for in | strangers in | in doubt | out | known in | in doubt | out |
|---|---|---|---|---|---|---|---|
| 1 | 0.56 | 0 | 2 | 98 | 77 | 18 | 5 |
| 30 | 0.59 | 0.03 | 48 | 52 | 68 | 29 | 3 |
| 300 | 0.65 | 0 | 99.3 | 0.7 | 36 | 64 | 0 |
| 1,000 | 0.68 | 0 | 100 | 0 | 27 | 73 | 0 |

With 0.56 for galleries of any size 0.9 % of the strangers were in beside 300 references, and 3.1 % beside 1,000. Of 114
strangers in group photos, whose small faces are harder to tell, one was in beside 300.
"""

import hashlib
import posixpath
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Literal

import fsspec
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mien.models.errors import GalleryError, ImageError, why_unread
from mien.models.faces import FaceDetector, FaceLandmarker, Recogniser, align_face, arcface_crop, located_faces
from mien.models.images import decode_image
from mien.models.runtime import one_thread

Match = Literal["in", "out", "doubtful"]

# Of this many strangers at most one is taken for somebody in the galleries that a face is compared with, however many
# references they hold. Beside more of them each may be mistaken less often, and takes a higher cosine.
LOOKUP_RATE = 1e-3
# The tail of cosines between different people, as of a normal distribution: of 196,251 pairs of 627 official portraits
# (which are more alike than other people: 1 in 1,000 is over 0.485, 1 in 10,000 over 0.557, the highest is 0.623).
_TAIL = NormalDist(0.134, 0.114)
LEAST_IN = 0.56  # of a few references; 7 in 100,000 of those pairs reach it
OUT = 0.3  # 1 in 22 pictures of people from a group photo is under it, beside a portrait of them
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff", ".bmp", ".gif")
MAX_BYTES = 100_000_000
SPECK = 8  # a box so much smaller than the largest face is no second person to mistake for the first
MAX_PHOTOS = 10_000


class Gallery:
    """People's embeddings, (N, 192) float32 of length 1. Its repr and pickle say how many, and nothing else.

    digest: of the photos that they were made from, as gallery_digest gives it.
    """

    def __init__(self, embeddings: NDArray[np.float32], digest: str = "") -> None:
        self._embeddings = embeddings
        self.digest = digest

    def __len__(self) -> int:
        return len(self._embeddings)

    def __repr__(self) -> str:
        return f"Gallery({len(self)} people)"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a gallery is never pickled: its embeddings stay in memory; read it again where it is needed")

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """(N, 192) float32, for Deidentifier.new_face's avoid; to be kept in memory only."""
        return self._embeddings

    def match(self, embedding: NDArray[np.floating], references: int = 0) -> Match:
        """Whether a face, by its embedding (192,), is one of the gallery's people.

        in: one of them is at least as like it as least_in says; out: none reaches OUT; doubtful: between. references:
        of all galleries that the face is compared with, where there are others.

        OUT does not follow the gallery's size: how like a person is to the own reference does not depend on others.
        """
        likeness = float((self._embeddings @ np.asarray(embedding, np.float32)).max())
        if likeness >= least_in(max(references, len(self))):
            return "in"
        return "out" if likeness < OUT else "doubtful"  # a likeness that is no number is doubtful too


def least_in(references: int) -> float:
    """The cosine from which a face that is compared with so many references is one of them."""
    return max(LEAST_IN, _TAIL.inv_cdf(1 - LOOKUP_RATE / references))


@torch.inference_mode()
def embed(faces: NDArray[np.uint8], recogniser: Recogniser) -> NDArray[np.float32]:
    """Aligned faces (N, 512, 512, 3) uint8 RGB to the recogniser's embeddings, (N, 192) float32 of length 1."""
    with one_thread():  # the same to the last bit in any process: seeds of new faces hold it
        found = [
            recogniser(arcface_crop(F.interpolate(picture / 127.5 - 1, size=256, mode="area")))
            for picture in (torch.from_numpy(np.ascontiguousarray(f)).permute(2, 0, 1)[None].float() for f in faces)
        ]
    return torch.cat(found).numpy() if found else np.empty((0, 192), np.float32)


def load_gallery(
    uri: str, recogniser: Recogniser, detector: FaceDetector | None = None, landmarker: FaceLandmarker | None = None
) -> Gallery:
    """The people of a folder of reference photos, at any depth, or of one photo: a path or any fsspec URI.

    Each photo must show one face (next to it, boxes of less than an eighth of its size do not count), large enough for
    its landmarks to be found; several photos of a person may be given.
    GalleryError names the first file that cannot be used, and why; it names no person. detector, landmarker: to be
    used instead of own ones.
    """
    own = [part for part in (detector, landmarker) if part is None]
    detector, landmarker = detector or FaceDetector(), landmarker or FaceLandmarker()
    digests, faces = [], []
    try:
        for name, data in _files(uri):
            digests.append(hashlib.sha256(data).digest())
            faces.append(_one_face(name, data, detector, landmarker))
    finally:
        if len(own) == 2:
            detector.close()
            landmarker.close()
    return Gallery(embed(np.stack(faces), recogniser), _digest(digests))


def gallery_digest(uri: str) -> str:
    """SHA-256 of what a gallery's photos hold, whatever their names and order. GalleryError as load_gallery."""
    return gallery_state(uri)[0]


def gallery_state(uri: str) -> tuple[str, int]:
    """The digest of a gallery, and how many photos it holds. GalleryError as load_gallery."""
    digests = [hashlib.sha256(data).digest() for _, data in _files(uri)]
    return _digest(digests), len(digests)


def _digest(digests: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def _files(uri: str) -> Iterator[tuple[str, bytes]]:
    try:
        system, path = fsspec.url_to_fs(uri)
        path = path.rstrip("/")
        if system.isfile(path):
            names: Sequence[str] = [path]
        elif system.isdir(path):
            names = sorted(name for name in system.find(path) if posixpath.splitext(name)[1].lower() in SUFFIXES)
        else:
            raise GalleryError(f"{uri}: there is no such gallery")
    except GalleryError:
        raise
    except Exception as error:  # every store has errors of its own
        raise GalleryError(f"{uri}: cannot be listed: {why_unread(error)}") from error
    if not names:
        raise GalleryError(f"{uri}: the gallery is empty: no photo ({', '.join(SUFFIXES)}) was found in it")
    if len(names) > MAX_PHOTOS:
        raise GalleryError(f"{uri}: {len(names)} photos, over the limit of {MAX_PHOTOS} for a gallery")
    for name in names:
        try:
            with system.open(name, "rb") as stream:
                data = stream.read(MAX_BYTES + 1)
        except Exception as error:
            raise GalleryError(f"{name}: cannot be read: {why_unread(error)}") from error
        if len(data) > MAX_BYTES:
            raise GalleryError(f"{name}: over the limit of {MAX_BYTES} bytes")
        yield name, data


def _one_face(name: str, data: bytes, detector: FaceDetector, landmarker: FaceLandmarker) -> NDArray[np.uint8]:
    try:
        pixels = decode_image(data)
    except ImageError as error:
        raise GalleryError(f"{name}: {error}") from error
    faces = located_faces(pixels, detector, landmarker)
    largest = max((max(face.box[2:]) for face in faces), default=0.0)
    faces = tuple(face for face in faces if max(face.box[2:]) > largest / SPECK)
    if len(faces) != 1:
        found = "no face was found" if not faces else f"{len(faces)} faces were found"
        raise GalleryError(f"{name}: {found}; a reference photo must show exactly one: crop it to the person")
    if not faces[0].transform:
        raise GalleryError(f"{name}: its face is too small, hidden or turned away to be recognised by")
    try:
        return align_face(pixels, faces[0].transform)
    except ValueError as error:
        raise GalleryError(f"{name}: {error}") from error
