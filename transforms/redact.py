"""The whole way from photos to safe photos: ordinary image files in which the policy says whose face is seen.

Each photo is verified before it goes on, from the bytes that will be written (mien.transforms.steps.verify). What is
still seen there is filled in; what is seen even then keeps the photo back.
"""

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from mien.models.codec import FaceCodec
from mien.models.errors import PrivacyError
from mien.models.faces import Face, Looks, align_face, square
from mien.models.images import decode_image, draw_mark, encode_image, synthesis_xmp, with_new_pixels
from mien.models.painting import fitted, paste_face
from mien.models.privacy import Hidden, MaskKind, join, join_outline, masks_of, redact_faces
from mien.models.runtime import one_thread, tune_process
from mien.transforms.boxes import boxes_of
from mien.transforms.elements import (
    CodedFace,
    Decision,
    HandledFace,
    PhotoInWork,
    PhotosAndFailures,
    Pixels,
    SafePhoto,
)
from mien.transforms.policy import SHOWN, KeyFile, Policy
from mien.transforms.settings import GENERATED, RedactSettings, chosen, opened
from mien.transforms.sources import corrections_of
from mien.transforms.steps import (
    SURE,
    VERSION,
    CorrectFaces,
    DecideFaces,
    DecodePhotos,
    DetectFaces,
    DrawNewFaces,
    FaceRows,
    FaceSearch,
    GiveSeeds,
    Leaks,
    hidden_of,
    leaks,
    painted_places,
)
from mien.transforms.stores import SUFFIXES, output_name
from mien.transforms.workers import NAMESPACE, Input, IsolatedStages, Stage, stages_of

FOUND_LATER = "found when verified"
_RECOGNISED, _HEAD = " (recognised)", " (recognised, head)"  # behind a rule's name
# Longer side of a box, in photo pixels, from which a face that is only hidden gets landmarks. Below it the square is
# hardly ever MIN_SIDE, from which faces are compared when verified (mostly 1.4 times the box, in 5 of 100 over 1.76),
# and the ellipse around the box covers all of the face: in 313 of 321 faces every landmark, in the others these were
# a neighbour's.
ALIGNED_FROM = 40.0


def hidden_faces(
    faces: Sequence[CodedFace], mask: MaskKind, new: Collection[int], wide: Collection[int] = (), margin: float = 0.0
) -> dict[int, Hidden]:
    """How much goes of the faces that may not be seen, by their index.

    new: those that another one is joined over. wide: those whose whole head goes. margin: as for hidden_of().
    """
    hidden = {
        i: hidden_of(face, face.action, "head" if i in wide else mask, margin)
        for i, face in enumerate(faces)
        if face.action not in SHOWN
    }
    if mask == "face":
        for i in set(hidden) & set(new):
            hidden[i] = dataclasses.replace(hidden[i], outline=join_outline())
    return hidden


def new_faces(photo: PhotoInWork, faces: Sequence[CodedFace]) -> dict[int, Pixels]:
    """What is drawn over generated faces, by their index."""
    return {i: new for i, new in enumerate(photo.new) if new is not None and faces[i].action in GENERATED}


def safe_pixels(
    photo: PhotoInWork, faces: Sequence[CodedFace], mask: MaskKind, wide: Collection[int] = (), margin: float = 0.0
) -> Pixels:
    """The photo with its faces as they may be seen, (H, W, 3) uint8, a new array.

    A new face is joined into what is around the old one; where the head goes with the face, it is painted into the egg
    that faces are coded for. wide, margin: as for hidden_faces.
    """
    new = new_faces(photo, faces)
    hidden = hidden_faces(faces, mask, new, wide, margin)
    pixels = redact_faces(photo.pixels, [face for face in hidden.values() if face.outline is None])
    # a large face stands in front of a small one
    for i in sorted(new, key=lambda i: square(faces[i].transform)[2]):
        transform = faces[i].transform
        if mask == "face":
            others = [face.transform for j, face in enumerate(faces) if j != i and face.transform]
            join(pixels, new[i], align_face(photo.pixels, transform), transform, others)
        else:
            face = fitted(new[i], align_face(photo.pixels, transform, len(new[i])))
            paste_face(pixels, face, transform, stranger=True)
    return pixels


