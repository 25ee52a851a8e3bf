"""A photo at several sizes, cut into overlapping tiles, and the faces found in them merged into one list."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from mien.models.faces.same_face import same_faces

THINNEST = 16  # pixels; neither model finds faces in less


class Tile(NamedTuple):
    """A part of a level: its left, top, width and height in pixels of the level."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Level:
    """The photo at one size.

    pixels: (h, w, 3) uint8. scale_x, scale_y: pixels of the level per pixel of the photo.
    """

    pixels: npt.NDArray[np.uint8]
    scale_x: float
    scale_y: float


@dataclass(frozen=True)
class Found:
    """Boxes found, in photo pixels.

    boxes: (N, 4) float64, x, y, width, height. scores: (N,) float64. cut: (N,) bool, touches a tile's border inside the
    photo and may be a part of a face.
    """

    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    cut: npt.NDArray[np.bool_]

    @staticmethod
    def joined(parts: "list[Found]") -> "Found":
        """All in one; of none, an empty one."""
        if not parts:
            return Found(np.zeros((0, 4)), np.zeros(0), np.zeros(0, bool))
        return Found(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.cut for part in parts]),
        )


def enlarged(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A small photo larger, for its small faces: at most twice and to 2.5 megapixels, or 4 times and to 640 pixels."""
    height, width = pixels.shape[:2]
    factor = max(min(2.0, (2.5e6 / (width * height)) ** 0.5), min(4.0, 640 / max(width, height)))
    if factor <= 1:
        return pixels
    size = (round(width * factor), round(height * factor))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def reduced(pixels: npt.NDArray[np.uint8], most_pixels: float) -> Level:
    """The photo as it is, or reduced to at most so many pixels."""
    height, width = pixels.shape[:2]
    factor = (most_pixels / (width * height)) ** 0.5
    if factor >= 1:
        return Level(pixels, 1.0, 1.0)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return Level(small, size[0] / width, size[1] / height)


def pyramid(pixels: npt.NDArray[np.uint8], smallest: int, most_pixels: float = math.inf) -> Iterator[Level]:
    """The photo at 1, 1/2, 1/4, ... of its size, down to the first level no longer than `smallest` on its long side.

    The first has at most so many pixels; a larger photo is reduced to it.
    It ends before a level is too thin for a face, which bounds the work on extreme shapes.
    """
    height, width = pixels.shape[:2]
    level = reduced(pixels, most_pixels).pixels
    while min(level.shape[:2]) >= THINNEST:
        h, w = level.shape[:2]
        yield Level(level, w / width, h / height)
        if max(h, w) <= smallest:
            return
        level = np.asarray(
            cv2.resize(level, (max(1, (w + 1) // 2), max(1, (h + 1) // 2)), interpolation=cv2.INTER_AREA), np.uint8
        )


def tiles(width: int, height: int, size: int, overlap: int) -> Iterator[Tile]:
    """Tiles of at most size x size that cover width x height, neighbours sharing at least `overlap` pixels."""
    for y, h in _spans(height, size, overlap):
        for x, w in _spans(width, size, overlap):
            yield Tile(x, y, w, h)


def _spans(length: int, size: int, overlap: int) -> list[tuple[int, int]]:
    if length <= size:
        return [(0, length)]
    count = -(-(length - overlap) // (size - overlap))
    span = min(size, -(-(length + (count - 1) * overlap) // count))
    return [(round(i * (length - span) / (count - 1)), span) for i in range(count)]


def windows(level: Level, places: npt.NDArray[np.float64], size: int, margin: int) -> list[Tile]:
    """Tiles of at most size x size that hold each place, (N, 4) boxes in photo pixels, with a margin around it.

    Windows are joined where one costs less than two. Sides are multiples of 32 where the level has room for it.
    """
    height, width = level.pixels.shape[:2]
    boxes: list[tuple[int, int, int, int]] = []
    for left, top, w, h in (places * np.array([level.scale_x, level.scale_y] * 2)).tolist():
        x0, x1 = _widened(left - margin, left + w + margin, width)
        y0, y1 = _widened(top - margin, top + h + margin, height)
        box = (x0, y0, x1, y1)
        while (
            other := next((one for one in boxes if _area(_around(one, box)) <= _area(one) + _area(box)), None)
        ) is not None:
            boxes.remove(other)
            box = _around(other, box)
        boxes.append(box)
    found = []
    for x0, y0, x1, y1 in boxes:
        found += [Tile(x0 + x, y0 + y, w, h) for x, y, w, h in tiles(x1 - x0, y1 - y0, size, 2 * margin)]
    return found


def _widened(low: float, high: float, length: int) -> tuple[int, int]:
    first, last = max(0, math.floor(low)), min(length, math.ceil(high))
    last = min(length, last + -(last - first) % 32)
    return max(0, first - -(last - first) % 32), last


def _around(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def _area(box: tuple[int, int, int, int]) -> int:
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])


def located(
    level: Level, tile: Tile, overlap: int, boxes: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]
) -> Found:
    """What was found in a tile (boxes in its pixels) in photo pixels, with what its inner borders may have cut.

    A box whose middle is within half the overlap of an inner border is left to the neighbour, which sees more of it.
    """
    height, width = level.pixels.shape[:2]
    inner = np.array(
        [tile.x > 0, tile.y > 0, tile.x + tile.width < width, tile.y + tile.height < height]
    )  # left, top, right, bottom
    distances = np.concatenate([boxes[:, :2], [tile.width, tile.height] - boxes[:, :2] - boxes[:, 2:]], 1)
    middles = distances + np.tile(boxes[:, 2:] / 2, 2)
    own = ~np.any(inner & (middles < overlap / 2), axis=1)
    cut = np.any(inner & (distances < 0.02 * max(tile.width, tile.height)), axis=1)
    scale = np.array([level.scale_x, level.scale_y, level.scale_x, level.scale_y])
    return Found(((boxes + np.array([tile.x, tile.y, 0, 0])) / scale)[own], scores[own], cut[own])


def merge(found: Found) -> Found:
    """Of boxes of one face the best (non-maximum suppression): the highest score, where that of a cut box counts half.

    The result does not depend on the order given.
    """
    rank = np.where(found.cut, found.scores / 2, found.scores)
    boxes = found.boxes
    order = np.lexsort((boxes[:, 2], boxes[:, 1], boxes[:, 0], -rank))
    boxes = boxes[order]
    alive = boxes[:, 2] * boxes[:, 3] > 0
    keep = []
    for i in range(len(boxes)):
        if alive[i]:
            keep.append(order[i])
            alive &= ~same_faces(boxes[i], boxes)
    return Found(found.boxes[keep], found.scores[keep], found.cut[keep])
