"""How like the original a photo looks, whole and face by face: what decides between a coded face and its own pixels.

The distance is that of the encoder's trunk (models/codec/refinement.py), which the package carries; the recognisers
are the encoder's own and dlib's, which takes no part in the codec.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.models.codec.encoder import INPUT, Encoder
from mien.models.codec.refinement import features
from mien.models.faces import align_face, arcface_crop, dlib_recogniser, seen, square

Pixels = NDArray[np.uint8]
Transform = Sequence[float]

SMALLEST = 64  # px of a face's view: the trunk's maps would have no places of smaller ones
# Within these a recogniser says the same of two pictures, as cosine and as dlib's distance: what another quality of the
# same picture changes.
SLACK, DLIB_SLACK = 0.05, 0.05
# The trunk doubts coded faces more than LPIPS does: on five portraits of 500 to 4,000 bytes a coded face of 1.3 times
# the trunk's distance had the LPIPS of one in the background's pixels.
DOUBT = 1.2


@dataclass(frozen=True)
class FaceLikeness:
    """Of one face to the original's. distance: the trunk's, 0 for equal; cosine: of the encoder's recogniser; dlib: the
    distance of dlib's descriptors."""

    distance: float
    cosine: float
    dlib: float

    def beats(self, other: "FaceLikeness") -> bool:
        """Whether a coded face looks more like the original than the other, in a background's pixels, and no recogniser
        knows the person less well."""
        known = self.cosine >= other.cosine - SLACK and self.dlib <= other.dlib + DLIB_SLACK
        return self.distance < DOUBT * other.distance and known


@dataclass(frozen=True)
class Likeness:
    """Of a photo to its original. whole: the trunk's distance of all of it at 256 px; faces: in the order given."""

    whole: float
    faces: tuple[FaceLikeness, ...]


class Original:
    """What the networks see in a photo, (H, W, 3) uint8 RGB, and in its faces, by their transforms."""

    def __init__(self, encoder: Encoder, pixels: Pixels, transforms: Sequence[Transform]) -> None:
        self._encoder, self._transforms = encoder, [tuple(each) for each in transforms]
        self._whole = self._maps(_whole_view(pixels))
        self._faces = [self._seen(pixels, each) for each in self._transforms]

    def whole(self, pixels: Pixels) -> float:
        """The distance of a photo of the same size."""
        return _distance(self._whole, self._maps(_whole_view(pixels)))

    def distance(self, pixels: Pixels) -> float:
        """Of a photo of the same size, the whole's and the faces' mean together."""
        faces = [self._maps(_face_view(pixels, each)) for each in self._transforms]
        pairs = zip(self._faces, faces, strict=True)
        distances = [_distance(wanted, maps) for (wanted, *_), maps in pairs]
        return self.whole(pixels) + (float(np.mean(distances)) if distances else 0.0)

    def compare(self, pixels: Pixels) -> Likeness:
        """A photo of the same size."""
        return Likeness(self.whole(pixels), tuple(self.face(i, pixels) for i in range(len(self._faces))))

    def face(self, i: int, pixels: Pixels) -> FaceLikeness:
        """The i-th face of a photo of the same size."""
        maps, person, descriptor = self._seen(pixels, self._transforms[i])
        wanted, known, described = self._faces[i]
        return FaceLikeness(
            _distance(wanted, maps), float((person * known).sum()), float((descriptor - described).norm())
        )

    @torch.inference_mode()
    def _maps(self, view: Tensor) -> list[Tensor]:
        return features(self._encoder, view)

    @torch.inference_mode()
    def _seen(self, pixels: Pixels, transform: Transform) -> tuple[list[Tensor], Tensor, Tensor]:
        face = _face_view(pixels, transform)
        person = self._encoder.recogniser(arcface_crop(face))
        return features(self._encoder, face), person, dlib_recogniser().embedding(face)


def is_seen(pixels: Pixels, transform: Transform) -> bool:
    """Whether a photo has a face there that can be looked at: with a transform, and not far larger than the photo."""
    try:
        return bool(transform) and len(align_face(pixels, transform)) > 0
    except ValueError:
        return False


def _whole_view(pixels: Pixels) -> Tensor:
    """(H, W, 3) uint8 to (1, 3, 256, 256) in -1..1, whatever its shape."""
    how = cv2.INTER_AREA if min(pixels.shape[:2]) >= INPUT else cv2.INTER_LINEAR
    return _tensor(np.asarray(cv2.resize(pixels, (INPUT, INPUT), interpolation=how), np.uint8))


def _face_view(pixels: Pixels, transform: Transform) -> Tensor:
    """A face (1, 3, S, S) in -1..1, as large as it is in the photo, at most 256 px."""
    side = max(SMALLEST, square(transform)[2])
    return seen(F.interpolate(_tensor(align_face(pixels, transform)), size=INPUT, mode="area"), side)


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float()[None] / 127.5 - 1


def _distance(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    return float(np.mean([float((a - b).square().sum(1).mean()) for a, b in zip(ours, theirs, strict=True)]))