class Redactor:
    """Makes safe photos of photos in work. Not to be shared by threads: the detectors are not."""

    def __init__(self, settings: RedactSettings) -> None:
        self._settings = settings
        self._policy = settings.policy
        self._codec = FaceCodec.load()
        self._detector = FaceSearch(settings)
        self._looks = Looks()

    def close(self) -> None:
        """Frees the detectors."""
        self._detector.close()
        self._looks.close()

    def redact(self, photo: PhotoInWork) -> SafePhoto:
        """The safe photo. Raises PrivacyError for one in which a face is still seen that the policy hides, its whole
        head filled in; one that a reviewer released is passed on all the same."""
        faces = list(photo.coded or map(uncoded, photo.faces, photo.decisions))
        data = self._encode(photo, faces)
        wide: frozenset[int] = frozenset()
        if not self._policy.actions <= SHOWN or any(face.action not in SHOWN for face in faces):
            if seen := self._leaks(photo, faces, data):
                before = len(faces)
                data = self._escalate(photo, faces, seen)
                seen = self._leaks(photo, faces, data, {*seen.known, *range(before, len(faces))})
            wide = frozenset(seen.known)
            if wide:  # by what is around the face: hair, or the head of a neighbour in a crowd
                before = len(faces)
                data = self._escalate(photo, faces, seen, wide)
                seen = self._leaks(photo, faces, data, {*wide, *range(before, len(faces))}, wide)
            sure = [face for face in seen.found if face.score >= SURE]
            if (seen.known or sure) and not corrections_of(photo.origin).of("release"):
                raise PrivacyError(_reason([(i + 1, faces[i]) for i in seen.known], sure))
            if seen:  # what is left hardly looks like a face, or is released: it goes, whatever of it is there still
                data = self._escalate(photo, faces, seen, wide)
        for face in faces:
            Metrics.counter(NAMESPACE, f"action_{face.action}").inc()
        name = output_name(photo.name) + SUFFIXES[self._settings.image_format]
        safe = SafePhoto(photo.uri, name, data, _handled(photo, faces), self._policy.id, VERSION, photo.origin)
        if self._settings.write_boxes == "none":
            return safe
        hidden = self._hidden(photo, faces, wide)
        size = photo.pixels.shape[1], photo.pixels.shape[0]
        beside, boxes = boxes_of(self._settings.write_boxes, name, safe.faces, list(hidden.values()), size)
        return dataclasses.replace(safe, beside=beside, beside_data=boxes)

    def _leaks(
        self,
        photo: PhotoInWork,
        faces: Sequence[CodedFace],
        data: bytes,
        changed: Collection[int] | None = None,
        wide: Collection[int] = (),
    ) -> Leaks:
        """What is wrong with the bytes that are to be written.

        changed: the faces whose places were painted anew, where all else was verified before. wide: as for
        hidden_faces.
        """
        written = decode_image(data, photo.pixels.shape[0] * photo.pixels.shape[1])
        hidden = self._hidden(photo, faces, wide)
        painted = [face for i, face in hidden.items() if changed is None or i in changed]
        found = self._detector.detect(written, painted_places(painted, written.shape[:2]))
        return leaks(photo.pixels, written, faces, hidden, found, self._looks.locate)

    def _escalate(self, photo: PhotoInWork, faces: list[CodedFace], seen: Leaks, wide: Collection[int] = ()) -> bytes:
        """The photo with what is seen filled in; the faces, in place, say so. wide: as for hidden_faces."""
        Metrics.counter(NAMESPACE, "escalated").inc(len(seen.known) + len(seen.found))
        for i in seen.known:
            faces[i] = filled(faces[i], head=i in wide)
        faces += [_late(face) for face in seen.found]
        return self._encode(photo, faces, wide)

    def _hidden(self, photo: PhotoInWork, faces: Sequence[CodedFace], wide: Collection[int]) -> dict[int, Hidden]:
        return hidden_faces(faces, self._policy.mask, new_faces(photo, faces), wide, self._settings.margin)

    def _encode(self, photo: PhotoInWork, faces: Sequence[CodedFace], wide: Collection[int] = ()) -> bytes:
        with one_thread():
            pixels = safe_pixels(photo, faces, self._policy.mask, wide, self._settings.margin)
        generated = any(face.action in GENERATED for face in faces)
        if generated and self._settings.visible_mark:
            draw_mark(pixels)
        xmp = synthesis_xmp(VERSION) if generated and self._settings.synthesis_mark else b""
        if not self._settings.keep_blocks:
            return encode_image(pixels, self._settings.image_format, self._settings.quality, photo.exif, xmp)
        changed = (pixels != photo.pixels).any(2)
        for face in self._hidden(photo, faces, wide).values():
            for window, alpha in masks_of(face, (changed.shape[0], changed.shape[1])):
                changed[window] |= alpha > 0
        return with_new_pixels(photo.source, pixels, changed, photo.exif, xmp)


def uncoded(face: Face, decision: Decision) -> CodedFace:
    """A face for which no codec was asked."""
    return CodedFace(face.box, face.transform, decision.action, decision.rule, "", b"", 0.0, face.kind)


