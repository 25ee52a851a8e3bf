"""New faces in a safe photo: those of people who do not exist, drawn with what is around them; nothing is coded."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from mien.models.codec import FaceCodec
from mien.models.errors import NotUnderstoodError
from mien.models.faces import is_clear, square
from mien.models.privacy import Deidentifier
from mien.models.runtime import tune_process
from mien.transforms.elements import CodedFace, PhotoInWork, Pixels
from mien.transforms.policy import Key, seeds_by_face
from mien.transforms.settings import GENERATED, RedactSettings
from mien.transforms.steps.align import DEIDENTIFY, FALLBACK, NOT_CLEAR, AlignStage, refusal
from mien.transforms.steps.people import avoided, other_people
from mien.transforms.workers import IsolatedStages, Stage


def draw_new_faces(
    photo: PhotoInWork,
    codec: FaceCodec,
    deidentifier: Deidentifier,
    avoid: Sequence[npt.NDArray[np.float64]] = (),
    key: Key | None = None,
) -> PhotoInWork:
    """The photo with the new faces that are to be joined into it; no person of the pool is in it twice.

    Under `realistic` and `deidentify`; they resemble no other face of the photo and nobody whose embedding is in avoid.
    key: opens the photo's seeds, where people have pseudonyms; a face that the recogniser can tell then gets no new
    face but its own person's. Where there is none, the face falls back to `fill`, with the reason behind its rule's
    name.
    """
    new: list[Pixels | None] = []
    coded: list[CodedFace] = []
    taken: set[int] = set()
    seeds = seeds_by_face(photo.uri, photo.faces, photo.seeds, key) if key else {}
    for f, (face, decision, aligned) in enumerate(zip(photo.faces, photo.decisions, photo.aligned, strict=True)):
        found, reason = None, ""
        if decision.action in GENERATED and aligned is not None and not is_clear(aligned, codec.recogniser):
            reason = NOT_CLEAR
        elif decision.action == DEIDENTIFY and key and f not in seeds and photo.embeddings[f] is not None:
            reason = "no new face"  # not the one that this person has in other photos
        elif decision.action in GENERATED and aligned is not None:
            side = square(face.transform)[2]
            try:
                found = deidentifier.face_in_photo(aligned, side, other_people(photo, f, avoid), seeds.get(f), taken)
            except NotUnderstoodError:
                reason = "not understood"
            except Exception:  # PrivacyError, or whatever a strange face makes fail: it is hidden in another way
                reason = "no new face"
        elif decision.action in GENERATED:
            reason = refusal(face, decision.action, in_photo=True) or "not aligned"
        new.append(None if found is None else found.picture)
        if found is not None:
            taken.add(found.person)
            coded.append(
                CodedFace(face.box, face.transform, decision.action, decision.rule, codec.model, b"", found.score)
            )
        else:
            action = FALLBACK[decision.action] if reason else decision.action
            rule = f"{decision.rule} ({reason})" if reason else decision.rule
            coded.append(CodedFace(face.box, face.transform, action, rule, "", b"", 0.0, face.kind))
    return dataclasses.replace(photo, aligned=(), coded=tuple(coded), new=tuple(new))


class _Draw(Stage):
    stage = "code"

    def __init__(self, settings: RedactSettings) -> None:
        self._settings = settings

    def setup(self) -> None:
        tune_process(self._settings.threads)
        self._codec = FaceCodec.load()
        self._deidentifier = Deidentifier(self._codec)
        self._key = self._settings.named_by.read() if self._settings.named_by else None
        self._avoid = avoided(self._settings.policy)

    def work(self, element: PhotoInWork) -> Iterable[PhotoInWork]:
        yield draw_new_faces(element, self._codec, self._deidentifier, self._avoid, self._key)


class DrawNewFaces(IsolatedStages):
    """PhotoInWork with decisions -> with new faces for those that get another one."""

    def __init__(self, settings: RedactSettings) -> None:
        super().__init__(
            [AlignStage(in_photo=True, margin=settings.margin), _Draw(settings)], PhotoInWork, settings.photo_limits
        )
