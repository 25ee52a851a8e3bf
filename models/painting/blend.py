"""Putting decoded faces back into the filled photo, so that no seam shows.

A decoded face has errors of colour (a tint, a little too dark on one side) and of shape (hair where the photo has a
wall). Both show at the mask's edge, where the photo's own pixels are known. Colour errors are evened out over the face:
a gain for all of it, if the whole edge agrees on one, and an offset that fades inwards. Shape errors are evened out
just at the edge, so that neither hair nor a bright wall is smeared over the face; decoded hair or background that
contradicts the photo there gives way to the fill, which continues the surroundings.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from mien.models.faces import SIZE, matrix, square
from mien.models.painting.inpaint import MARGIN, edge_distance, face_mask, membrane

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Matrix = npt.NDArray[np.float64]

# Colours are compared on a coarse grid over the aligned face and BEYOND aligned pixels around it.
CELL = 6
BEYOND = 128
GRID = (SIZE + 2 * BEYOND) // CELL
TILE = 1024  # pixels painted at once: bounds the memory of a face that fills a 100 megapixel photo

# All that follows was chosen by eye and by the error of the low frequencies on three kinds of decoded faces: originals
# of altered gamma, tint, contrast, place and sharpness; faces fitted by w alone; and other people's faces.
RING = 20.0  # width of the ring that is compared, aligned pixels
SMOOTH = 10.0  # of the differences along the ring, aligned pixels
TINT_SPREAD = 0.1  # expected size of a codec's error of colour, in octaves of light
SECTORS = 4.0  # independent parts of a whole ring
COLOUR_ERROR = 40.0  # grey levels; larger differences on the ring are errors of shape
COLOUR_REACH = 70.0  # aligned pixels inwards at which a correction has fallen to 1/e
FACE_REACH, OTHER_REACH = 10.0, 30.0  # the same for errors of shape: on the face, and on hair and background
DOUBT = 30.0  # grey levels of difference at which half of such hair and background is doubted
FADE, FADE_REACH = 3.0, 50.0  # how readily it gives way to the fill, and how far inwards
FADE_SCALE = 0.1  # photo pixels an aligned pixel below which a face is too small for that
SOFTENINGS = (0.0, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)  # standard deviations of a blur, pixels of the decoded face
DETAIL_SLACK = 1.15
ROUNDED = 4.0  # grey levels, of the colours that a new face takes over
LEAST_GAIN, MOST_GAIN = np.array([0.5, 0.2, 0.2], np.float32), np.array([1.15, 1.0, 1.0], np.float32)
# Tolerances in octaves, of colour and of brightness, by which two cells look the same.
SKIN, STRICT_SKIN, SAME, PAIR = (0.2, 1.2), (0.15, 0.6), (0.35, 0.8), (0.15, 0.5)


def needed_size(transform: Sequence[float]) -> int:
    """The smallest decoder size, 128, 256 or 512, whose pixels are about as fine as the photo's where the face goes.

    ValueError for what is no similarity.
    """
    side = square(transform)[2]
    return next((size for size in (128, 256) if side <= size * 1.1), SIZE)


def fitted(decoded: Pixels, original: Pixels) -> Pixels:
    """Another person's face with the light, the colours and the sharpness of the one whose place it takes.

    decoded, original: (S, S, 3) uint8, both aligned. Of the original, the mean and the deviation of brightness and of
    the two colour differences over the middle of the face are used (Reinhard et al., 2001, in YCbCr), and how far the
    new face must be blurred, one of SOFTENINGS, to show no more detail; all are rounded: they say nothing of who it is.
    """
    ours, theirs = (np.asarray(cv2.cvtColor(face, cv2.COLOR_RGB2YCrCb), np.float32) for face in (decoded, original))
    (mean, spread), (wanted, wanted_spread) = _statistics(ours), _statistics(theirs)
    wanted, wanted_spread = (np.rint(part / ROUNDED) * ROUNDED for part in (wanted, wanted_spread))
    gain = np.clip(wanted_spread / np.maximum(spread, 1), LEAST_GAIN, MOST_GAIN)
    toned = np.clip((ours - mean) * gain + wanted, 0, 255).astype(np.uint8)
    return softened(np.asarray(cv2.cvtColor(toned, cv2.COLOR_YCrCb2RGB), np.uint8), original)


def softened(face: Pixels, original: Pixels) -> Pixels:
    """A face, blurred by one of SOFTENINGS so that it shows no more detail than the original; both (S, S, 3) uint8."""
    detail = _detail(original) * DETAIL_SLACK
    for sigma in SOFTENINGS:
        blurred = np.asarray(cv2.GaussianBlur(face, (0, 0), sigma), np.uint8) if sigma else face
        if _detail(blurred) <= detail:
            break
    return blurred


def _middle(face: Any) -> Any:
    size = len(face)
    return face[int(0.32 * size) : int(0.88 * size), int(0.28 * size) : int(0.72 * size)]


def _statistics(face: Array) -> tuple[Array, Array]:
    """(3,) means and deviations over the middle of a face."""
    middle = _middle(face).reshape(-1, 3)
    return middle.mean(axis=0), middle.std(axis=0)


def _detail(face: Pixels) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(_middle(face), cv2.COLOR_RGB2GRAY), cv2.CV_32F).std())


def paste_face(pixels: Pixels, decoded: Pixels, transform: Sequence[float], stranger: bool = False) -> None:
    """Paint a decoded face into the filled photo, in place; several faces are painted in stored order.

    pixels: (H, W, 3) uint8, the photo as fill_faces left it, or as a codec gave it back.
    decoded: (S, S, 3) uint8, the aligned face at any size. transform: from aligned 512 x 512 to photo pixels.
    stranger: another person's, whose hair and background are never those of the photo and give way everywhere.
    Only pixels under face_mask(transform) change. ValueError for a wrong shape or dtype or an unusable transform.
    """
    if decoded.ndim != 3 or decoded.shape != (decoded.shape[0], decoded.shape[0], 3) or decoded.dtype != np.uint8:
        raise ValueError(f"a decoded face is (S, S, 3) uint8, not {decoded.shape} {decoded.dtype}")
    (rows, columns), alpha = face_mask(transform, pixels.shape[:2])
    if alpha.size == 0:
        return
    forward = matrix(transform)
    scale = math.hypot(forward[0, 0], forward[1, 0])
    gain, field = _match(pixels, decoded, forward, scale, stranger)
    # half as many samples again as the photo has pixels: then the cubic blurs nothing, and next to nothing can alias
    target = math.ceil(1.5 * scale * SIZE)
    if target < decoded.shape[0]:
        decoded = np.asarray(Image.fromarray(decoded).resize((target, target), Image.Resampling.LANCZOS))
    face = decoded.astype(np.float32) * gain
    for top in range(0, alpha.shape[0], TILE):
        for left in range(0, alpha.shape[1], TILE):
            mask = alpha[top : top + TILE, left : left + TILE]
            y, x = rows.start + top, columns.start + left
            to_tile = moved(forward, x, y)
            painted = warp(face, to_cells(to_tile, SIZE / len(face), 0), mask.shape, cv2.INTER_CUBIC)
            match = warp(field, to_cells(to_tile, CELL, BEYOND), mask.shape, cv2.INTER_LINEAR)
            place = pixels[y : y + mask.shape[0], x : x + mask.shape[1]]
            weight = (mask * match[:, :, 3])[:, :, None]
            mixed = place + weight * (painted + match[:, :, :3] - place)
            cv2.copyTo(cv2.convertScaleAbs(np.maximum(mixed, 0)), (mask > 0).view(np.uint8), place)


def warp(picture: Array, to_tile: Matrix, shape: tuple[int, ...], interpolation: int) -> Array:
    warped = cv2.warpAffine(picture, to_tile, shape[1::-1], flags=interpolation, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.float32)


def moved(forward: Matrix, x: int, y: int) -> Matrix:
    """The matrix to pixels of a window whose first pixel is (x, y)."""
    moved: Matrix = forward - np.array([[0, 0, x], [0, 0, y]])
    return moved


def to_cells(forward: Matrix, cell: float, beyond: float) -> Matrix:
    """The matrix from cells of `cell` aligned pixels, the first starting `beyond` pixels before the face."""
    shift = cell / 2 - 0.5 - beyond
    return np.column_stack([forward[:, :2] * cell, forward[:, 2] + forward[:, :2] @ [shift, shift]])


def _match(pixels: Pixels, decoded: Pixels, forward: Matrix, scale: float, stranger: bool) -> tuple[Array, Array]:
    """What makes the decoded face fit the photo around it, both float32.

    Returns a gain (3,), and on the grid (GRID, GRID, 4) the offset to add after it and the opacity.
    """
    ours, inside = photo_cells(pixels, forward, scale)
    theirs = face_cells(decoded)
    depth = _depth()
    start = (MARGIN + 1) / scale + CELL  # beyond the fill, its margin and half a cell
    ring = inside & (depth < -start) & (depth > -start - max(RING, 3 / scale))
    if not ring.any():
        return np.ones(3, np.float32), np.tile(np.array([0, 0, 0, 1], np.float32), (GRID, GRID, 1))
    gain = _gain(np.log2((ours[ring] + 8) / (theirs[ring] + 8)), skin_likeness(theirs, STRICT_SKIN)[ring])

    known = ring[:, :, None].astype(np.float32)
    smooth = cv2.GaussianBlur(np.dstack([(ours - theirs * gain) * known, known]), (0, 0), SMOOTH / CELL)
    difference = smooth[:, :, :3] / np.maximum(smooth[:, :, 3:], 1e-6) * known
    power = (difference**2).mean(axis=2, keepdims=True)
    colour = difference / (1 + (power / COLOUR_ERROR**2) ** 2)
    doubt = np.repeat(power / (power + DOUBT**2), 3, axis=2)
    # what the ring says is carried inwards, smoothly
    parts = (colour, difference - colour, doubt, theirs)
    colour, shape, doubt, outer = (membrane(np.dstack([part * known, known])) for part in parts)

    # what is no skin, but looks as the decoded face does outside the mask, is hair or background that goes on inwards
    other = (1 - skin_likeness(theirs, SKIN)) * _likeness(np.log2((theirs + 8) / (outer + 8)), SAME)
    other = np.asarray(cv2.GaussianBlur(other, (0, 0), 8 / CELL), np.float32)[:, :, None]
    inwards = np.maximum(depth, 0)[:, :, None]
    reach = FACE_REACH + (OTHER_REACH - FACE_REACH) * other
    offset = colour * np.exp(-inwards / COLOUR_REACH) + shape * np.exp(-inwards / reach)
    # the ring of a small face lies far out, so it says less
    doubted = 1 if stranger else math.exp(-FADE_SCALE / scale) * doubt[:, :, :1]
    fade = FADE * doubted * other * np.exp(-inwards / FADE_REACH)
    return gain, np.dstack([offset, 1 - np.minimum(fade, 1)]).astype(np.float32)


@cache
def places() -> Array:
    """(GRID,) aligned coordinates of the cells' middles."""
    return ((np.arange(GRID) + 0.5) * CELL - BEYOND - 0.5).astype(np.float32)


