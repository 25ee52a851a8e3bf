"""Whether a face's pixels are still there: the original's detail looked for at the same place of the output."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_DETAIL = 1 / 20  # of the face's side: what is coarser than this is light and shade, which a redaction may keep
_CELLS = 8  # a side of the box
_MIN_DEVIATION = 2.0  # grey levels of detail below which a cell has nothing to recognise
_MIN_SIDE = 8.0  # pixels; smaller faces are enlarged to it
_OVAL = 0.46  # of the box's sides: a detector's corners are background


@dataclass(frozen=True)
class Kept:
    """How much of a face's detail the output has at its place.

    face: 1 less the energy of the difference, in energies of the original's detail: 1 untouched, 0 detail gone, below 0
    another face. cells: share of the face's cells, of those with any detail, that are as they were. psnr: dB of the
    whole region.
    """

    face: float
    cells: float
    psnr: float


def kept_pixels(original: Pixels, output: Pixels, box: Sequence[float], cell: float) -> Kept:
    """Compares two (H, W, 3) uint8 RGB photos of one size in a face's box (x, y, width, height in pixels).

    cell: what a cell must keep to count. The detail is what a Gaussian of 1/20 of the face's side takes away.
    """
    x, y, width, height = box
    pad = round(0.15 * max(width, height)) + 2
    left, top = max(0, round(x) - pad), max(0, round(y) - pad)
    right, bottom = min(original.shape[1], round(x + width) + pad), min(original.shape[0], round(y + height) + pad)
    if right - left < 2 or bottom - top < 2:
        return Kept(0.0, 0.0, float("inf"))
    grey = (cv2.cvtColor(photo[top:bottom, left:right], cv2.COLOR_RGB2GRAY) for photo in (original, output))
    was, shown = (part.astype(np.float32) for part in grey)
    side = float(np.sqrt(width * height))
    sigma = max(0.8, side * _DETAIL)
    was_detail, shown_detail = (part - cv2.GaussianBlur(part, (0, 0), sigma) for part in (was, shown))
    rows = (np.arange(top, bottom) + 0.5 - y - height / 2)[:, None] / (height * _OVAL)
    columns = (np.arange(left, right) + 0.5 - x - width / 2)[None, :] / (width * _OVAL)
    oval = rows**2 + columns**2 < 1
    number = np.clip(((rows * _OVAL + 0.5) * _CELLS).astype(int), 0, _CELLS - 1) * _CELLS + np.clip(
        ((columns * _OVAL + 0.5) * _CELLS).astype(int), 0, _CELLS - 1
    )
    cells = number[oval]
    if not len(cells):
        return Kept(0.0, 0.0, float("inf"))
    energy = np.bincount(cells, was_detail[oval] ** 2, _CELLS**2)
    error = np.bincount(cells, (was_detail - shown_detail)[oval] ** 2, _CELLS**2)
    count = np.bincount(cells, minlength=_CELLS**2)
    telling = (count > 0) & (energy > count * _MIN_DEVIATION**2)
    share = 1 - error[telling] / energy[telling]
    square = float(np.square(was[oval] - shown[oval]).mean())
    return Kept(
        float(1 - error.sum() / max(float(energy.sum()), 1e-6)),
        float((share > cell).mean()) if telling.any() else 0.0,
        float(10 * np.log10(255**2 / max(square, 1e-4))),
    )
