"""How like a picture is to its original, and how like one set of pictures is to another.

- LPIPS: squeeze, at 256 px (models/evaluation/lpips.py);
- PSNR in dB over R, G and B, and SSIM (Wang et al., 2004: Gaussian window of 11 px, deviation 1.5, the mean of the
  three channels), both of OpenCV, at the pictures' own 512 px;
- id: cosine of the embeddings of the codec's own recogniser, mobilefacenet; it is in the codec's objective;
- dlib: distance of dlib's descriptors; it takes no part in the codec;
- KID (Binkowski et al., 2018): see kid().
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mien.models.evaluation.descriptors import DlibDescriptor
from mien.models.evaluation.lpips import Lpips
from mien.models.faces import Recogniser, arcface_crop

Pixels = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]

SMALL = 256  # px at which the networks look
SUBSETS = 100  # of a KID


@dataclass(frozen=True)
class View:
    """A picture, (S, S, 3) uint8 RGB, and what the networks see in it."""

    pixels: Pixels
    maps: list[Tensor]  # LPIPS's, empty without its weights
    identity: Tensor  # (192,)
    descriptor: npt.NDArray[np.float64] | None  # dlib's, (128,)
    spaces: dict[str, Features]  # for KID, by name


@dataclass(frozen=True)
class Quality:
    """How like a picture is to its original; None where the weights are missing."""

    lpips: float | None
    psnr: float
    ssim: float
    id: float
    dlib: float | None


class Meter:
    """Looks at pictures with the networks there are."""

    def __init__(self, recogniser: Recogniser, lpips: Lpips | None = None, dlib: DlibDescriptor | None = None) -> None:
        self._recogniser, self.lpips, self.dlib = recogniser, lpips, dlib

    @torch.inference_mode()
    def view(self, pixels: Pixels) -> View:
        """A picture (512, 512, 3) uint8 RGB."""
        small = _small([pixels])
        crop = arcface_crop(small)
        spaces = {"recogniser": _mean(self._recogniser.features(crop))}
        maps = self.lpips.features(small) if self.lpips else []
        if maps:
            spaces["squeezenet"] = _mean(maps[-1])
        return View(pixels, maps, self._recogniser(crop)[0], self.dlib(pixels) if self.dlib else None, spaces)

    @torch.inference_mode()
    def distances(self, original: View, pictures: Sequence[Pixels]) -> list[float]:
        """Of each picture to the original, the smaller the better: LPIPS, without its weights minus the PSNR."""
        if self.lpips is None:
            return [-psnr(original.pixels, picture) for picture in pictures]
        return [self._lpips(original.maps, self.lpips.features(_small([picture]))) for picture in pictures]

    @torch.inference_mode()
    def compare(self, original: View, view: View) -> Quality:
        """All figures of one picture."""
        known = original.descriptor is not None and view.descriptor is not None
        return Quality(
            lpips=self._lpips(original.maps, view.maps) if self.lpips else None,
            psnr=psnr(original.pixels, view.pixels),
            ssim=ssim(original.pixels, view.pixels),
            id=float(original.identity @ view.identity),
            dlib=float(np.linalg.norm(original.descriptor - view.descriptor)) if known else None,  # type: ignore[operator]
        )

    def _lpips(self, a: list[Tensor], b: list[Tensor]) -> float:
        assert self.lpips is not None
        return float(self.lpips.compare(a, b))


def psnr(a: Pixels, b: Pixels) -> float:
    """In dB, over all channels; 361 for equal pictures."""
    return float(cv2.PSNR(a, b))


def ssim(a: Pixels, b: Pixels) -> float:
    """-1 to 1, the mean over place and channels."""
    scores = cv2.quality.QualitySSIM_compute(a, b)[0]  # type: ignore[attr-defined]  # not in OpenCV's stubs
    return float(np.mean(scores[:3]))


def kid(originals: Features, made: Features, subsets: int = SUBSETS, seed: int = 0) -> tuple[float, float] | None:
    """Kernel Inception Distance of two sets of features (N, D), in another space than Inception's.

    The unbiased squared MMD with the kernel (x y / D + 1)^3: mean and standard deviation over subsets. In each half
    of the faces, drawn anew, stand as originals and the other half as made, so that no face is compared with itself.
    Features are scaled such that the originals' mean square is 1. None below four faces.
    """
    # not torchmetrics' KID: it lets a picture stand on both sides, and takes pictures, while the features are here
    count = len(originals) // 2
    if count < 2:
        return None
    scale = 1 / np.sqrt(np.mean(np.square(originals, dtype=np.float64)))
    a, b = originals.astype(np.float64) * scale, made.astype(np.float64) * scale
    random, found = np.random.default_rng(seed), []
    for _ in range(subsets):
        order = random.permutation(len(originals))
        found.append(_mmd(a[order[:count]], b[order[count : 2 * count]]))
    return float(np.mean(found)), float(np.std(found))


def _mmd(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy (Gretton et al., 2012, eq. 3), (N, D) each."""
    count, width = x.shape

    def kernel(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return (a @ b.T / width + 1) ** 3

    within = sum(kernel(t, t).sum() - np.trace(kernel(t, t)) for t in (x, y)) / (count * (count - 1))
    return float(within - 2 * kernel(x, y).mean())


def _small(pictures: Sequence[Pixels]) -> Tensor:
    """(S, S, 3) uint8 each to (N, 3, 256, 256) in -1..1, by area."""
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return F.interpolate(stacked, size=SMALL, mode="area")


def _mean(maps: Tensor) -> Features:
    """(1, C, H, W) to (C,): the mean over place."""
    return maps.mean((2, 3))[0].numpy()
