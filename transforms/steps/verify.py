"""A safe photo looked at again, as it is written: is there a face that should not be there, or one still recognisable?

The written bytes are decoded and searched by the detectors that searched the original, in all turns of the photo, where
it was painted over and around it. Elsewhere its pixels are those that were searched already, but for the file's own
losses: there upright faces are looked for in a reduced copy. The recogniser compares what is now in a hidden
face's place with what was there. A detector may fire on a filled place: that is no leak as long
as the place is one that was painted over and the recogniser sees nobody in it. Detectors that are set to miss nothing
also fire on a hand or a collar beside a filled place; what they find is filled in too, and only what they are SURE of
when that is done keeps a photo back.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mien.models.codec import FaceCodec
from mien.models.faces import (
    CROP_SIDE,
    FACE_KIND,
    SAME_PERSON,
    Box,
    Face,
    Recogniser,
    align_face,
    arcface_crop,
    dlib_recogniser,
    mostly_within,
    same_face,
    same_square,
    square,
)
from mien.models.privacy import ALIKE, NEAR, Hidden, masks_of
from mien.transforms.elements import CodedFace, Pixels
from mien.transforms.policy import SHOWN
from mien.transforms.settings import GENERATED
from mien.transforms.steps.people import MIN_SIDE

COVERED = 0.5  # share of a found box that must have been painted over for the face to count as handled
SURE = 0.5  # score of a found face
# Share of a kept face's box. Of 35 whole portraits at JPEG quality 90, 15 had such boxes on the one face shown,
# most of them 0.15 to 0.25 of it, and all but one of these faces were known by it.
LEAST_PART = 0.15
_CROP = round(112 / CROP_SIDE)  # pixels of an aligned face whose middle is the recogniser's 112


@dataclass(frozen=True)
class Leaks:
    """What must not be shown as it is. known: indices of hidden faces that the recogniser still links to the original;
    found: faces that nobody has decided on."""

    known: tuple[int, ...]
    found: tuple[Face, ...]

    def __bool__(self) -> bool:
        return bool(self.known or self.found)


def leaks(
    original: Pixels,
    written: Pixels,
    faces: Sequence[CodedFace],
    hidden: Mapping[int, Hidden],
    found: Sequence[Face],
    locate: Callable[[Pixels, Face], Face],
) -> Leaks:
    """What is wrong with a written photo.

    original, written: (H, W, 3) uint8, the latter from the written file. faces: what was done with the photo's faces.
    hidden: how much went of those that may not be seen, by their index. found: the detectors' faces in the written one.
    locate: gives a face of a photo its landmarks and transform, as FaceLandmarker.locate does.

    A found face is handled where COVERED of its box was painted over, or where it is itself one that may stay: one that
    lies before a face that may stay, or on its clothes, is another. Generated, pixelated and blurred faces are always
    compared with their originals, filled ones, in which no original pixel is left, where a detector finds a face. A
    cosine over SAME_PERSON links them; another face may be no more like the original than strangers are, to two
    recognisers (ALIKE, NEAR).

    Only aligned faces with a square of MIN_SIDE photo pixels or more are compared. Measured on four group photos: of
    aligned faces below it 6 of 184 that were filled in, where nothing is left, were linked to what had been there, of
    faces that could not be aligned (mostly hands and backs of heads) 6 of 15, of larger ones 0 of 17.
    """
    height, width = original.shape[:2]
    painted = np.zeros((height, width), np.bool_)
    for face in hidden.values():
        for window, alpha in masks_of(face, (height, width)):
            painted[window] |= alpha > 0
    kept = [face for face in faces if face.action in SHOWN and face.kind == FACE_KIND]
    unknown, fired = [], set()
    for seen in found:
        rows, columns = _pixels_of(seen.box, (height, width))
        part = painted[rows, columns]
        if part.size and part.mean() >= COVERED:
            fired |= {i for i in hidden if _meets(seen.box, faces[i].box)}
        elif not any(same_face(seen.box, face.box) for face in kept) and not _part_of(seen, kept, written, locate):
            unknown.append(seen)
    compared = [i for i in hidden if (faces[i].action != "fill" or i in fired) and _recognisable(faces[i])]
    likeness = compare(original, written, [faces[i] for i in compared], FaceCodec.load().recogniser)
    known = []
    for i, (cosine, distance) in zip(compared, likeness, strict=True):
        other = faces[i].action in GENERATED
        if cosine > (ALIKE if other else SAME_PERSON) or (other and distance < NEAR):
            known.append(i)
    return Leaks(tuple(known), tuple(unknown))


def painted_places(hidden: Iterable[Hidden], shape: tuple[int, int]) -> list[Box]:
    """Boxes (x, y, width, height) of all that was painted over in a photo of the shape (height, width)."""
    places = []
    for face in hidden:
        for (rows, columns), _ in masks_of(face, shape):
            size = columns.stop - columns.start, rows.stop - rows.start
            places.append((float(columns.start), float(rows.start), float(size[0]), float(size[1])))
    return places


def compare(
    original: Pixels, written: Pixels, faces: Sequence[CodedFace], recogniser: Recogniser
) -> npt.NDArray[np.float32]:
    """How like each aligned face's place in the written photo is to the original's, (N, 2) float32: the recogniser's
    cosine, and the distance of dlib's descriptors.

    ValueError for a face whose square is far larger than the photo.
    """
    crops = [align_face(pixels, face.transform, _CROP) for face in faces for pixels in (original, written)]
    if not crops:
        return np.zeros((0, 2), np.float32)
    with torch.inference_mode():
        found = []
        for start in range(0, len(crops), 32):
            batch = torch.from_numpy(np.stack(crops[start : start + 32])).permute(0, 3, 1, 2).float() / 127.5 - 1
            first, second = recogniser(arcface_crop(batch)), dlib_recogniser().embedding(batch)
            cosines, distances = (first[::2] * first[1::2]).sum(1), (second[::2] - second[1::2]).norm(dim=1)
            found.append(torch.stack([cosines, distances], 1))
        likeness: npt.NDArray[np.float32] = torch.cat(found).numpy()
    return likeness


def _recognisable(face: CodedFace) -> bool:
    return bool(face.transform) and square(face.transform)[2] >= MIN_SIDE


def _pixels_of(box: Sequence[float], shape: tuple[int, int]) -> tuple[slice, slice]:
    """The rows and columns of a box within the photo."""
    x, y, w, h = box
    rows = slice(min(max(0, int(y)), shape[0]), max(0, min(shape[0], int(np.ceil(y + h)))))
    return rows, slice(min(max(0, int(x)), shape[1]), max(0, min(shape[1], int(np.ceil(x + w)))))


def _part_of(seen: Face, kept: Sequence[CodedFace], written: Pixels, locate: Callable[[Pixels, Face], Face]) -> bool:
    """Whether a box within the box of a face that may stay is a part of that face: it is aligned to the same square.

    With boxes under LEAST_PART of the face's it is not asked: for them the landmarks of a face behind may be found.
    """
    around = [
        face
        for face in kept
        if face.transform
        and mostly_within(seen.box, face.box)
        and seen.box[2] * seen.box[3] >= LEAST_PART * face.box[2] * face.box[3]
    ]
    own = locate(written, seen).transform if around else ()
    return bool(own) and any(same_square(square(own), square(face.transform)) for face in around)


def _meets(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether what a detector found may be of this hidden face, or of a part of it."""
    return same_face(one, other) or mostly_within(one, other)
