"""Recognisers that measure how alike two aligned faces are: mien's own, and dlib's where it is installed.

dlib's network took no part in making mien's codec, so it is the more independent witness. It is the extra `audit`:
dlib-bin (Boost licence) and face_recognition_models (its two model files; the recogniser is public domain, CC0).
"""

import functools
import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mien.models.codec import FaceCodec
from mien.models.evaluation import NETWORK, DlibDescriptor, packaged_models
from mien.models.faces import SAME_PERSON, arcface_crop

Faces = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]

_AT_ONCE = 16
_SEEN = 256  # pixels: the face's size before the crop, as in the codec


class FaceRecogniser(Protocol):
    """name: as in the report. same_person: the least similarity at which two faces are taken for one person's, with a
    false accept rate of 1e-3 among 363 official portraits, one a person. sha256: of the model."""

    name: str
    same_person: float
    sha256: str

    def embed(self, faces: Faces) -> Array:
        """(N, 512, 512, 3) uint8 RGB, FFHQ-aligned, to (N, D)."""

    def similarities(self, a: Array, b: Array) -> Array:
        """(N, D) and (M, D) embeddings to (N, M)."""


class MobileFaceNet:
    """The recogniser that the codec looks with. Similarity: cosine."""

    name = "mobilefacenet"
    same_person = SAME_PERSON

    def __init__(self) -> None:
        self.network = FaceCodec.load().recogniser
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + np.ascontiguousarray(value.numpy()).tobytes())
        self.sha256 = digest.hexdigest()

    def crops(self, faces: Faces) -> Tensor:
        """(N, 512, 512, 3) uint8 to (N, 3, 112, 112) in -1..1, ArcFace-aligned."""
        if not len(faces):
            return torch.zeros(0, 3, 112, 112)
        parts = [faces[i : i + _AT_ONCE] for i in range(0, len(faces), _AT_ONCE)]
        tensors = (torch.from_numpy(part).permute(0, 3, 1, 2).float() / 127.5 - 1 for part in parts)
        return torch.cat([arcface_crop(F.interpolate(part, size=_SEEN, mode="area")) for part in tensors])

    @torch.inference_mode()
    def embed(self, faces: Faces) -> Array:
        parts = [self.network(part).double().numpy() for part in self.crops(faces).split(_AT_ONCE)]
        return np.concatenate(parts) if parts else np.zeros((0, 192))

    def similarities(self, a: Array, b: Array) -> Array:
        return a @ b.T


class Dlib:
    """dlib's ResNet-29 with 128 numbers. Similarity: minus the Euclidean distance. WeightsError for missing files."""

    name = "dlib"
    same_person = -0.54

    def __init__(self, folder: Path) -> None:
        self._descriptor = DlibDescriptor(folder)
        self.sha256 = hashlib.sha256((folder / NETWORK).read_bytes()).hexdigest()

    def embed(self, faces: Faces) -> Array:
        return np.array([self._descriptor(face) for face in faces], np.float64).reshape(-1, 128)

    def similarities(self, a: Array, b: Array) -> Array:
        squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
        return -np.sqrt(np.clip(squares, 0, None))


@functools.lru_cache(maxsize=1)
def recognisers(folder: Path | None) -> tuple[FaceRecogniser, ...]:
    """mobilefacenet, and dlib from the folder or from the installed package, if there is one. WeightsError for a folder
    without dlib's files."""
    place = folder or packaged_models()
    return (MobileFaceNet(), Dlib(place)) if place else (MobileFaceNet(),)
