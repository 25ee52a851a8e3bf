"""Which of the faces that a policy preserves are worth coding, and how many bytes each of them may take.

The face codec works for seconds on a face. A face that plainly looks better in the photo's own pixels is not coded:
that is seen by coding the photo with them first.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from mien.models.codec import FaceCodec, FaceLikeness, Original, is_seen
from mien.models.faces import square
from mien.models.runtime import tune_process
from mien.transforms.elements import CodedFace, Decision, PhotoInWork
from mien.transforms.formats import IN_PIXELS
from mien.transforms.settings import CompressSettings
from mien.transforms.steps.align import refusal
from mien.transforms.steps.background import left_in_pixels, plain_version
from mien.transforms.workers import IsolatedStages, Stage

# Bytes of a face's payload that suit a photo's bytes: measured on ten portraits as the least LPIPS of all of the photo
# for which a recogniser still knows the face.
PHOTO_BYTES, FACE_SHARE = (300, 600, 1_000, 2_000, 4_000, 8_000), (40, 64, 100, 140, 240, 320)
MOST_SHARE = 0.3  # of the photo's bytes that several faces may take together
LEAST_FACE = 40  # bytes with which a coded face is somebody
# In its own pixels a face that is so like the original is liker than any coded one: the trunk's distance alone, or a
# larger one where the recogniser knows the person well.
SETTLED, SETTLED_KNOWN, KNOWN = 0.12, 0.3, 0.95


def choose_faces(photo: PhotoInWork, settings: CompressSettings) -> PhotoInWork:
    """The photo with the faces that stay in their own pixels decided so, and the others' bytes.

    BudgetError for a photo that does not fit its bytes whatever becomes of its faces.
    """
    preserved = [i for i, decision in enumerate(photo.decisions) if decision.action == "preserve"]
    if settings.faces == "pixels":
        return _left(photo, preserved)
    budget = settings.budget(photo.source_bytes)
    ceilings = [settings.face_bytes] * len(photo.faces)
    open_to = [i for i in preserved if not refusal(photo.faces[i], "preserve")]
    open_to = [i for i in open_to if is_seen(photo.pixels, photo.faces[i].transform)]
    if budget is not None:
        sides = [square(photo.faces[i].transform)[2] for i in open_to]
        least = LEAST_FACE if settings.faces == "auto" else 0
        for i, share in zip(open_to, face_shares(budget, sides, settings.face_bytes, least), strict=True):
            ceilings[i] = share
    photo = dataclasses.replace(photo, ceilings=tuple(ceilings))
    if settings.faces == "neural" or not open_to:
        return photo
    plain = plain_version(photo, _plain_faces(photo), settings)
    original = Original(FaceCodec.load().encoder, photo.pixels, [photo.faces[i].transform for i in open_to])
    settled = [i for at, i in enumerate(open_to) if not ceilings[i] or is_settled(original.face(at, plain.pixels))]
    return _left(dataclasses.replace(photo, plain=plain), settled)


def face_shares(budget: int, sides: Sequence[float], most: int, least: int = LEAST_FACE) -> list[int]:
    """Bytes for each face of a photo: by size, at most `most`; 0 where that is less than `least`, from the smallest on.

    budget: bytes of the photo; sides: px of the faces' aligned squares.
    """
    one = float(np.interp(budget, PHOTO_BYTES, FACE_SHARE))
    total = min(one * len(sides), max(one, MOST_SHARE * budget))
    order = sorted(range(len(sides)), key=lambda i: -sides[i])
    shares = [0] * len(sides)
    for count in range(len(order), 0, -1):
        among = order[:count]
        given = {i: int(min(most, total * sides[i] / sum(sides[j] for j in among))) for i in among}
        if given[among[-1]] >= min(least, most):
            for i, share in given.items():
                shares[i] = max(share, min(LEAST_FACE, most))
            break
    return shares


def is_settled(likeness: FaceLikeness) -> bool:
    """Whether no coded face could be liker than this one."""
    return likeness.distance < SETTLED or (likeness.distance < SETTLED_KNOWN and likeness.cosine > KNOWN)


def _left(photo: PhotoInWork, chosen: Sequence[int]) -> PhotoInWork:
    """The photo with those faces decided to stay in their own pixels."""
    decisions = list(photo.decisions)
    for i in chosen:
        old = decisions[i]
        decisions[i] = Decision("keep", old.rule + IN_PIXELS, old.doubted)
    return dataclasses.replace(photo, decisions=tuple(decisions))


def _plain_faces(photo: PhotoInWork) -> tuple[CodedFace, ...]:
    """The faces as they are stored if none is coded."""
    faces = (
        CodedFace(face.box, face.transform, decision.action, decision.rule, "", b"", 0.0, face.kind)
        for face, decision in zip(photo.faces, photo.decisions, strict=True)
    )
    return tuple(left_in_pixels(face) if face.action == "preserve" else face for face in faces)


class _Choose(Stage):
    stage = "background"  # which it codes a first time: its time and failures are of that

    def __init__(self, settings: CompressSettings) -> None:
        self._settings = settings

    def setup(self) -> None:
        tune_process(self._settings.threads)

    def work(self, element: PhotoInWork) -> Iterable[PhotoInWork]:
        yield choose_faces(element, self._settings)


class ChooseFaces(IsolatedStages):
    """PhotoInWork with decisions -> with those of its preserved faces that stay in their own pixels decided so."""

    def __init__(self, settings: CompressSettings) -> None:
        super().__init__([_Choose(settings)], PhotoInWork, settings.photo_limits)
