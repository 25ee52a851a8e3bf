"""Whether a photo is noisy, dithered or blocky, so that detectors see more of a smoothed copy."""

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_TILE, _TILES = 64, 24  # px; at most so many tiles a side are measured
ROUGH_NOISE = 14.0  # grey levels; the roughest of 14 group photos has 3.9
ROUGH_BLOCKS = 2.2  # steps at the borders of JPEG's blocks to those within; at most 1.7 in 14 group photos
SMOOTHING = 2.0  # px, sigma of the copy


def noise(pixels: Pixels) -> float:
    """The standard deviation of the noise in grey levels of (H, W, 3) uint8, by Immerkaer (1996): the median of tiles.

    A halftone screen counts as noise. 0 for a photo that is smaller than a tile.
    """
    height, width = pixels.shape[:2]
    found = []
    for y in _starts(height):
        for x in _starts(width):
            grey = cv2.cvtColor(pixels[y : y + _TILE, x : x + _TILE], cv2.COLOR_RGB2GRAY).astype(np.float32)
            rest = cv2.filter2D(grey, -1, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32))[1:-1, 1:-1]
            found.append(np.abs(rest).mean() * (np.pi / 2) ** 0.5 / 6)
    return float(np.median(found)) if found else 0.0


def blockiness(pixels: Pixels) -> float:
    """Steps of grey at the borders of 8 px blocks to those elsewhere; about 1 without blocks. (H, W, 3) uint8."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.int16)
    steps = np.abs(np.diff(grey, axis=1)).mean(0)
    if len(steps) < 64:
        return 1.0
    borders = np.arange(7, len(steps), 8)
    return float((steps[borders].mean() + 0.25) / (np.delete(steps, borders).mean() + 0.25))


def is_rough(pixels: Pixels) -> bool:
    """Whether (H, W, 3) uint8 RGB should be looked at in a smoothed copy too."""
    return noise(pixels) > ROUGH_NOISE or blockiness(pixels) > ROUGH_BLOCKS


def smoothed(pixels: Pixels) -> Pixels:
    """The copy, of the same size."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), SMOOTHING), np.uint8)


def _starts(length: int) -> list[int]:
    count = min(_TILES, length // _TILE)
    return [round(i * (length - _TILE) / max(1, count - 1)) for i in range(count)]