@cache
def _depth() -> Array:
    """(GRID, GRID) aligned pixels from the mask's edge inwards, negative outside."""
    place = places()
    inside = (edge_distance(place[None, :], place[:, None]) > 0).view(np.uint8)
    near, far = (cv2.distanceTransform(part, cv2.DIST_L2, 5) for part in (inside, 1 - inside))
    return np.asarray((near - far - np.where(inside, 0.5, -0.5)) * CELL, np.float32)


def photo_cells(pixels: Pixels, forward: Matrix, scale: float) -> tuple[Array, Flags]:
    """The photo on the grid, (GRID, GRID, 3) float32 means over the cells, and which cells lie inside it."""
    height, width = pixels.shape[:2]
    to_photo = to_cells(forward, CELL, BEYOND)
    x, y = (row[0] * np.arange(GRID)[None, :] + row[1] * np.arange(GRID)[:, None] + row[2] for row in to_photo)
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    if not inside.any():
        return np.zeros((GRID, GRID, 3), np.float32), inside
    left, right = max(0, int(x.min()) - 2), min(width, int(x.max()) + 3)
    top, bottom = max(0, int(y.min()) - 2), min(height, int(y.max()) + 3)
    part = pixels[top:bottom, left:right]
    # large photos are averaged first, over nearly a cell
    shrink = max(1, int(scale * CELL))
    size = max(1, part.shape[1] // shrink), max(1, part.shape[0] // shrink)
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    factor = np.array([[size[0] / part.shape[1]], [size[1] / part.shape[0]]])
    to_small = moved(to_photo, left, top) * factor
    to_small[:, 2:] += factor / 2 - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cells = cv2.warpAffine(small, to_small, (GRID, GRID), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return cells.astype(np.float32), inside


def face_cells(decoded: Pixels) -> Array:
    """The decoded face on the grid, (GRID, GRID, 3) float32; its border is repeated outwards."""
    size = SIZE // 4
    small = cv2.resize(decoded, (size, size), interpolation=cv2.INTER_AREA)
    to_small = to_cells(np.array([[0.25, 0, -0.375], [0, 0.25, -0.375]]), CELL, BEYOND)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(small, to_small, (GRID, GRID), flags=flags, borderMode=cv2.BORDER_REPLICATE).astype(
        np.float32
    )


def skin_likeness(theirs: Array, tolerance: tuple[float, float]) -> Array:
    """(GRID, GRID), 0 to 1: how much each cell looks like the skin in the middle of the decoded face."""
    place = places()
    middle = ((place > 150) & (place < 360))[None, :] & ((place > 250) & (place < 400))[:, None]
    tone = np.log2(theirs + 8)
    return _likeness(tone - np.median(tone[middle], axis=0), tolerance)


def _gain(pairs: Array, skin: Array) -> Array:
    """(3,) how much brighter the photo is than the decoded face, from the ring's cells; skin counts most.

    pairs: (N, 3) octaves. The less the cells agree, the nearer to 1: their errors are then their own, not the face's.
    """
    gain = np.zeros(3, np.float32)
    for _ in range(3):
        trust = (skin + 0.3) * _likeness(pairs - gain, PAIR)
        total = trust.sum() + 1e-6
        gain = (trust[:, None] * pairs).sum(axis=0) / total
    spread = (trust[:, None] * (pairs - gain) ** 2).sum() / total / 3
    error = spread / (SECTORS * total / len(trust))
    gain *= TINT_SPREAD**2 / (TINT_SPREAD**2 + error)
    return np.exp2(np.clip(gain, -0.5, 0.5)).astype(np.float32)


def _likeness(difference: Array, tolerance: tuple[float, float]) -> Array:
    """(...,) 0 to 1 from (..., 3) differences in octaves, and the tolerances for colour and for brightness."""
    mean = difference.mean(axis=-1)
    colour = ((difference - mean[..., None]) ** 2).sum(axis=-1)
    return np.asarray(np.exp(-colour / tolerance[0] ** 2 - (mean / tolerance[1]) ** 2), np.float32)
