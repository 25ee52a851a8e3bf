"""Whole photos within a budget of bytes: conventional codecs at their best size, and how like the original a photo is.

A conventional codec that gets few bytes shows more with fewer pixels: of several sizes the best one is taken for each
photo and budget, with the original at hand, which no encoder could do better.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mien.models.codec import Encoder, Original
from mien.models.evaluation.lpips import Lpips
from mien.models.evaluation.peers import Peer
from mien.models.faces import align_face
from mien.models.images import enlarge, scaled, shrink

Pixels = npt.NDArray[np.uint8]

SIZES = 8  # sizes tried of each photo at each budget
LEAST, MOST = 6, 220  # pixels a byte among which the best size is sought
VIEW = 256  # px at which LPIPS looks


@dataclass(frozen=True)
class PhotoQuality:
    """Of one photo; of its faces the means, None where it has none. whole, face: LPIPS at 256 px, or where its weights
    are missing the distance of the encoder's trunk; cosine: of the encoder's recogniser; dlib: distance of dlib's."""

    whole: float
    face: float | None
    cosine: float | None
    dlib: float | None


class PhotoMeter:
    """Compares photos with one, (H, W, 3) uint8 RGB, and its faces, by their transforms."""

    def __init__(
        self, encoder: Encoder, lpips: Lpips | None, pixels: Pixels, transforms: Sequence[Sequence[float]]
    ) -> None:
        self._lpips, self._transforms = lpips, transforms
        self._original = Original(encoder, pixels, transforms)
        self._maps = self._look(pixels)

    def distance(self, pixels: Pixels) -> float:
        """Of a photo of the same size, the whole's and the faces' mean together: what the best size has least of."""
        whole, *faces = self._distances(pixels) if self._lpips else [self._original.whole(pixels)]
        return whole + (float(np.mean(faces)) if faces else 0.0)

    def quality(self, pixels: Pixels) -> PhotoQuality:
        """Of a photo of the same size."""
        likeness = self._original.compare(pixels)
        distances = self._distances(pixels) or [likeness.whole, *(face.distance for face in likeness.faces)]
        if not likeness.faces:
            return PhotoQuality(distances[0], None, None, None)
        faces = [(face.cosine, face.dlib) for face in likeness.faces]
        cosine, dlib = (float(value) for value in np.mean(faces, axis=0))
        return PhotoQuality(distances[0], float(np.mean(distances[1:])), cosine, dlib)

    @torch.inference_mode()
    def _distances(self, pixels: Pixels) -> list[float]:
        """LPIPS of the whole and of each face; none without its weights."""
        if self._lpips is None:
            return []
        return [float(self._lpips.compare(a, b)) for a, b in zip(self._maps, self._look(pixels), strict=True)]

    @torch.inference_mode()
    def _look(self, pixels: Pixels) -> list[list[Tensor]]:
        if self._lpips is None:
            return []
        views = [pixels, *(align_face(pixels, each) for each in self._transforms)]
        return [self._lpips.features(_small(view)) for view in views]


@dataclass(frozen=True)
class PhotoFile:
    """A photo by a conventional codec. data: the file; pixels: what it shows at the photo's size; size: in the file."""

    data: bytes
    pixels: Pixels
    size: tuple[int, int]


def best_file(pixels: Pixels, peer: Peer, ceiling: int, meter: PhotoMeter) -> PhotoFile | None:
    """The photo by a codec within a ceiling of bytes, at the best of SIZES sizes; None where none fits."""
    height, width = pixels.shape[:2]
    full = max(width, height)
    sides = [full / 2 ** (i / 2) for i in range(24)]
    areas = [(round(side), width * height * (side / full) ** 2) for side in sides if side >= 8]
    fit = [side for side, area in areas if LEAST <= area / ceiling <= MOST] or [round(sides[0])]
    best, least = None, float("inf")
    for side in fit[:SIZES]:
        size = scaled(width, height, side)
        data = _finest(shrink(pixels, size), peer, ceiling)
        if data is None:
            continue
        shown = enlarge(peer.unpack(data), (width, height))
        if (distance := meter.distance(shown)) < least:
            best, least = PhotoFile(data, shown, size), distance
    return best


def _finest(picture: Pixels, peer: Peer, ceiling: int) -> bytes | None:
    """The file of the highest step that fits; files are taken to grow with the step."""
    low, high, found = -1, peer.steps, None
    while high - low > 1:
        middle = (low + high) // 2
        data = peer.pack(picture, middle)
        if len(data) <= ceiling:
            low, found = middle, data
        else:
            high = middle
    return found


def _small(pixels: Pixels) -> Tensor:
    how = cv2.INTER_AREA if min(pixels.shape[:2]) >= VIEW else cv2.INTER_LINEAR
    view = np.asarray(cv2.resize(pixels, (VIEW, VIEW), interpolation=how))
    return torch.from_numpy(view).permute(2, 0, 1).float()[None] / 127.5 - 1