def filled(face: CodedFace, head: bool = False) -> CodedFace:
    """The face redacted after all; head: for the second time, with the whole head."""
    rule = f"{face.rule.removesuffix(_RECOGNISED)}{_HEAD if head else _RECOGNISED}"
    return dataclasses.replace(face, action="fill", rule=rule, model="", payload=b"", score=0.0)


def _late(face: Face) -> CodedFace:
    """What the detectors find in the written photo alone has no decision: it goes."""
    return CodedFace(face.box, (), "fill", FOUND_LATER, "", b"", 0.0)


def _reason(known: Sequence[tuple[int, CodedFace]], found: Sequence[Face]) -> str:
    """known: number, from 1, and face; of each kind three are named."""
    parts = [f"face {number} ({_place(face.box)}) is still recognised" for number, face in known[:3]]
    parts += [f"a face ({_place(face.box)}) is found that should not be there" for face in found[:3]]
    more = max(0, len(known) - 3) + max(0, len(found) - 3)
    parts += [f"{more} more"] if more else []
    remedy = "; its whole head was filled in: it is what is around it that is known" if known else ""
    return f"withheld: in the redacted photo {', '.join(parts)}{remedy}"


def _place(box: Sequence[float]) -> str:
    x, y, width, height = box
    return f"{width:.0f} x {height:.0f} at {x:.0f}, {y:.0f}"


def _handled(photo: PhotoInWork, faces: Sequence[CodedFace]) -> tuple[HandledFace, ...]:
    known = [
        HandledFace(
            face.box, face.action, face.rule, decision.action, **measured, doubted=decision.doubted, kind=face.kind
        )
        for face, decision, measured in zip(faces, photo.decisions, photo.measured, strict=False)
    ]
    return (*known, *(HandledFace(face.box, face.action, face.rule, "") for face in faces[len(known) :]))


class _Redact(Stage):
    stage = "redact"

    def __init__(self, settings: RedactSettings) -> None:
        self._settings = settings

    def setup(self) -> None:
        tune_process(self._settings.threads)
        self._redactor = Redactor(self._settings)

    def teardown(self) -> None:
        self._redactor.close()

    def work(self, element: PhotoInWork) -> Iterable[SafePhoto]:
        yield self._redactor.redact(element)


class RedactPhotos(IsolatedStages):
    """Photo -> SafePhoto: an ordinary image file with nothing hidden in it; the policy says whose face is seen.

    Takes a PCollection of Photo or what ReadPhotos gives, whose failures it hands on. The result has .photos
    (SafePhoto) and .failures (Failure): each photo comes out of one of them. WritePhotos writes them.

    policy: a built-in policy's name, a file's path or URI, or a Policy; PolicyError for one that cannot be used.
    `preserve` leaves a face as it is, as `keep` does. Or the RedactSettings, whole. key_file: a key's path or URI
    (mien.transforms.policy.pseudonyms); KeyFileError. rows: SealedRow of the whole collection (FaceRows), by default of
    these photos, then searched twice. options: the other fields of RedactSettings; SettingsError for a value that
    cannot be.
    """

    def __init__(
        self,
        policy: str | Policy | RedactSettings = "redact",
        *,
        key_file: str = "",
        rows: beam.PCollection | None = None,
        **options: Any,
    ) -> None:
        first = policy if isinstance(policy, RedactSettings) else opened(policy)
        if key_file:
            options["key_file"] = KeyFile.of(key_file)
        settings = chosen(RedactSettings, options, policy=first)
        landmarks_from = 0.0 if settings.generates or settings.policy.asks_for_pose else ALIGNED_FROM
        parts: list[IsolatedStages] = [
            DecodePhotos(settings.max_pixels, settings.keep, keep_blocks=settings.keep_blocks),
            DetectFaces(settings, landmarks_from),
            DecideFaces(settings.policy.uncoded()),
        ]
        parts.append(CorrectFaces(settings.generates))
        if settings.generates:
            parts.append(DrawNewFaces(settings))
        super().__init__([*stages_of(parts), _Redact(settings)], SafePhoto, settings.photo_limits)
        self._key_file = settings.named_by
        self._rows = rows
        self._face_rows = FaceRows(self._key_file, settings) if self._key_file else None

    def expand(self, photos: Input) -> PhotosAndFailures:
        if self._key_file:
            named = photos["photos"] if isinstance(photos, dict) else photos
            rows = named | self._face_rows if self._rows is None else self._rows
            named = named | GiveSeeds(rows, self._key_file)
            photos = {**photos, "photos": named} if isinstance(photos, dict) else named
        return super().expand(photos)
