"""Redactions: what takes the place of a face that must not be recognised, and how much of the photo it covers.

`fill` shows nothing of the face. `pixelate` and `blur` show the mean colours of a few cells over the whole face, blur
with soft edges between them: it is made of the same few numbers, so that no sharpening can bring back more. The cells
grow with the face. No pixel under a mask is left as it was, not even under a feather.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from mien.models.faces import SIZE, square
from mien.models.painting import (
    FACE_EGG,
    HEAD_EGG,
    Mask,
    Pixels,
    Window,
    box_mask,
    face_mask,
    fill_faces,
    membrane,
    outline_mask,
    rectangle_mask,
    shrink_known,
)

Redaction = Literal["fill", "pixelate", "blur"]
MaskKind = Literal["face", "head"]
REDACTIONS: tuple[str, ...] = get_args(Redaction)
EGGS = {"face": FACE_EGG, "head": HEAD_EGG}

# Cells of pixelate and blur over the height of the face's mask. Of the 61 people of the development faces (256 px a
# face) MobileFaceNet and dlib's recogniser, with the originals as gallery, know so many (chance is 1, its 95 % interval
# ends at 3):
#   cells              16       10       7        5        4        3
#   pixelate       13, 10     2, 2    1, 3     1, 0     1, 0     2, 2
#   blur           49, 48     7, 8    3, 3     2, 1     2, 2     3, 1
# With 4 it is 1 or 2 at 48 and 512 px a face too. Against a gallery of the same photos, turned, shifted, scaled,
# relit, half of them mirrored, and redacted likewise (what is not the face is grey, 128 px a face) it is 20, 30 for
# pixelate and 33, 28 for blur, but 21, 26 for fill, which shows nothing of the face: there the photo is recognised, by
# the colours around the face and their light, not the person.
CELLS = 4
MIN_CELL = 4  # pixels
STEP = 16  # grey levels to which a cell's mean is rounded: fewer numbers to know it by
_TALL = 1.5  # the mask's height in longer sides of the box: 1.2 of MediaPipe's boxes, 1.6 of CenterFace's
_KNOWN = 0.25  # share of a cell under the mask below which its mean says too much of single pixels


@dataclass(frozen=True)
class Hidden:
    """A face that a photo must not show, and what is to be in its place.

    box: x, y, width, height in photo pixels. transform: 6 floats as in mien.models.faces.alignment; empty where the
    face could not be aligned. how: the redaction, or `replace` for a face that another one is painted over. mask: how
    much goes. outline: (36, 2) float64 aligned pixels, where the other face is painted within it
    (mien.models.painting.replace). whole: all of the box goes, for what is no face and fills its corners.
    """

    box: tuple[float, float, float, float]
    transform: tuple[float, ...]
    how: Redaction | Literal["replace"] = "fill"
    mask: MaskKind = "face"
    outline: npt.NDArray[np.float64] | None = field(default=None, compare=False)
    whole: bool = False


def masks_of(face: Hidden, shape: tuple[int, int]) -> list[Mask]:
    """The masks in a photo of the shape (height, width) whose union the face takes up.

    The egg around an aligned face is made for one seen from the front, so an ellipse around its box goes too; but not
    where another face takes its place, which paints the egg alone, or what is within the outline.
    """
    if face.outline is not None:
        return [outline_mask(face.transform, face.outline, shape)]
    if face.whole:
        return [rectangle_mask(face.box, shape)]
    egg = EGGS[face.mask]
    if face.how == "replace" and face.transform and face.mask == "face":
        return [face_mask(face.transform, shape)]
    masks = [box_mask(face.box, shape, egg)]
    return [face_mask(face.transform, shape, egg), *masks] if face.transform else masks


def redact_faces(pixels: Pixels, faces: Sequence[Hidden]) -> Pixels:
    """The photo with every face redacted, as a new array.

    pixels: (H, W, 3) uint8. Where two faces' masks meet the fill is shown: the cells of a small face would be fine ones
    on a large face behind it.
    """
    height, width = pixels.shape[:2]
    masks = [masks_of(face, (height, width)) for face in faces]
    filled = fill_faces(pixels, [mask for several in masks for mask in several])
    shown = filled.copy()
    if not any(face.how in ("pixelate", "blur") for face in faces):
        return shown
    covers = [_cover(several, (height, width)) for several in masks]
    for i, face in enumerate(faces):
        if face.how not in ("pixelate", "blur"):
            continue
        window, alpha = covers[i]
        own = alpha > 0
        for j, (other, theirs) in enumerate(covers):
            if j != i:
                _cut(own, window, other, theirs > 0)
        _show_cells(shown, pixels, (window, alpha), own, face)
    return shown


def _cover(masks: Sequence[Mask], shape: tuple[int, int]) -> Mask:
    """One mask that is the union of several."""
    windows = [window for window, alpha in masks if alpha.size]
    if not windows:
        return masks[0]
    top, bottom = min(r.start for r, _ in windows), max(r.stop for r, _ in windows)
    left, right = min(c.start for _, c in windows), max(c.stop for _, c in windows)
    union = np.zeros((bottom - top, right - left), np.float32)
    for (rows, columns), alpha in masks:
        if alpha.size:
            place = union[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
            np.maximum(place, alpha, out=place)
    return (slice(top, bottom), slice(left, right)), union


def _cut(own: npt.NDArray[np.bool_], window: Window, other: Window, theirs: npt.NDArray[np.bool_]) -> None:
    """Takes what another face covers, in its window, out of own, in place."""
    (rows, columns), (other_rows, other_columns) = window, other
    top, bottom = max(rows.start, other_rows.start), min(rows.stop, other_rows.stop)
    left, right = max(columns.start, other_columns.start), min(columns.stop, other_columns.stop)
    if top < bottom and left < right:
        part = theirs[
            top - other_rows.start : bottom - other_rows.start, left - other_columns.start : right - other_columns.start
        ]
        own[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start] &= ~part


def cell_size(face: Hidden) -> int:
    """Pixels of a cell's side for this face."""
    height = (
        square(face.transform)[2] * (FACE_EGG.rise + FACE_EGG.drop) / SIZE
        if face.transform
        else _TALL * max(face.box[2:])
    )
    return max(MIN_CELL, int(np.ceil(height / CELLS)))


