"""The masks of faces in a photo, and the photo without what lies under them.

The shape of a face's mask is fixed in the aligned 512 x 512 space, so that the transform alone rebuilds it: restoring
needs no landmarks, and the pixels that fill_faces removed are exactly those that paste_face may paint.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from mien.models.faces import matrix

Pixels = npt.NDArray[np.uint8]
Alpha = npt.NDArray[np.float32]
Field = npt.NDArray[np.float32]
Window = tuple[slice, slice]
Mask = tuple[Window, Alpha]
Hole = tuple[Window, npt.NDArray[np.bool_]]

SQUARENESS = 0.3  # 0 an ellipse, 1 a rectangle (the square of Fernandez-Guasti's s)
FEATHER = 0.06  # width of the ramp inside the edge, as a share of the radius

MARGIN = 1  # pixels around a mask that are replaced too: another machine may round a mask's edge to the other side
NEUTRAL = 128
CELLS = 96  # cells across the widest face of a group: the membrane is smooth, so it is solved on a coarse grid
MAX_CELLS = 400_000  # a group's grid; bounds the time for a crowd whose masks all touch
RELAXATIONS = 12


@dataclass(frozen=True)
class Egg:
    """The outline of a mask, in aligned pixels: its centre (x, y), and from there to the sides, upwards, downwards."""

    centre: tuple[float, float]
    half_width: float
    rise: float
    drop: float


# Over 401 aligned training faces (MediaPipe's landmarks) the middle of the forehead's upper edge lies at
# y 140 +- 8, the chin at 482 +- 13 (98 %: 506), the cheeks at x 116 and 403 (+- 25).
FACE_EGG = Egg((255.5, 285.0), 168.0, 200.0, 213.0)
# With hair, ears and neck: by eye, over the same faces; it reaches beyond the aligned square.
HEAD_EGG = Egg((255.5, 270.0), 262.0, 320.0, 330.0)
# The same for a face of which only the box is known: its middle as a share of the box's height, then the radii as
# shares of width and height. Detectors' boxes run from the eyebrows to the chin and from cheek to cheek: more is wanted
# above than below.
BOX = {FACE_EGG: (0.42, 0.8, 0.9), HEAD_EGG: (0.4, 1.3, 1.4)}


def edge_distance(
    u: npt.NDArray[np.float32], v: npt.NDArray[np.float32], egg: Egg = FACE_EGG
) -> npt.NDArray[np.float32]:
    """How far aligned positions (u, v) lie inside the mask's edge: 1 at the centre, 0 on the edge, negative outside.

    u, v: aligned 512 x 512 pixel coordinates, float32, broadcast against each other.
    """
    p = (u - np.float32(egg.centre[0])) / np.float32(egg.half_width)
    q = v - np.float32(egg.centre[1])
    q = np.where(q < 0, q / np.float32(egg.rise), q / np.float32(egg.drop))
    p, q = p * p, q * q
    # beyond 1 the square's own curve turns back, so there the ellipse's distance is enough to be outside
    bend = np.minimum(p, 1) * np.minimum(q, 1) * np.float32(SQUARENESS)
    distance: npt.NDArray[np.float32] = 1 - np.sqrt(p + q - bend)
    return distance


def outline(count: int = 256, egg: Egg = FACE_EGG) -> npt.NDArray[np.float64]:
    """(count, 2) float64 points on the edge of the mask in aligned coordinates, at equal angles about its centre."""
    angle = np.arange(count) * (2 * np.pi / count)
    x, y = np.cos(angle), np.sin(angle)
    p, q = (x / egg.half_width) ** 2, (y / np.where(y < 0, egg.rise, egg.drop)) ** 2
    # the radius r solves r^2 (p + q) - r^4 k p q = 1
    square = 2 / (p + q + np.sqrt((p + q) ** 2 - 4 * SQUARENESS * p * q))
    points: npt.NDArray[np.float64] = np.stack([x, y], axis=1) * np.sqrt(square)[:, None] + egg.centre
    return points


def face_mask(transform: Sequence[float], shape: tuple[int, int], egg: Egg = FACE_EGG) -> Mask:
    """The feathered mask of one aligned face, or of its head.

    transform: six floats, row-major 2 x 3, from aligned 512 x 512 pixels to photo pixels.
    shape: height and width of the photo in pixels.
    Returns the window of the photo that holds every pixel under the mask (empty if the face lies outside the photo) and
    the mask in it, float32: 1 inside, 0 outside, falling inside the edge. ValueError for an unusable transform.
    """
    forward = matrix(transform)
    points = outline(egg=egg) @ forward[:, :2].T + forward[:, 2]
    window = window_of(points.min(axis=0), points.max(axis=0), shape)
    inverse = np.linalg.inv(forward[:, :2])
    shift = -inverse @ forward[:, 2]
    x = np.arange(window[1].start, window[1].stop)
    y = np.arange(window[0].start, window[0].stop)
    alpha = np.empty((len(y), len(x)), np.float32)
    step = max(1, (1 << 20) // max(1, len(x)))  # rows at once: a face may fill a 100 megapixel photo
    across = (inverse[:, :1] * x + shift[:, None]).astype(np.float32)
    for top in range(0, len(y), step):
        down = (inverse[:, 1:] * y[top : top + step]).astype(np.float32)
        u, v = (across[i][None, :] + down[i][:, None] for i in (0, 1))
        alpha[top : top + step] = _ramp(edge_distance(u, v, egg))
    return window, alpha


def box_mask(box: Sequence[float], shape: tuple[int, int], egg: Egg = FACE_EGG) -> Mask:
    """The mask of a face that could not be aligned, or of its head: an ellipse well around its box.

    box: x, y, width, height in photo pixels. shape, result: as for face_mask. ValueError for a box that is not finite.
    """
    left, top, width, height = (float(value) for value in box)
    if not np.isfinite([left, top, width, height]).all():
        raise ValueError(f"not a box: {tuple(box)}")
    middle, across, down = BOX[egg]
    centre = np.array([left + width / 2, top + height * middle])
    radius = np.maximum([width * across, height * down], 2.0)
    window = window_of(centre - radius, centre + radius, shape)
    x = (np.arange(window[1].start, window[1].stop, dtype=np.float32) - np.float32(centre[0])) / np.float32(radius[0])
    y = (np.arange(window[0].start, window[0].stop, dtype=np.float32) - np.float32(centre[1])) / np.float32(radius[1])
    return window, _ramp(1 - np.sqrt(x[None, :] ** 2 + y[:, None] ** 2))


def rectangle_mask(box: Sequence[float], shape: tuple[int, int]) -> Mask:
    """The mask of a whole box: x, y, width, height in photo pixels. shape, result, errors: as for box_mask."""
    left, top, width, height = (float(value) for value in box)
    if not np.isfinite([left, top, width, height]).all():
        raise ValueError(f"not a box: {tuple(box)}")
    window = window_of(np.array([left, top]), np.array([left + width, top + height]), shape)
    size = window[0].stop - window[0].start, window[1].stop - window[1].start
    return window, np.ones(size, np.float32)


def window_of(low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], shape: tuple[int, int]) -> Window:
    """Rows and columns of a photo from low (x, y) to high, one pixel more on each side, cut to the photo."""
    edges = np.stack([np.floor(low) - 1, np.ceil(high) + 2])
    (x0, y0), (x1, y1) = np.clip(edges, 0, [shape[1], shape[0]]).astype(int)
    return slice(int(y0), int(y1)), slice(int(x0), int(x1))


def _ramp(distance: npt.NDArray[np.float32]) -> Alpha:
    """Mask from the distance inside the edge: steep at the edge, where the blurred fill would show, smooth inside."""
    rest = 1 - np.clip(distance / np.float32(FEATHER), 0, 1)
    alpha: Alpha = 1 - rest * rest * rest
    return alpha


def painted_over(masks: Sequence[Mask], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(height, width) bool: the pixels that fill_faces() replaces in a photo of this shape."""
    under = np.zeros(shape, np.uint8)
    for window, alpha in masks:
        under[window] |= (alpha > 0).view(np.uint8)
    return cv2.dilate(under, np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), np.uint8)) > 0


