"""Another face painted within the outline of the one whose place it takes.

The outline is MediaPipe's oval: from below the hairline along the cheeks to the chin. The new face is bent so that its
own oval lies a little outside of it, so that skin meets skin, and hair, ears and neck stay those of the photo. Its
colours are carried over from the skin inside the outline (a membrane of the differences, as in Perez et al., Poisson
Image Editing, 2003, but of the logarithms, and only where both show skin). Where the photo goes on with skin beyond the
outline, as on the forehead, the new face fades out over the photo, outside; where hair or background begin there, it
fades inside, into a fill of what is around. In either case no pixel of the old face within the outline is left.
"""

import functools
import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from mien.models.faces import FEATURES, OVAL, SIZE, matrix
from mien.models.painting.blend import (
    BEYOND,
    CELL,
    GRID,
    SKIN,
    Array,
    Flags,
    Matrix,
    Pixels,
    face_cells,
    moved,
    photo_cells,
    places,
    skin_likeness,
    to_cells,
    warp,
)
from mien.models.painting.inpaint import MARGIN, Mask, Window, membrane, window_of

Points = npt.NDArray[np.float64]

# What follows, in aligned pixels, was chosen by eye on 45 new faces in six group photos.
INSET = 0.95  # of the new face's oval: that far inside it the photo's outline cuts it
STIFFNESS = 1e-3  # of the spline that bends it
FADE_OUTSIDE, FADE_TOP, FADE_JAW = 9.0, 24.0, 12.0
JAW = 330.0, 390.0  # rows between which the fade inside goes from the one width to the other
LEAST_FADE = 1.5  # photo pixels
RING, REACH = (8.0, 40.0), 120.0  # where colours are compared, and how far inwards of it they are carried
SMOOTH_RING, SMOOTH_FIELD = 20.0, 14.0
MOST_GAIN = 0.6  # octaves
BESIDE, SMOOTH_BESIDE = 22.0, 8.0  # width of the ring outside where skin is looked for
SKIN_FROM, SKIN_TO = 0.3, 0.7  # its likeness to skin from which it begins to count, and at which it is taken for skin


def outline_mask(transform: Sequence[float], outline: Points, shape: tuple[int, int]) -> Mask:
    """What lies within the outline: the window, and 1 inside, 0 outside, float32.

    shape: height and width of the photo. A margin of MARGIN pixels is for the fill to add, as for face_mask.
    """
    window, inside = _inside(matrix(transform), outline, _depth(outline), shape)
    return window, (inside > 0).astype(np.float32)