def _show_cells(shown: Pixels, pixels: Pixels, cover: Mask, own: npt.NDArray[np.bool_], face: Hidden) -> None:
    """Paints the means of the face's cells into shown, in place, where the face alone covers the photo."""
    (rows, columns), alpha = cover
    if not own.any():
        return
    cell = cell_size(face)
    grid = -(-own.shape[0] // cell), -(-own.shape[1] // cell)
    field = shrink_known(np.ascontiguousarray(pixels[rows, columns]), own, grid, cell)
    share = field[:, :, 3:]
    means = np.where(share >= _KNOWN, field[:, :, :3] / np.maximum(share, 1e-6), 0)
    means = np.rint(means / STEP) * STEP
    known = (share >= _KNOWN).astype(np.float32)
    if not known.any():
        return
    means = membrane(np.concatenate([means * known, known], axis=2))
    flags = cv2.INTER_NEAREST if face.how == "pixelate" else cv2.INTER_CUBIC
    large = cv2.resize(means, (grid[1] * cell, grid[0] * cell), interpolation=flags)[: own.shape[0], : own.shape[1]]
    weight = own[:, :, None] * (1.0 if face.how == "pixelate" else alpha[:, :, None])
    place = shown[rows, columns]
    mixed = place + weight.astype(np.float32) * (np.clip(large, 0, 255) - place)
    cv2.copyTo(cv2.convertScaleAbs(mixed), own.view(np.uint8), place)
