"""Putting a magnified face into the enlarged photo, so that no seam shows.

The face, shrunk, is the photo's own at that place, so colours and light agree at every edge; what differs is detail
alone. It fades out softly towards the borders of the aligned square, where the enlarged photo goes on.
"""

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.models.faces import SIZE, matrix, square

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]

# Ellipses in the aligned square, as shares of its side: centre x and y, half axes; and the distances from the centre, 1
# at the ellipse, between which the face fades out. INSIDE is the face itself, which no other face is laid over.
HEAD, HEAD_FADE = (0.5, 0.5, 0.49, 0.5), (0.68, 1.0)
INSIDE, INSIDE_FADE = (0.5, 0.53, 0.30, 0.40), (0.75, 1.0)
ROWS = 512  # painted at once: bounds the memory


def enlarged_transform(transform: Sequence[float], factor: int) -> tuple[float, ...]:
    """The transform to the photo's pixels as one to those of the photo enlarged by the factor."""
    a, b, x, c, d, y = (float(value) for value in transform)
    middle = (factor - 1) / 2  # pixel centres are at integers
    return a * factor, b * factor, x * factor + middle, c * factor, d * factor, y * factor + middle


def inlay_face(
    pixels: Pixels, face: Pixels, transform: Sequence[float], others: Sequence[Sequence[float]] = ()
) -> None:
    """Lays a magnified face over its place in the enlarged photo, in place.

    pixels: (H, W, 3) uint8. face: (S, S, 3) uint8, aligned. transform: from aligned 512 x 512 pixels to pixels of the
    enlarged photo; others: those of other faces in it, which stay as they are. ValueError for an unusable transform.
    """
    forward = matrix(transform)
    scale = square(transform)[2] / SIZE
    target = math.ceil(1.5 * scale * SIZE)  # half as many samples again as there are pixels: next to nothing aliases
    if target < len(face):
        face = np.asarray(Image.fromarray(face).resize((target, target), Image.Resampling.LANCZOS))
    height, width = pixels.shape[:2]
    corners = np.array([[x, y, 1] for x in (-0.5, SIZE - 0.5) for y in (-0.5, SIZE - 0.5)]) @ forward.T
    left, top = (max(0, math.floor(value)) for value in corners.min(0))
    right, bottom = (
        min(limit, math.ceil(value) + 1) for limit, value in zip((width, height), corners.max(0), strict=True)
    )
    ratio = SIZE / len(face)
    shift = ratio / 2 - 0.5
    from_face = np.column_stack([forward[:, :2] * ratio, forward[:, 2] + forward[:, :2] @ [shift, shift]])
    for rows in _strips(top, bottom):
        if left >= right:
            return
        place = pixels[rows, left:right]
        to_place = from_face.copy()
        to_place[:, 2] -= (left, rows.start)
        painted = cv2.warpAffine(
            face.astype(np.float32),
            to_place,
            place.shape[1::-1],
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        weight = _within(forward, HEAD, HEAD_FADE, rows, left, right)
        for other in others:
            weight *= 1 - _within(matrix(other), INSIDE, INSIDE_FADE, rows, left, right)
        mixed = place + weight[:, :, None] * (painted - place)
        place[:] = np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)


def _strips(top: int, bottom: int) -> Iterator[slice]:
    for start in range(top, bottom, ROWS):
        yield slice(start, min(start + ROWS, bottom))


def _within(
    forward: NDArray[np.float64],
    ellipse: tuple[float, float, float, float],
    fade: tuple[float, float],
    rows: slice,
    left: int,
    right: int,
) -> Array:
    """Of a window of the photo, 1 well within the ellipse of an aligned face to 0 outside it, float32."""
    inverse = np.linalg.inv(forward[:, :2])
    x, y = np.arange(left, right) - forward[0, 2], np.arange(rows.start, rows.stop) - forward[1, 2]
    u, v = (((inverse[i, 0] * x)[None, :] + (inverse[i, 1] * y)[:, None] + 0.5) / SIZE for i in (0, 1))
    distance = np.hypot((u - ellipse[0]) / ellipse[2], (v - ellipse[1]) / ellipse[3])
    share = np.clip((fade[1] - distance) / (fade[1] - fade[0]), 0, 1)
    return (share * share * (3 - 2 * share)).astype(np.float32)
