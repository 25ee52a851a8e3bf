"""A magnified face that gives the small one back when it is shrunk again.

Shrinking is a linear map: the mean over each small pixel's area. What is missing is enlarged by cubics, with such
coefficients that the enlarged picture, shrunk, is exactly what is missing (back-projection, Irani and Peleg, 1991, in
one step instead of many). Only what reaches over black or white is left for further rounds.
"""

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]

ENOUGH = 0.01  # squared grey levels
ROUNDS = 6  # what a round clips, the next one puts right where it can
# Grey levels of RMS between the small face and the result, shrunk, over all channels: at 8 px, and at 32 px and more.
RMS_LIMITS = ((8, 3.0), (32, 2.0))


def rms_limit(size: int) -> float:
    """The error in grey levels at which a result is flagged, for an input of size px; linear in the logarithm."""
    sizes, limits = zip(*RMS_LIMITS, strict=True)
    return float(np.interp(np.log2(size), np.log2(sizes), limits))


@functools.lru_cache(maxsize=64)
def shrinking(small: int, size: int) -> Array:
    """(small, size) weights: each small pixel is the mean over its share of size px, whole ones and parts."""
    edges = np.arange(small + 1) * (size / small)
    low, high = np.maximum(edges[:-1, None], np.arange(size)), np.minimum(edges[1:, None], np.arange(1, size + 1))
    return (np.maximum(high - low, 0) * (small / size)).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _correcting(small: int, size: int) -> Array:
    """(size, small): what is added along a line for each small pixel's difference, so that its mean is as large."""
    enlarging = cv2.resize(np.eye(small, dtype=np.float32), (small, size), interpolation=cv2.INTER_CUBIC)
    found: Array = (enlarging @ np.linalg.inv(shrinking(small, size).astype(float) @ enlarging)).astype(np.float32)
    return found


def shrink(face: NDArray[np.generic], small: int) -> Array:
    """A face (S, S, 3) to (small, small, 3) float32, by area."""
    return _both(shrinking(small, len(face)), face.astype(np.float32))


def consistent(face: Pixels, small: Pixels, share: float = 1.0) -> tuple[Pixels, float]:
    """The face (S, S, 3) uint8 with `share`, 0 to 1, of its difference to a small one (s, s, 3) uint8, s <= S, removed.

    Also the error that is left, measured on the rounded result: RMS over pixels and channels, in grey levels.
    """
    found, shown = face.astype(np.float32), shrink(face, len(small))
    goal = shown + share * (small - shown)
    for _ in range(ROUNDS):
        missing = goal - shrink(found, len(small))
        if float(np.square(missing).mean()) < ENOUGH:
            break
        found = np.clip(found + _both(_correcting(len(small), len(face)), missing), 0, 255)
    result = np.rint(found).astype(np.uint8)
    return result, rms(result, small)


def rms(face: Pixels, small: Pixels) -> float:
    """Of the face (S, S, 3), shrunk, to the small one (s, s, 3): grey levels."""
    return float(np.sqrt(np.square(shrink(face, len(small)) - small).mean()))


def _both(line: Array, picture: Array) -> Array:
    """A map of lines along rows and columns: (a, b) and (b, b, 3) to (a, a, 3)."""
    found: Array = np.einsum("ai,ijc->ajc", line, picture, optimize=True)
    return np.asarray(np.einsum("bj,ajc->abc", line, found, optimize=True), np.float32)
