"""What a reviewer wants otherwise than the policy, carried out between the decisions and what follows them."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from apache_beam.metrics import Metrics

from mien.models.errors import CorrectionsError
from mien.models.faces import Face, shared_of_union
from mien.transforms.elements import Decision, PhotoInWork
from mien.transforms.policy import Correction
from mien.transforms.settings import GENERATED
from mien.transforms.sources import check_corrections, corrections_of
from mien.transforms.steps.decide import measures
from mien.transforms.workers import NAMESPACE, IsolatedStages, Stage

# Of the union of a correction's box and a found one, from which they are of one face. Detectors find the same box again
# in the same photo; boxes of different faces that are kept apart share at most 0.4 (mien.models.faces.same_face).
SAME_BOX = 0.5
ADDED, REMOVED, CHANGED = "review: box added", "review: box taken away", "review: action changed"
_STRONGEST = "fill"


def correct_photo(photo: PhotoInWork, generates: bool) -> PhotoInWork:
    """The photo with its decisions as corrected, and with the boxes that a reviewer has drawn behind its faces.

    generates: whether what follows can draw new faces. Raises what check_corrections() raises, and CorrectionsError for
    a frame that is not the photo's and for an action that nothing that follows can carry out.
    """
    if photo.origin is None or not photo.origin.corrections:
        return photo
    corrections = corrections_of(check_corrections(photo.origin))
    height, width = photo.pixels.shape[:2]
    if other := next((one.frame for one in corrections.corrections if one.frame not in (None, (width, height))), None):
        sizes = f"{other[0]} x {other[1]}, not {width} x {height}"
        raise CorrectionsError(f"withheld: the corrections are of a photo of {sizes}")
    if not generates and (new := next((one.action for one in corrections.faces if one.action in GENERATED), None)):
        raise CorrectionsError(f"withheld: {new}: the policy makes no new faces, so no correction can ask for one")
    changed = corrections.faces
    places = _places([one.box or () for one in changed], [face.box for face in photo.faces])
    decisions = list(photo.decisions)
    drawn = []
    for number, one in enumerate(changed):
        if number in places:
            decisions[places[number]] = _decision(one)
        else:
            drawn.append(one)
    Metrics.counter(NAMESPACE, "corrected").inc(len(changed))
    # what a detector sees in the written photo alone is taken away by a box at which none is found here
    faces = tuple(Face(one.box or (0.0, 0.0, 0.0, 0.0), 1.0) for one in drawn)
    measured = tuple(measures(face, len(photo.faces) + n, photo.pixels) for n, face in enumerate(faces, 1))
    return dataclasses.replace(
        photo,
        faces=photo.faces + faces,
        decisions=(*decisions, *map(_decision, drawn)),
        measured=photo.measured + measured,
        embeddings=photo.embeddings + (None,) * len(faces),
    )


def _decision(one: Correction) -> Decision:
    if one.do == "remove":
        return Decision("keep", REMOVED)
    action = "keep" if one.action == "preserve" else one.action  # in a safe photo they are the same
    return Decision(action or _STRONGEST, ADDED if one.do == "add" else CHANGED)


def _places(boxes: Sequence[Sequence[float]], found: Sequence[Sequence[float]]) -> dict[int, int]:
    """For corrections' boxes the faces that they are of, {index: index}; the pair that shares most comes first."""
    pairs = []
    if boxes and found:
        others = np.array(found, np.float64)
        for i, box in enumerate(boxes):
            shared = shared_of_union(box, others)
            pairs += [(-shared[j], i, int(j)) for j in np.flatnonzero(shared >= SAME_BOX)]
    places: dict[int, int] = {}
    for _, i, j in sorted(pairs):
        if i not in places and j not in places.values():
            places[i] = j
    return places


class _Correct(Stage):
    stage = "correct"

    def __init__(self, generates: bool) -> None:
        self._generates = generates

    def work(self, element: PhotoInWork) -> Iterable[PhotoInWork]:
        yield correct_photo(element, self._generates)


class CorrectFaces(IsolatedStages):
    """PhotoInWork with decisions -> with those that a reviewer has corrected; generates: as for correct_photo."""

    def __init__(self, generates: bool) -> None:
        super().__init__([_Correct(generates)], PhotoInWork)
