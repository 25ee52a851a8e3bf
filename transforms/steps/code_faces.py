"""The faces that a policy preserves or changes, coded by the neural codec."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from apache_beam.metrics import Metrics

from mien.models.codec import Coded, FaceCodec
from mien.models.faces import Face, is_clear, square
from mien.models.privacy import Deidentifier
from mien.models.runtime import tune_process
from mien.transforms.elements import CodedFace, Decision, PhotoInWork
from mien.transforms.settings import FaceSettings
from mien.transforms.steps.align import DEIDENTIFY, FALLBACK, NOT_CLEAR, OBJECTIVES, AlignStage, refusal
from mien.transforms.steps.people import avoided, other_people
from mien.transforms.workers import NAMESPACE, NOT_THE_SAME, IsolatedStages, Stage

_NOTHING = Coded(b"", 0.0)


def code_photo(
    photo: PhotoInWork,
    codec: FaceCodec,
    settings: FaceSettings,
    deidentifier: Deidentifier | None = None,
    avoid: Sequence[npt.NDArray[np.float64]] = (),
) -> PhotoInWork:
    """The photo with coded faces, the crops dropped.

    deidentifier: draws the new faces for `deidentify`; they resemble no other face of the photo and nobody whose
    embedding is in avoid.

    A face falls back, with the reason behind its rule's name, if it has no crop, if it is covered, turned or none
    (mien.models.faces.understanding), if the codec does not understand it (FaceCodec.MIN_SCORE) or fails on it, if
    under `preserve` what was coded is no longer the same person to a recogniser, or if no new face was found that is
    unlike it: to `keep` under `preserve`, as its pixels may stay, else to `fill`.
    """
    done = []
    for f, (face, decision, aligned) in enumerate(zip(photo.faces, photo.decisions, photo.aligned, strict=True)):
        clear = aligned is not None and is_clear(aligned, codec.recogniser)
        coded = None
        if clear and decision.action in OBJECTIVES:
            coded = _coded(photo, f, codec, settings)
        elif clear and decision.action == DEIDENTIFY and deidentifier is not None:
            coded = _new_face(photo, f, codec, deidentifier, avoid)
        done.append(coded_face(face, decision, coded, codec.model, aligned=aligned is not None, clear=clear))
    return dataclasses.replace(photo, aligned=(), coded=tuple(done))


def _coded(photo: PhotoInWork, f: int, codec: FaceCodec, settings: FaceSettings) -> Coded:
    """One face of the photo; nothing where the codec fails on it."""
    face, objective = photo.aligned[f], OBJECTIVES[photo.decisions[f].action]
    assert face is not None
    side = square(photo.faces[f].transform)[2]
    most = photo.ceilings[f] if photo.ceilings else settings.face_bytes
    try:
        return codec.code_batch(face[None], most, objective, settings.effort, [side])[0]
    except Exception:  # whatever a strange face makes fail
        return _NOTHING


def _new_face(
    photo: PhotoInWork,
    f: int,
    codec: FaceCodec,
    deidentifier: Deidentifier,
    avoid: Sequence[npt.NDArray[np.float64]],
) -> Coded:
    """Another person in the place of one face of the photo; no payload where none is found.

    The score is the codec's for the original: a lamp that a detector took for a face must not become one.
    """
    face = photo.aligned[f]
    assert face is not None
    try:
        score = codec.code_batch(face[None])[0].score
        if score < FaceCodec.MIN_SCORE:
            return Coded(b"", score)
        return Coded(deidentifier.new_face(face, other_people(photo, f, avoid)), score)
    except Exception:  # PrivacyError, or whatever a strange face makes fail: it is hidden in another way
        return _NOTHING


def coded_face(
    face: Face, decision: Decision, coded: Coded | None, model: str, *, aligned: bool, clear: bool
) -> CodedFace:
    """What becomes of a face. coded: None where the codec was not asked; aligned: whether the face has a crop; clear:
    whether that shows a face."""
    action, rule = decision.action, decision.rule
    coded = coded or _NOTHING
    payload, score = coded.payload, coded.score
    if action in FALLBACK:
        failed = "no new face" if action == DEIDENTIFY else "not coded"
        reason = "" if aligned else refusal(face, action) or "not aligned"
        if aligned and not clear:
            reason = NOT_CLEAR
        elif aligned and score < FaceCodec.MIN_SCORE and (payload or score):
            reason = "not understood"
        elif aligned and not payload:
            reason = failed
        elif action == "preserve" and coded.same_person is False:
            reason = NOT_THE_SAME.replace("_", " ")
        if reason:
            action, rule, payload = FALLBACK[action], f"{rule} ({reason})", b""
    if not payload:
        model, score = "", 0.0
    return CodedFace(face.box, face.transform, action, rule, model, payload, score, face.kind)


class _Code(Stage):
    stage = "code"

    def __init__(self, settings: FaceSettings) -> None:
        self._settings = settings

    def setup(self) -> None:
        tune_process(self._settings.threads)
        self._codec = FaceCodec.load()
        deidentifies = DEIDENTIFY in self._settings.policy.actions
        self._deidentifier = Deidentifier(self._codec) if deidentifies else None
        self._avoid = avoided(self._settings.policy) if deidentifies else []

    def work(self, element: PhotoInWork) -> Iterable[PhotoInWork]:
        photo = code_photo(element, self._codec, self._settings, self._deidentifier, self._avoid)
        for face in photo.coded:
            if face.payload:
                Metrics.distribution(NAMESPACE, "face_bytes").update(len(face.payload))
            if face.rule.endswith(f"({NOT_THE_SAME.replace('_', ' ')})"):
                Metrics.counter(NAMESPACE, NOT_THE_SAME).inc()
        yield photo


class CodeFaces(IsolatedStages):
    """PhotoInWork with decisions -> with coded faces."""

    def __init__(self, settings: FaceSettings) -> None:
        super().__init__(
            [AlignStage(in_photo=False, margin=settings.margin), _Code(settings)], PhotoInWork, settings.photo_limits
        )
