"""When two boxes (x, y, width, height) are of one face: the one rule for detection, verification and the audit; and
when two of the recogniser's embeddings are of one person."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Two boxes are of one face where they share this much of their union, or this much of the smaller one when that is at
# least a quarter of the other (a part of a face beside the whole): a smaller box within a larger one is another face,
# such as a child's before a parent's or one that is printed on a shirt. The closest pair of different faces among the
# 480 in tests/data/faces.json shares 0.30 and 0.64.
SAME_UNION = 0.4
SAME_PART = 0.7
PART_AREA = 0.25
ACROSS = 0.4  # of the smaller box: less than of one face's, more than of most faces side by side
SAME_PERSON = 0.52  # cosine; at it one of 1,000 pairs of different people is taken for the same


def same_face(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two boxes are of one face, told by the boxes alone."""
    return bool(same_faces(one, np.array([other], np.float64))[0])


def same_faces(
    one: Sequence[float] | npt.NDArray[np.float64], others: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Which of the boxes (N, 4) are of the same face as this one, (N,) bool. A box without an area is no face."""
    shared, area, areas = _shared(one, others)
    small, large = np.minimum(area, areas), np.maximum(area, areas)
    part = (shared > SAME_PART * small) & (small >= PART_AREA * large)
    found: npt.NDArray[np.bool_] = (shared > SAME_UNION * (area + areas - shared)) | part
    return found


def lies_across(one: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> bool:
    """Whether this box and one of the boxes (N, 4) of about its size share ACROSS of the smaller one."""
    shared, area, areas = _shared(one, others)
    small, large = np.minimum(area, areas), np.maximum(area, areas)
    return bool(((shared > ACROSS * small) & (small >= PART_AREA * large)).any())


def shared_of_union(
    one: Sequence[float] | npt.NDArray[np.float64], others: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """What this box shares with each of the boxes (N, 4) as a part of their union, (N,) float64 from 0 to 1."""
    shared, area, areas = _shared(one, others)
    union = area + areas - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def same_places(boxes: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> dict[int, int]:
    """For the boxes (N, 4) of one search their faces among the boxes (M, 4) of another: {index: index}.

    The pair that shares most of its union comes first; no box is in two pairs, and boxes of different faces are in
    none.
    """
    pairs = []
    for i, box in enumerate(boxes):
        union = shared_of_union(box, others)
        pairs += [(-union[j], i, int(j)) for j in np.flatnonzero(same_faces(box, others))]
    found: dict[int, int] = {}
    for _, i, j in sorted(pairs):
        if i not in found and j not in found.values():
            found[i] = j
    return found


def same_square(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two faces that are aligned to these squares (mien.models.faces.alignment.square) are one: detectors
    give a face that fills the frame boxes so different that they pass for several faces."""
    (x, y, side, _), (other_x, other_y, other_side, _) = one, other
    return math.hypot(x - other_x, y - other_y) < 0.1 * other_side and 0.8 < side / other_side < 1.25


def mostly_within(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether most of the smaller box lies in the other, whatever their sizes: they may be of different faces."""
    shared, area, areas = _shared(one, np.array([other], np.float64))
    return bool(shared[0] > SAME_PART * min(area, areas[0]))


def _shared(
    one: Sequence[float] | npt.NDArray[np.float64], others: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], float, npt.NDArray[np.float64]]:
    """Pixels that this box shares with each of the others, its own area and theirs."""
    x, y, w, h = one
    others = others.reshape(-1, 4)
    width = np.minimum(others[:, 0] + others[:, 2], x + w) - np.maximum(others[:, 0], x)
    height = np.minimum(others[:, 1] + others[:, 3], y + h) - np.maximum(others[:, 1], y)
    return np.clip(width, 0, None) * np.clip(height, 0, None), w * h, others[:, 2] * others[:, 3]
