"""A new face, drawn with its surroundings, joined into the photo whose face it replaces.

What was drawn around the face fits the photo already (models/privacy/new_person.py): hair, ears, neck and wall go on.
Colours are evened out by the differences in the ring where both are seen, and within the ring the new face fades into
the photo along the line on which the two differ least: along the brim of a hat that was not drawn, say.
"""

import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from mien.models.faces import SIZE, matrix
from mien.models.painting import Array, Pixels, moved, softened, to_cells, warp, window_of
from mien.models.privacy.new_person import JOIN, face_part, join_part

COARSE = 128  # pixels of the aligned square in which colours are compared
BROAD, NARROW = 12.0, 4.0  # deviations of the blurs that carry differences of colour, in those pixels
# The seam: so many places around the face, in each so many from NEAREST to FARTHEST of the ellipse's radius; FADE, in
# the same unit, to both sides; what a place more or less from one to the next, and the distance from USUAL, cost.
AROUND, ACROSS, NEAREST, FARTHEST, FADE = 96, 17, 0.72, 0.92, 0.08
USUAL, STEP_COST, OFF_COST = 0.86, 2.0, 40.0
MOST_BROAD, MOST_NARROW = 24.0, 80.0  # grey levels; larger differences are differences of shape


@functools.cache
def join_outline(count: int = 36) -> npt.NDArray[np.float64]:
    """(count, 2) aligned pixels: the edge of what join() changes."""
    angle = np.arange(count) * (2 * np.pi / count)
    centre, axes = (np.array(part) * SIZE for part in JOIN)
    found: npt.NDArray[np.float64] = centre - 0.5 + np.stack([np.cos(angle), np.sin(angle)], 1) * axes
    return found


def join(
    pixels: Pixels, new: Pixels, aligned: Pixels, transform: Sequence[float], others: Sequence[Sequence[float]] = ()
) -> None:
    """Paint a new face into the photo, in place.

    pixels: (H, W, 3) uint8. new, aligned: (S, S, 3) and (512, 512, 3) uint8, the new face and the photo's own, both
    aligned. transform: from aligned pixels to the photo's. others: transforms of faces beside it, which are not painted
    over. ValueError for an unusable transform.
    """
    forward = matrix(transform)
    scale = math.hypot(forward[0, 0], forward[1, 0])
    corners = join_outline() @ forward[:, :2].T + forward[:, 2]
    rows, columns = window_of(corners.min(0), corners.max(0), (pixels.shape[0], pixels.shape[1]))
    shape = rows.stop - rows.start, columns.stop - columns.start
    if 0 in shape:
        return
    to_window = moved(forward, columns.start, rows.start)
    face = softened(new, np.asarray(cv2.resize(aligned, (len(new), len(new)), interpolation=cv2.INTER_AREA), np.uint8))
    offset = warp(_offset(new, aligned), to_cells(to_window, SIZE / COARSE, 0), shape, cv2.INTER_LINEAR)
    # as paste_face does it: then the cubic blurs nothing, and next to nothing can alias
    target = math.ceil(1.5 * scale * SIZE)
    if target < len(face):
        face = np.asarray(Image.fromarray(face).resize((target, target), Image.Resampling.LANCZOS))
    painted = warp(face.astype(np.float32), to_cells(to_window, SIZE / len(face), 0), shape, cv2.INTER_CUBIC) + offset
    alpha = _warped(_seamed(new, aligned), to_window, shape)
    core = _warped(_part(face_part), to_window, shape)
    for other in others:
        beside = _warped(_part(face_part), moved(matrix(other), columns.start, rows.start), shape)
        alpha *= 1 - beside * (1 - core)
    place = pixels[rows, columns]
    mixed = place + alpha[:, :, None] * (painted - place)
    place[:] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _part(part: object) -> Array:
    found: Array = part(COARSE)[0, 0].numpy()  # type: ignore[operator]
    return found


def _warped(part: Array, to_window: npt.NDArray[np.float64], shape: tuple[int, int]) -> Array:
    """A part of the aligned square in the window; 0 outside of the square."""
    to_part = to_cells(to_window, SIZE / COARSE, 0)
    return np.asarray(cv2.warpAffine(part, to_part, shape[1::-1], flags=cv2.INTER_LINEAR), np.float32)


def _seamed(new: Pixels, aligned: Pixels) -> Array:
    """(COARSE, COARSE) the new face's share, falling across the seam."""
    ours, theirs = _coarse(new), _coarse(aligned)
    difference = np.abs(theirs - ours - _offset(new, aligned)).mean(2)
    angle = np.arange(AROUND) * (2 * np.pi / AROUND)
    radius = np.linspace(NEAREST, FARTHEST, ACROSS)
    (cx, cy), (ax, ay) = JOIN
    x = (cx + ax * radius[:, None] * np.cos(angle)) * COARSE - 0.5
    y = (cy + ay * radius[:, None] * np.sin(angle)) * COARSE - 0.5
    ring = cv2.GaussianBlur(difference, (0, 0), 1.0)
    cost = cv2.remap(
        ring, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    seam = radius[_cheapest(cost + OFF_COST * np.abs(radius - USUAL)[:, None])]
    v, u = (np.mgrid[:COARSE, :COARSE] + 0.5) / COARSE
    turn = (np.arctan2((v - cy) / ay, (u - cx) / ax) / (2 * np.pi) * AROUND) % AROUND
    at = np.interp(turn, np.arange(AROUND + 1), np.append(seam, seam[0]))
    share = np.clip((at + FADE - np.hypot((u - cx) / ax, (v - cy) / ay)) / (2 * FADE), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def _cheapest(cost: Array) -> npt.NDArray[np.intp]:
    """(AROUND,) the way around (ACROSS, AROUND) costs that changes by at most one place a step, and costs least."""
    around, count = np.concatenate([cost, cost], 1), cost.shape[1]  # twice: the end then meets the beginning
    total, came = around[:, 0], np.zeros(around.shape, np.intp)
    for i in range(1, around.shape[1]):
        padded = np.pad(total, 1, constant_values=np.inf)
        ways = np.stack([padded[:-2] + STEP_COST, padded[1:-1], padded[2:] + STEP_COST])
        came[:, i] = ways.argmin(0) - 1
        total = ways.min(0) + around[:, i]
    way = [int(total.argmin())]
    for i in range(around.shape[1] - 1, 0, -1):
        way.append(way[-1] + int(came[way[-1], i]))
    middle = np.array(way[::-1])[count // 2 : count // 2 + count]
    return np.roll(middle, count // 2)


def _coarse(face: Pixels) -> Array:
    how = cv2.INTER_AREA if len(face) > COARSE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(face, (COARSE, COARSE), interpolation=how), np.float32)


def _offset(new: Pixels, aligned: Pixels) -> Array:
    """(COARSE, COARSE, 3) what is added to the new face: broadly everywhere, closely where it fades into the photo."""
    ours, theirs = _coarse(new), _coarse(aligned)
    inside, joined = _part(face_part), _part(join_part)
    known = np.clip((1 - inside) * joined, 1e-3, None)[:, :, None]
    difference = theirs - ours

    def carried(values: Array, sigma: float) -> Array:
        both = cv2.GaussianBlur(np.dstack([values * known, known]), (0, 0), sigma)
        return np.asarray(both[:, :, :3] / both[:, :, 3:], np.float32)

    broad = carried(np.clip(difference, -MOST_BROAD, MOST_BROAD), BROAD)
    narrow = carried(np.clip(difference - broad, -MOST_NARROW, MOST_NARROW), NARROW)
    return np.asarray(broad + narrow * (1 - inside)[:, :, None], np.float32)