def paste_within(
    pixels: Pixels, original: Pixels, decoded: Pixels, points: Points, transform: Sequence[float], outline: Points
) -> None:
    """Paint a decoded face within the outline of the photo's own, in place.

    pixels: (H, W, 3) uint8, the photo with all under outline_mask filled. original: (H, W, 3) uint8, the photo itself;
    of the face in it only the colour of the skin along the outline is used, smoothed. decoded: (S, S, 3) uint8,
    aligned. points: (478, 2), its landmarks in aligned pixels. transform: from aligned pixels to the photo's. outline:
    from outline_of. ValueError for a wrong shape or dtype or an unusable transform.
    """
    if decoded.ndim != 3 or decoded.shape != (len(decoded), len(decoded), 3) or decoded.dtype != np.uint8:
        raise ValueError(f"a decoded face is (S, S, 3) uint8, not {decoded.shape} {decoded.dtype}")
    forward, depth = matrix(transform), _depth(outline)
    scale = math.hypot(forward[0, 0], forward[1, 0])
    (rows, columns), inside = _inside(forward, outline, depth, (pixels.shape[0], pixels.shape[1]))
    if inside.size == 0:
        return
    face = bent(decoded, points, outline)
    ours, seen = photo_cells(original, forward, scale)
    fields = np.dstack([_gains(ours, face_cells(face), seen, depth), _skin_beyond(ours, seen, depth), _fade_inside()])
    to_window = moved(forward, columns.start, rows.start)
    to_grid = to_cells(to_window, CELL, BEYOND)
    gain = warp(np.ascontiguousarray(fields[:, :, :3]), to_grid, inside.shape, cv2.INTER_LINEAR)
    skin = warp(np.ascontiguousarray(fields[:, :, 3]), to_grid, inside.shape, cv2.INTER_LINEAR)
    fade = np.maximum(
        warp(np.ascontiguousarray(fields[:, :, 4]), to_grid, inside.shape, cv2.INTER_LINEAR) * scale, LEAST_FADE
    )
    outwards = np.clip(1 + inside / max(FADE_OUTSIDE * scale, LEAST_FADE), 0, 1)
    inwards = 1 - np.clip(inside / fade, 0, 1)
    alpha = skin * outwards**2 * (3 - 2 * outwards) + (1 - skin) * (1 - inwards**2)

    # as paste_face does it: then the cubic blurs nothing, and next to nothing can alias
    target = math.ceil(1.5 * scale * SIZE)
    if target < len(face):
        face = np.asarray(Image.fromarray(face).resize((target, target), Image.Resampling.LANCZOS))
    painted = warp(face.astype(np.float32), to_cells(to_window, SIZE / len(face), 0), inside.shape, cv2.INTER_CUBIC)
    place = pixels[rows, columns]
    mixed = place + alpha[:, :, None] * ((painted + 8) * gain - 8 - place)
    place[:] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def bent(decoded: Pixels, points: Points, outline: Points) -> Pixels:
    """A decoded face (S, S, 3) with its oval, INSET, on the outline, and its features where they are.

    points: (478, 2), outline: (36, 2), both in aligned pixels.
    """
    oval = points[list(OVAL)]
    middle = oval.mean(0)
    features = points[list(FEATURES)]
    source = _spline(np.concatenate([outline, features]), np.concatenate([middle + (oval - middle) * INSET, features]))
    size, step = len(decoded), 16
    coarse = np.arange(-step, SIZE + 2 * step, step, dtype=np.float64)
    from_grid = source(np.stack(np.meshgrid(coarse, coarse), axis=-1).reshape(-1, 2))
    place = ((np.arange(size) + 0.5) * (SIZE / size) - 0.5 + step) / step
    x, y = np.meshgrid(place.astype(np.float32), place.astype(np.float32))
    field = cv2.remap(from_grid.reshape(len(coarse), -1, 2).astype(np.float32), x, y, cv2.INTER_CUBIC)
    field = (field + 0.5) * (size / SIZE) - 0.5
    return np.asarray(
        cv2.remap(decoded, field[:, :, 0], field[:, :, 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _spline(places: Points, values: Points) -> Callable[[Points], Points]:
    """The thin plate spline (Bookstein, 1989) that takes the places to the values, both (N, 2) aligned pixels."""

    def radial(points: Points) -> Points:
        square = ((points[:, None] - places[None]) ** 2).sum(2) / SIZE**2
        found: Points = square * np.log(square + 1e-12)
        return found

    count = len(places)
    plane = np.column_stack([np.ones(count), places / SIZE])
    system = np.block([[radial(places) + STIFFNESS * np.eye(count), plane], [plane.T, np.zeros((3, 3))]])
    weights = np.linalg.solve(system, np.concatenate([values - places, np.zeros((3, 2))]))

    def moved_by(points: Points) -> Points:
        found: Points = points + radial(points) @ weights[:count]
        return found + np.column_stack([np.ones(len(points)), points / SIZE]) @ weights[count:]

    return moved_by


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
    """Photo pixels from the edge inwards, of all that is filled, in a window with room for what fades outside."""
    scale = math.hypot(forward[0, 0], forward[1, 0])
    room = MARGIN + max(FADE_OUTSIDE * scale, LEAST_FADE)
    points = outline @ forward[:, :2].T + forward[:, 2]
    window = window_of(points.min(axis=0) - room, points.max(axis=0) + room, shape)
    rows, columns = window
    size = rows.stop - rows.start, columns.stop - columns.start
    if 0 in size:
        return window, np.zeros(size, np.float32)
    to_grid = to_cells(moved(forward, columns.start, rows.start), CELL, BEYOND)
    return window, warp(depth, to_grid, size, cv2.INTER_LINEAR) * np.float32(scale) + MARGIN


def _fade_inside() -> Array:
    """(GRID, GRID) aligned pixels over which the face fades inside."""
    low = np.clip((places() - JAW[0]) / (JAW[1] - JAW[0]), 0, 1)
    return np.repeat((FADE_TOP + (FADE_JAW - FADE_TOP) * low)[:, None], GRID, axis=1).astype(np.float32)


def _gains(ours: Array, theirs: Array, seen: Flags, depth: Array) -> Array:
    """(GRID, GRID, 3) factors for the new face: the photo's skin over the face's along the outline, carried inwards."""
    ring = seen & (depth > RING[0]) & (depth < RING[1])
    weight = ring * skin_likeness(ours, SKIN) * skin_likeness(theirs, SKIN)
    octaves = np.log2((ours + 8) / (theirs + 8)) * weight[:, :, None]
    smooth = cv2.GaussianBlur(np.dstack([octaves, weight]).astype(np.float32), (0, 0), SMOOTH_RING / CELL)
    known = (ring & (smooth[:, :, 3] > 0.03)).astype(np.float32)[:, :, None]
    if not known.any():
        return np.ones((GRID, GRID, 3), np.float32)
    found = np.clip(smooth[:, :, :3] / np.maximum(smooth[:, :, 3:], 1e-6), -MOST_GAIN, MOST_GAIN)
    field = cv2.GaussianBlur(membrane(np.dstack([found * known, known])), (0, 0), SMOOTH_FIELD / CELL)
    inwards = np.exp(-np.maximum(depth - RING[1], 0) / REACH)[:, :, None]
    return np.exp2(field * inwards).astype(np.float32)


def _skin_beyond(ours: Array, seen: Flags, depth: Array) -> Array:
    """(GRID, GRID) 0 to 1: whether the photo goes on with skin outside the outline, carried inwards."""
    ring = (seen & (depth < 0) & (depth > -BESIDE)).astype(np.float32)
    if not ring.any():
        return np.zeros((GRID, GRID), np.float32)
    parts = np.dstack([skin_likeness(ours, SKIN) * ring, ring])
    smooth = cv2.GaussianBlur(parts, (0, 0), SMOOTH_BESIDE / CELL)
    likeness = (smooth[:, :, 0] / np.maximum(smooth[:, :, 1], 1e-6) * ring)[:, :, None]
    field = membrane(np.dstack([np.repeat(likeness, 3, axis=2), ring]))[:, :, 0]
    return np.clip((field - SKIN_FROM) / (SKIN_TO - SKIN_FROM), 0, 1).astype(np.float32)