def fill_faces(pixels: Pixels, masks: Sequence[Mask]) -> Pixels:
    """The photo with every pixel under a mask, and MARGIN pixels around, replaced from the ring around it.

    pixels: (H, W, 3) uint8. masks: from face_mask and box_mask for this photo's shape. Returns a new array.
    The fill is a membrane (Laplace's equation) over what is known around the union of touching masks. It depends on no
    pixel that it replaces, under whichever mask; where nothing is known at all it is NEUTRAL.
    """
    filled = pixels.copy()
    holes = [hole_of(mask, pixels.shape[:2]) for mask in masks]
    for members in _groups([window for window, _ in holes]):
        _fill_group(filled, [holes[i] for i in members])
    return filled


def hole_of(mask: Mask, shape: tuple[int, ...]) -> Hole:
    """What a mask replaces, in a window with room for a ring of known pixels, as far as the photo reaches."""
    (rows, columns), alpha = mask
    inside = alpha > 0
    if alpha.size == 0:
        return (rows, columns), inside
    pad = MARGIN + 4 + max(alpha.shape) // 16
    top, left = min(pad, rows.start), min(pad, columns.start)
    bottom, right = min(pad, shape[0] - rows.stop), min(pad, shape[1] - columns.stop)
    window = slice(rows.start - top, rows.stop + bottom), slice(columns.start - left, columns.stop + right)
    wide = np.pad(inside, ((top, bottom), (left, right)))
    kernel = np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), np.uint8)
    return window, cv2.dilate(wide.view(np.uint8), kernel).view(np.bool_)


