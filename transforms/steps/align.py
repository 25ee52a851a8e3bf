"""The crops of the faces that a policy preserves or changes, before they are coded or replaced."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from mien.models.faces import FACE_KIND, Face, align_face, covered
from mien.models.painting import Mask, fill_faces
from mien.models.privacy import REDACTIONS, Hidden, MaskKind, masks_of
from mien.transforms.elements import CodedFace, PhotoInWork, Pixels
from mien.transforms.settings import GENERATED
from mien.transforms.workers import Stage

# action of a policy -> objective of the codec, and what becomes of a face that cannot be coded
OBJECTIVES: dict[str, Literal["identity", "realistic"]] = {"preserve": "identity", "realistic": "realistic"}
DEIDENTIFY = "deidentify"
FALLBACK = {"preserve": "keep", "realistic": "fill", "deidentify": "fill"}
HIDING = frozenset((*GENERATED, *REDACTIONS))

# degrees: beyond it, what is coded of a face and what is beside it no longer fit the mask, which is made for faces seen
# from the front (looked at: faces at 45 to 63 degrees showed their patch, at up to 34 none did)
MAX_YAW = 40.0
MAX_NEW_YAW = 45.0  # the same for another person's face that is fitted to the photo: as far as the generator reaches

# Of what a detector found (mien.models.faces.mesh.covered): with less the landmarks are those of half a face or
# of something else, and another face there would leave the rest of this one to be seen. Of 44 faces in six group photos
# one had less, 0.38, and its landmarks were wrong; the next had 0.71.
LEAST_COVERED = 0.7

NOT_CLEAR = "covered, turned or no face"


def hidden_of(face: Face | CodedFace, action: str, mask: MaskKind, margin: float = 0.0) -> Hidden:
    """What a photo without the face shows in its place; the face itself where another one is painted over it later.

    margin: by how much of its width and height the box grows on each side.
    """
    how = action if action in REDACTIONS else "replace"
    x, y, width, height = face.box
    box = x - margin * width, y - margin * height, width * (1 + 2 * margin), height * (1 + 2 * margin)
    whole = face.kind != FACE_KIND
    return Hidden(box, tuple(face.transform), how, mask, whole=whole)  # type: ignore[arg-type]  # how is one of them


def align_faces(photo: PhotoInWork, *, in_photo: bool = False, margin: float = 0.0) -> PhotoInWork:
    """The photo with each face that is to be coded as (512, 512, 3) uint8; None for others and those that cannot be.

    No transform, or turned away by more than MAX_YAW: the face has no crop.

    A crop shows more than its face. Whatever another decision hides is filled in before it is taken, so that no face
    gets into a payload that is not that face's own. in_photo: the photo itself gets the new faces, which
    reach farther than coded ones do. margin: as for hidden_of().
    """
    shape = photo.pixels.shape[0], photo.pixels.shape[1]
    hidden = [i for i, decision in enumerate(photo.decisions) if decision.action in HIDING]
    masks: dict[int, list[Mask]] = {
        i: masks_of(hidden_of(photo.faces[i], photo.decisions[i].action, "face", margin), shape) for i in hidden
    }
    aligned: list[Pixels | None] = []
    for i, (face, decision) in enumerate(zip(photo.faces, photo.decisions, strict=True)):
        if decision.action not in FALLBACK or refusal(face, decision.action, in_photo=in_photo):
            aligned.append(None)
            continue
        others = [mask for j in hidden if j != i for mask in masks[j] if _touches(face.transform, mask[0])]
        aligned.append(_crop(fill_faces(photo.pixels, others) if others else photo.pixels, face))
    return dataclasses.replace(photo, aligned=tuple(aligned))


def _crop(pixels: Pixels, face: Face) -> Pixels | None:
    try:
        return align_face(pixels, face.transform)
    except ValueError:  # a square far larger than the photo
        return None


def refusal(face: Face, action: str, *, in_photo: bool = False) -> str:
    """Why a face cannot be coded as the action asks, told before it is tried; empty where nothing is against it."""
    if action not in FALLBACK:
        return ""
    farthest = MAX_NEW_YAW if in_photo and action in GENERATED else MAX_YAW
    if face.pose and abs(face.pose[0]) > farthest:
        return "turned away"
    if action in GENERATED and face.landmarks and covered(face.box, face.landmarks) < LEAST_COVERED:
        return "landmarks beside the face"
    return "" if face.transform else "not aligned"


def _touches(transform: Sequence[float], window: tuple[slice, slice]) -> bool:
    """Whether the aligned square's bounding box meets the window."""
    a, b, x, c, d, y = transform
    corners = np.array([(a * u + b * v + x, c * u + d * v + y) for u in (-0.5, 511.5) for v in (-0.5, 511.5)])
    (left, top), (right, bottom) = corners.min(0), corners.max(0)
    rows, columns = window
    return bool(left < columns.stop and right >= columns.start and top < rows.stop and bottom >= rows.start)


class AlignStage(Stage):
    """align_faces() of each photo. in_photo, margin: as there."""

    stage = "align"

    def __init__(self, *, in_photo: bool, margin: float) -> None:
        self._in_photo = in_photo
        self._margin = margin

    def work(self, element: PhotoInWork) -> Iterable[PhotoInWork]:
        yield align_faces(element, in_photo=self._in_photo, margin=self._margin)
