"""Outlines in aligned faces: MediaPipe's oval, from below the hairline along the cheeks to the chin; masks of them."""

import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from mien.models.faces import matrix
from mien.models.painting.blend import BEYOND, CELL, GRID, Array, Matrix, moved, places, to_cells, warp
from mien.models.painting.inpaint import MARGIN, Mask, Window, window_of

Points = npt.NDArray[np.float64]


def outline_mask(transform: Sequence[float], outline: Points, shape: tuple[int, int]) -> Mask:
    """What lies within the outline: the window, and 1 inside, 0 outside, float32.

    shape: height and width of the photo. A margin of MARGIN pixels is for the fill to add, as for face_mask.
    """
    window, inside = _inside(matrix(transform), outline, _depth(outline), shape)
    return window, (inside > 0).astype(np.float32)


def _depth(outline: Points) -> Array:
    """(GRID, GRID) aligned pixels from the outline inwards, negative outside."""
    return _depth_of(outline.astype(np.float64).tobytes())


@functools.lru_cache(maxsize=256)  # a photo's masks are asked for when it is filled, painted, and verified
def _depth_of(outline_bytes: bytes) -> Array:
    outline = np.frombuffer(outline_bytes).reshape(-1, 2)
    points = np.stack(np.meshgrid(places(), places()), axis=-1).reshape(-1, 1, 2).astype(np.float64)
    start, end = outline[None], np.roll(outline, -1, axis=0)[None]
    along, to_point = end - start, points - start
    share = np.clip((to_point * along).sum(2) / np.maximum((along**2).sum(2), 1e-9), 0, 1)
    distance = np.sqrt(((to_point - share[:, :, None] * along) ** 2).sum(2)).min(1)
    # even-odd rule
    crosses = (start[:, :, 1] > points[:, :, 1]) != (end[:, :, 1] > points[:, :, 1])
    rise = np.where(along[:, :, 1] == 0, 1, along[:, :, 1])
    left = points[:, :, 0] < along[:, :, 0] * to_point[:, :, 1] / rise + start[:, :, 0]
    inside = (crosses & left).sum(1) % 2 == 1
    return np.where(inside, distance, -distance).reshape(GRID, GRID).astype(np.float32)


def _inside(forward: Matrix, outline: Points, depth: Array, shape: tuple[int, int]) -> tuple[Window, Array]:
    """Photo pixels from the edge inwards, of all that is filled, in a window."""
    scale, room = math.hypot(forward[0, 0], forward[1, 0]), MARGIN + 1.0
    points = outline @ forward[:, :2].T + forward[:, 2]
    window = window_of(points.min(axis=0) - room, points.max(axis=0) + room, shape)
    rows, columns = window
    size = rows.stop - rows.start, columns.stop - columns.start
    if 0 in size:
        return window, np.zeros(size, np.float32)
    to_grid = to_cells(moved(forward, columns.start, rows.start), CELL, BEYOND)
    return window, warp(depth, to_grid, size, cv2.INTER_LINEAR) * np.float32(scale) + MARGIN