def _groups(windows: Sequence[Window]) -> list[list[int]]:
    """Indices of windows, joined where windows overlap, directly or over others; empty windows are left out."""
    boxes = np.array([(r.start, r.stop, c.start, c.stop) for r, c in windows], dtype=int).reshape(-1, 4)
    waiting = [i for i, (y0, y1, x0, x1) in enumerate(boxes) if y1 > y0 and x1 > x0]
    groups: list[list[int]] = []
    while waiting:
        group = [waiting.pop(0)]
        for i in group:  # grows while it is walked
            y0, y1, x0, x1 = boxes[i]
            near = boxes[waiting]
            hit = (near[:, 0] < y1) & (near[:, 1] > y0) & (near[:, 2] < x1) & (near[:, 3] > x0)
            group += [j for j, touches in zip(waiting, hit, strict=True) if touches]
            waiting = [j for j, touches in zip(waiting, hit, strict=True) if not touches]
        groups.append(sorted(group))
    return groups


def _fill_group(filled: Pixels, holes: Sequence[Hole]) -> None:
    """Fill, in place, the union of masks whose windows hang together."""
    top, bottom = min(w[0].start for w, _ in holes), max(w[0].stop for w, _ in holes)
    left, right = min(w[1].start for w, _ in holes), max(w[1].stop for w, _ in holes)
    # known is what lies in a member's window and under no mask: other groups' masks meet none of these windows
    known = np.zeros((bottom - top, right - left), np.bool_)
    places = [(_moved(rows, -top), _moved(columns, -left)) for (rows, columns), _ in holes]
    for place in places:
        known[place] = True
    for place, (_, inside) in zip(places, holes, strict=True):
        known[place] &= ~inside
    if not known.any():
        filled[top:bottom, left:right] = NEUTRAL
        return
    widest = max(max(inside.shape) for _, inside in holes)
    cell = max(1, widest // CELLS, int(np.ceil(np.sqrt(known.size / MAX_CELLS))))
    field = np.zeros((-(-known.shape[0] // cell), -(-known.shape[1] // cell), 4), np.float32)
    photo = filled[top:bottom, left:right]
    for rows, columns in places:
        r0, r1, c0, c1 = rows.start // cell, -(-rows.stop // cell), columns.start // cell, -(-columns.stop // cell)
        area = slice(r0 * cell, r1 * cell), slice(c0 * cell, c1 * cell)
        field[r0:r1, c0:c1] = shrink_known(photo[area], known[area], (r1 - r0, c1 - c0), cell)
    smooth = membrane(_ring(field))
    for place, (_, inside) in zip(places, holes, strict=True):
        cv2.copyTo(_enlarge(smooth, place, cell), inside.view(np.uint8), photo[place])


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


def shrink_known(photo: Pixels, known: npt.NDArray[np.bool_], cells: tuple[int, int], cell: int) -> Field:
    """Cells of cell x cell pixels: mean colour of the known pixels times their share, and that share (channel 3)."""
    share = known.view(np.uint8)
    # unknown pixels are cut out before any arithmetic; past the photo's end nothing is known
    missing = cells[0] * cell - known.shape[0], cells[1] * cell - known.shape[1]
    parts = []
    for part in (cv2.copyTo(photo, share), share * np.uint8(255)):
        whole = cv2.copyMakeBorder(part, 0, missing[0], 0, missing[1], cv2.BORDER_CONSTANT).astype(np.uint16)
        whole *= np.uint16(256)  # the means keep 8 bits after the point
        small = whole if cell == 1 else cv2.resize(whole, cells[::-1], interpolation=cv2.INTER_AREA)
        parts.append(small.reshape(*cells, -1) / np.float32(256))
    parts[1] /= np.float32(255)
    return np.concatenate(parts, axis=2)


def _ring(field: Field) -> Field:
    """The same cells, each smoothed over the known ones around it, so that a dark hair on the ring throws no streak."""
    wide = cv2.GaussianBlur(field, (0, 0), 1.5, borderType=cv2.BORDER_CONSTANT)
    known = field[:, :, 3:] > 0.25  # a cell with only a corner in sight says little
    result: Field = np.where(known, wide / np.maximum(wide[:, :, 3:], 1e-6), np.float32(0))
    return result


def membrane(field: Field) -> Field:
    """Laplace's equation where nothing is known.

    field: (H, W, 4) float32; channel 3 is 1 where the other three are known, and all are 0 elsewhere.
    Returns (H, W, 3) float32, equal to the field where it is known. Coarse to fine: each level starts from the one half
    its size and is relaxed a few times, which leaves no visible error.
    """
    known = field[:, :, 3] > 0
    height, width = known.shape
    if known.all():
        return field[:, :, :3]
    if max(height, width) <= 2:
        total = field.reshape(-1, 4).sum(axis=0)
        mean = total[:3] / max(total[3], 1)
        return np.where(known[:, :, None], field[:, :, :3], mean)
    even = cv2.copyMakeBorder(field, 0, height % 2, 0, width % 2, cv2.BORDER_CONSTANT)
    half = np.asarray(cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)
    half[half[:, :, 3] > 0] /= half[half[:, :, 3] > 0][:, 3:]
    coarse = membrane(half)
    start = cv2.resize(coarse, even.shape[1::-1], interpolation=cv2.INTER_LINEAR)[:height, :width]
    return _relax(np.where(known[:, :, None], field[:, :, :3], start), known)


def _relax(colour: Field, known: npt.NDArray[np.bool_]) -> Field:
    """Jacobi's steps on the unknown cells: each becomes the mean of its neighbours; the border is mirrored."""
    kernel = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]], np.float32) / 12
    fixed = known[:, :, None]
    for _ in range(RELAXATIONS):
        colour = np.where(fixed, colour, cv2.filter2D(colour, -1, kernel, borderType=cv2.BORDER_REFLECT))
    return colour


def _enlarge(field: Field, place: Window, cell: int) -> Pixels:
    """The field at full resolution, in one place of the group's window."""
    (rows, columns) = place
    if cell == 1:
        return np.asarray(cv2.convertScaleAbs(field[place]), np.uint8)
    # cells whose centres surround the place, two more for the cubic's reach
    r0, r1 = max(0, rows.start // cell - 3), min(field.shape[0], rows.stop // cell + 4)
    c0, c1 = max(0, columns.start // cell - 3), min(field.shape[1], columns.stop // cell + 4)
    part = field[r0:r1, c0:c1]
    large = cv2.resize(part, ((c1 - c0) * cell, (r1 - r0) * cell), interpolation=cv2.INTER_CUBIC)
    large = large[rows.start - r0 * cell : rows.stop - r0 * cell, columns.start - c0 * cell : columns.stop - c0 * cell]
    return np.asarray(cv2.convertScaleAbs(np.maximum(large, 0)), np.uint8)
