"""The faces that a policy preserves or changes: aligned, and coded by the neural codec, a photo at a time."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from apache_beam.metrics import Metrics

from mien.models.codec import Coded, FaceCodec
from mien.models.errors import NotUnderstoodError
from mien.models.faces import Face, align_face, covered, is_clear, square
from mien.models.painting import Mask, fill_faces
from mien.models.privacy import REDACTIONS, Deidentifier, Hidden, MaskKind, masks_of
from mien.models.runtime import tune_process
from mien.transforms.elements import CodedFace, Decision, PhotoInWork, Pixels
from mien.transforms.policy import Key, KeyFile, Policy, seeds_by_face
from mien.transforms.steps.people import gallery
from mien.transforms.workers import NAMESPACE, NOT_THE_SAME, IsolatedStages, Limits, Stage

FACE_BYTES = 320
Effort = Literal["auto", "fast", "good", "best"]
# action of a policy -> objective of the codec, and what becomes of a face that cannot be coded
OBJECTIVES: dict[str, Literal["identity", "realistic"]] = {"preserve": "identity", "realistic": "realistic"}
DEIDENTIFY = "deidentify"
FALLBACK = {"preserve": "keep", "realistic": "fill", "deidentify": "fill"}
GENERATED = frozenset(("realistic", DEIDENTIFY))  # another face takes the place of the original
HIDDEN = frozenset((*GENERATED, *REDACTIONS))

# degrees: beyond it, what is coded of a face and what is beside it no longer fit the mask, which is made for faces seen
# from the front (looked at: faces at 45 to 63 degrees showed their patch, at up to 34 none did)
MAX_YAW = 40.0
MAX_NEW_YAW = 45.0  # the same for another person's face that is fitted to the photo: as far as the generator reaches

# Of what a detector found (mien.models.faces.mesh.covered): with less the landmarks are those of half a face or
# of something else, and another face there would leave the rest of this one to be seen. Of 44 faces in six group photos
# one had less, 0.38, and its landmarks were wrong; the next had 0.71.
LEAST_COVERED = 0.7

NOT_CLEAR = "covered, turned or no face"

_FACES_AT_ONCE = 16
_NOTHING = Coded(b"", 0.0)
# a photo at most; 500 faces or more
SECONDS: dict[Effort, float] = {"auto": 3600.0, "fast": 600.0, "good": 3600.0, "best": 36_000.0}


def hidden_of(face: Face | CodedFace, action: str, mask: MaskKind) -> Hidden:
    """What a photo without the face shows in its place; the face itself where another one is painted over it later."""
    how = action if action in REDACTIONS else "replace"
    return Hidden(tuple(face.box), tuple(face.transform), how, mask)  # type: ignore[arg-type]  # how is one of them


def align_faces(photo: PhotoInWork, in_photo: bool = False) -> PhotoInWork:
    """The photo with each face that is to be coded as (512, 512, 3) uint8; None for others and those that cannot be.

    No transform, or turned away by more than MAX_YAW: the face has no crop.

    A crop shows more than its face. Whatever another decision hides is filled in before it is taken, so that no face
    gets into a payload that is not that face's own. in_photo: as for code_photos().
    """
    shape = photo.pixels.shape[0], photo.pixels.shape[1]
    hidden = [i for i, decision in enumerate(photo.decisions) if decision.action in HIDDEN]
    masks: dict[int, list[Mask]] = {
        i: masks_of(hidden_of(photo.faces[i], photo.decisions[i].action, "face"), shape) for i in hidden
    }
    aligned: list[Pixels | None] = []
    for i, (face, decision) in enumerate(zip(photo.faces, photo.decisions, strict=True)):
        if decision.action not in FALLBACK or refusal(face, decision.action, in_photo):
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


def refusal(face: Face, action: str, in_photo: bool = False) -> str:
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


def code_photos(
    photos: Sequence[PhotoInWork],
    codec: FaceCodec,
    max_bytes: int,
    effort: Effort,
    deidentifier: Deidentifier | None = None,
    avoid: Sequence[npt.NDArray[np.float64]] = (),
    key: Key | None = None,
    in_photo: bool = False,
) -> list[PhotoInWork]:
    """The photos with coded faces, the crops dropped. Faces of one objective are encoded together, whichever the photo.

    deidentifier: draws the new faces for `deidentify`; they resemble no other face of the photo and nobody whose
    embedding is in avoid. key: opens the photos' seeds, where people have pseudonyms; a face that the recogniser can
    tell then gets no new face but its own person's. in_photo: the photo itself gets them, and `realistic` ones too:
    they are drawn with what is around them, and nothing of them is coded.

    A face falls back, with the reason behind its rule's name, if it has no crop, if it is covered, turned or none
    (mien.models.faces.understanding), if the codec does not understand it (FaceCodec.MIN_SCORE) or fails on it, if
    under `preserve` what was coded is no longer the same person to a recogniser, or if no new face was found that is
    unlike it: to `keep` under `preserve`, as its pixels may stay, else to `fill`.
    """
    if in_photo and deidentifier is not None:
        return [_with_new_faces(photo, codec, deidentifier, avoid, key) for photo in photos]
    clear = {
        (p, f)
        for p, photo in enumerate(photos)
        for f, face in enumerate(photo.aligned)
        if face is not None and is_clear(face, codec.recogniser)
    }
    payloads: dict[tuple[int, int], Coded] = {}
    for action, objective in OBJECTIVES.items():
        chosen = [
            (p, f)
            for p, photo in enumerate(photos)
            for f, decision in enumerate(photo.decisions)
            if decision.action == action and (p, f) in clear
        ]
        for start in range(0, len(chosen), _FACES_AT_ONCE):
            part = chosen[start : start + _FACES_AT_ONCE]
            faces = np.stack([face for p, f in part if (face := photos[p].aligned[f]) is not None])
            sides = [square(photos[p].faces[f].transform)[2] for p, f in part]
            payloads.update(zip(part, _encode(codec, faces, max_bytes, objective, effort, sides), strict=True))
    for p, photo in enumerate(photos):
        seeds = seeds_by_face(photo.uri, photo.faces, photo.seeds, key) if key else {}
        for f, decision in enumerate(photo.decisions):
            if deidentifier is not None and decision.action == DEIDENTIFY and (p, f) in clear:
                nameless = key is not None and f not in seeds and photo.embeddings[f] is not None
                new = _NOTHING if nameless else _new_face(codec, deidentifier, photo, f, avoid, seeds.get(f))
                payloads[p, f] = new
    return [
        dataclasses.replace(
            photo,
            aligned=(),
            coded=tuple(
                coded_face(
                    face, decision, payloads.get((p, f)), photo.aligned[f] is not None, (p, f) in clear, codec.model
                )
                for f, (face, decision) in enumerate(zip(photo.faces, photo.decisions, strict=True))
            ),
        )
        for p, photo in enumerate(photos)
    ]


def _with_new_faces(
    photo: PhotoInWork,
    codec: FaceCodec,
    deidentifier: Deidentifier,
    avoid: Sequence[npt.NDArray[np.float64]],
    key: Key | None,
) -> PhotoInWork:
    """The photo with the new faces that are to be joined into it; no person of the pool is in it twice."""
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
                found = deidentifier.face_in_photo(aligned, side, _others(photo, f, avoid), seeds.get(f), taken)
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
            coded.append(CodedFace(face.box, face.transform, action, rule, "", b"", 0.0))
    return dataclasses.replace(photo, aligned=(), coded=tuple(coded), new=tuple(new))


def _others(photo: PhotoInWork, f: int, avoid: Sequence[npt.NDArray[np.float64]]) -> list[npt.NDArray[np.float64]]:
    """Embeddings of whom a new face may not resemble: everybody else in the photo, and who is in avoid."""
    return [*(e.astype(np.float64) for i, e in enumerate(photo.embeddings) if i != f and e is not None), *avoid]


def _new_face(
    codec: FaceCodec,
    deidentifier: Deidentifier,
    photo: PhotoInWork,
    f: int,
    avoid: Sequence[npt.NDArray[np.float64]],
    seed: bytes | None,
) -> Coded:
    """Another person in the place of one face of the photo; no payload where none is found.

    The score is the codec's for the original: a lamp that a detector took for a face must not become one.
    """
    face = photo.aligned[f]
    if face is None:
        return _NOTHING
    score = _encode(codec, face[None], FACE_BYTES, "identity", "fast", None)[0].score
    if score < FaceCodec.MIN_SCORE:
        return Coded(b"", score)
    try:
        return Coded(deidentifier.new_face(face, _others(photo, f, avoid), seed), score)
    except Exception:  # PrivacyError, or whatever a strange face makes fail: it is hidden in another way
        return _NOTHING


def _encode(
    codec: FaceCodec,
    faces: Pixels,
    max_bytes: int,
    objective: Literal["identity", "realistic"],
    effort: Effort,
    sides: Sequence[float] | None,
) -> list[Coded]:
    """Each face; nothing of one that the codec fails on, without harm to the others."""
    try:
        return codec.code_batch(faces, max_bytes, objective, effort, sides)
    except Exception:
        if len(faces) == 1:
            return [_NOTHING]
        alone = [(faces[i : i + 1], sides and sides[i : i + 1]) for i in range(len(faces))]
        return [_encode(codec, face, max_bytes, objective, effort, side)[0] for face, side in alone]


def coded_face(
    face: Face, decision: Decision, coded: Coded | None, aligned: bool, clear: bool, model: str
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
    return CodedFace(face.box, face.transform, action, rule, model, payload, score)


class _Align(Stage):
    stage = "align"

    def __init__(self, in_photo: bool) -> None:
        self._in_photo = in_photo

    def work(self, element: PhotoInWork) -> Iterable[PhotoInWork]:
        yield align_faces(element, self._in_photo)


class _Code(Stage):
    """A photo's faces are coded together; those of several photos are not, which would hold their pixels meanwhile."""

    stage = "code"

    def __init__(
        self,
        policy: Policy,
        max_bytes: int,
        effort: Effort,
        threads: int,
        key_file: KeyFile | None,
        in_photo: bool,
    ) -> None:
        self._key_file = key_file
        self._deidentifies = bool(policy.actions & GENERATED) if in_photo else DEIDENTIFY in policy.actions
        self._in_photo = in_photo
        self._galleries = policy.digests
        self._max_bytes = max_bytes
        self._effort = effort
        self._threads = threads

    def setup(self) -> None:
        tune_process(self._threads)
        self._codec = FaceCodec.load()
        self._key = self._key_file.read() if self._key_file else None
        self._deidentifier = Deidentifier(self._codec) if self._deidentifies else None
        galleries = [gallery(*known) for known in self._galleries.items()] if self._deidentifies else []
        # nobody in a gallery may be resembled by a new face
        self._avoid = [embedding for one in galleries for embedding in one.embeddings.astype(np.float64)]

    def work(self, element: PhotoInWork) -> Iterable[PhotoInWork]:
        new = self._deidentifier, self._avoid, self._key, self._in_photo
        coded = code_photos([element], self._codec, self._max_bytes, self._effort, *new)
        for photo in coded:
            for face in photo.coded:
                if face.payload:
                    Metrics.distribution(NAMESPACE, "face_bytes").update(len(face.payload))
                if face.rule.endswith(f"({NOT_THE_SAME.replace('_', ' ')})"):
                    Metrics.counter(NAMESPACE, NOT_THE_SAME).inc()
        yield from coded


class CodeFaces(IsolatedStages):
    """PhotoInWork with decisions -> with coded faces.

    max_bytes: a face's payload at most; threads: of one worker process; policy: whose decisions these are; key_file:
    that of the photos' seeds, where people have pseudonyms; in_photo: as for code_photos().
    """

    def __init__(
        self,
        policy: Policy,
        max_bytes: int = FACE_BYTES,
        effort: Effort = "auto",
        threads: int = 1,
        key_file: KeyFile | None = None,
        in_photo: bool = False,
    ) -> None:
        stages = [_Align(in_photo), _Code(policy.pinned(), max_bytes, effort, threads, key_file, in_photo)]
        super().__init__(stages, PhotoInWork, Limits(SECONDS[effort]))
