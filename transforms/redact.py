"""The whole way from photos to safe photos: ordinary image files in which the policy says whose face is seen.

Each photo is verified before it goes on, from the bytes that will be written (mien.transforms.verify). What is still
seen there is filled in; what is seen even then keeps the photo back.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import apache_beam as beam
from apache_beam.metrics import Metrics

from mien.models.codec import FaceCodec
from mien.models.detection import FaceDetector
from mien.models.errors import PrivacyError
from mien.models.faces import Face
from mien.models.image import decode_image, encode_image
from mien.models.metadata import draw_mark, synthesis_xmp
from mien.models.redaction import MaskKind, redact_faces
from mien.models.runtime import tune_process
from mien.transforms.background import VERSION
from mien.transforms.code_faces import FACE_BYTES, GENERATED, SECONDS, CodeFaces, Effort, hidden_of
from mien.transforms.decide import DecideFaces
from mien.transforms.decode import MAX_PIXELS, DecodePhotos
from mien.transforms.detect import DETECTORS, DetectFaces
from mien.transforms.elements import (
    CodedFace,
    Decision,
    HandledFace,
    PhotoInWork,
    PhotosAndFailures,
    Pixels,
    SafePhoto,
)
from mien.transforms.isolate import IsolatedStages, Limits, stages_of
from mien.transforms.names import SUFFIXES
from mien.transforms.people import FaceRows, GiveSeeds
from mien.transforms.policy import SHOWN, Policy, load_policy
from mien.transforms.restore import ImageFormat, paste_coded
from mien.transforms.stage import NAMESPACE, Input, Stage
from mien.transforms.verify import SURE, Leaks, leaks

QUALITY = 90
FOUND_LATER = "found when verified"


def safe_pixels(photo: PhotoInWork, faces: Sequence[CodedFace], mask: MaskKind, codec: FaceCodec) -> Pixels:
    """The photo with its faces as they may be seen, (H, W, 3) uint8, a new array."""
    hidden = [hidden_of(face, face.action, mask) for face in faces if face.action not in SHOWN]
    pixels = redact_faces(photo.pixels, hidden)
    paste_coded(pixels, [face for face in faces if face.action in GENERATED], codec, photo.pixels)
    return pixels


class Redactor:
    """Makes safe photos of photos in work. Not to be shared by threads: the detectors are not.

    image_format, quality: of the files. mask: how much of a hidden face goes. synthesis_mark: say in XMP that faces are
    generated; visible_mark: write it into the picture too. Both only for photos that have generated faces.
    """

    def __init__(
        self,
        policy: Policy,
        detectors: Sequence[str] = DETECTORS,
        image_format: ImageFormat = "jpeg",
        quality: int = QUALITY,
        synthesis_mark: bool = True,
        visible_mark: bool = False,
    ) -> None:
        self._policy = policy
        self._format = image_format
        self._quality = quality
        self._synthesis_mark = synthesis_mark
        self._visible_mark = visible_mark
        self._codec = FaceCodec.load()
        self._detector = FaceDetector(detectors)

    def close(self) -> None:
        """Frees the detectors."""
        self._detector.close()

    def redact(self, photo: PhotoInWork) -> SafePhoto:
        """The safe photo. Raises PrivacyError for one in which a face is still seen that the policy hides."""
        faces = list(photo.coded or map(uncoded, photo.faces, photo.decisions))
        data = self._encode(photo, faces)
        if not self._policy.actions <= SHOWN:
            if seen := self._leaks(photo, faces, data):
                data = self._escalate(photo, faces, seen)
                seen = self._leaks(photo, faces, data)
            sure = sum(face.score >= SURE for face in seen.found)
            if seen.known or sure:
                raise PrivacyError(_reason(len(seen.known), sure))
            if seen:  # only what hardly looks like a face is left: it goes, and nothing of it is there to be looked at
                data = self._escalate(photo, faces, seen)
        for face in faces:
            Metrics.counter(NAMESPACE, f"action_{face.action}").inc()
        name = photo.name + SUFFIXES[self._format]
        return SafePhoto(photo.uri, name, data, _handled(photo, faces), self._policy.id, VERSION, photo.origin)

    def _leaks(self, photo: PhotoInWork, faces: Sequence[CodedFace], data: bytes) -> Leaks:
        """What is wrong with the bytes that are to be written."""
        written = decode_image(data, photo.pixels.shape[0] * photo.pixels.shape[1])
        found = self._detector.detect(written)
        return leaks(photo.pixels, written, faces, found, self._policy.mask, self._codec.recogniser)

    def _escalate(self, photo: PhotoInWork, faces: list[CodedFace], seen: Leaks) -> bytes:
        """The photo with what is seen filled in; the faces, in place, say so."""
        Metrics.counter(NAMESPACE, "escalated").inc(len(seen.known) + len(seen.found))
        for i in seen.known:
            faces[i] = filled(faces[i])
        faces += [_late(face) for face in seen.found]
        return self._encode(photo, faces)

    def _encode(self, photo: PhotoInWork, faces: Sequence[CodedFace]) -> bytes:
        pixels = safe_pixels(photo, faces, self._policy.mask, self._codec)
        generated = any(face.action in GENERATED for face in faces)
        if generated and self._visible_mark:
            draw_mark(pixels)
        xmp = synthesis_xmp(VERSION) if generated and self._synthesis_mark else b""
        return encode_image(pixels, self._format, self._quality, photo.exif, xmp)


def uncoded_policy(policy: Policy) -> Policy:
    """The policy with keep for preserve: in a safe photo a face that may be recognised stays as it is."""
    rules = tuple(rule.model_copy(update={"do": "keep"}) if rule.do == "preserve" else rule for rule in policy.rules)
    otherwise = "keep" if policy.otherwise == "preserve" else policy.otherwise
    return policy.model_copy(update={"rules": rules, "otherwise": otherwise})


def uncoded(face: Face, decision: Decision) -> CodedFace:
    """A face for which no codec was asked."""
    return CodedFace(face.box, face.transform, decision.action, decision.rule, "", b"", 0.0)


def filled(face: CodedFace) -> CodedFace:
    """The face redacted after all."""
    return dataclasses.replace(face, action="fill", rule=f"{face.rule} (recognised)", model="", payload=b"", score=0.0)


def _late(face: Face) -> CodedFace:
    """What the detectors find in the written photo alone has no decision: it goes."""
    return CodedFace(face.box, (), "fill", FOUND_LATER, "", b"", 0.0)


def _reason(known: int, found: int) -> str:
    parts = [f"{known} hidden faces are still recognised"] if known else []
    parts += [f"{found} faces are found that should not be there"] if found else []
    return f"withheld: in the redacted photo {' and '.join(parts)}"


def _handled(photo: PhotoInWork, faces: Sequence[CodedFace]) -> tuple[HandledFace, ...]:
    known = [
        HandledFace(face.box, face.action, face.rule, decision.action, **measured)
        for face, decision, measured in zip(faces, photo.decisions, photo.measured, strict=False)
    ]
    return (*known, *(HandledFace(face.box, face.action, face.rule, "") for face in faces[len(known) :]))


class _Redact(Stage):
    stage = "redact"

    def __init__(self, threads: int, *settings: object) -> None:
        self._threads = threads
        self._settings = settings

    def setup(self) -> None:
        tune_process(self._threads)
        self._redactor = Redactor(*self._settings)  # type: ignore[arg-type]

    def teardown(self) -> None:
        self._redactor.close()

    def work(self, element: PhotoInWork) -> Iterable[SafePhoto]:
        yield self._redactor.redact(element)


class RedactPhotos(IsolatedStages):
    """Photo -> SafePhoto: an ordinary image file with nothing hidden in it; the policy says whose face is seen.

    Takes a PCollection of Photo or what ReadPhotos gives, whose failures it hands on. The result has .photos
    (SafePhoto) and .failures (Failure): each photo comes out of one of them. WritePhotos writes them.

    policy: a built-in policy's name, a file's path or URI, or a Policy; PolicyError for one that cannot be used.
    `preserve` leaves a face as it is, as `keep` does. keep: metadata that is written anew, see mien.models.metadata.
    key_file: a key's path or URI (mien.transforms.pseudonyms): with it one person gets the same new face in every photo
    under `deidentify`; rows: FaceRow of the whole collection, by default of these photos, then searched twice.
    limits: of a photo, by default of time as the effort asks. The others as in Redactor and CompressPhotos.
    """

    def __init__(
        self,
        policy: str | Policy = "redact",
        image_format: ImageFormat = "jpeg",
        quality: int = QUALITY,
        keep: Sequence[str] = (),
        detectors: Sequence[str] = DETECTORS,
        synthesis_mark: bool = True,
        visible_mark: bool = False,
        face_bytes: int = FACE_BYTES,
        effort: Effort = "fast",
        max_pixels: int = MAX_PIXELS,
        threads: int = 1,
        key_file: str = "",
        rows: beam.PCollection | None = None,
        limits: Limits | None = None,
    ) -> None:
        policy = load_policy(policy) if isinstance(policy, str) else policy
        limits = limits or Limits(SECONDS[effort])
        parts: list[IsolatedStages] = [
            DecodePhotos(max_pixels, keep),
            DetectFaces(detectors, threads),
            DecideFaces(uncoded_policy(policy)),
        ]
        if policy.actions & GENERATED:
            parts.append(CodeFaces(policy, face_bytes, effort, threads))
        settings = (policy, tuple(detectors), image_format, quality, synthesis_mark, visible_mark)
        super().__init__([*stages_of(parts), _Redact(threads, *settings)], SafePhoto, limits)
        self._key_file = key_file if "deidentify" in policy.actions else ""
        self._rows = rows
        self._face_rows = FaceRows(detectors, max_pixels=max_pixels, threads=threads, limits=limits)

    def expand(self, photos: Input) -> PhotosAndFailures:
        if self._key_file:
            named = photos["photos"] if isinstance(photos, dict) else photos
            rows = named | self._face_rows if self._rows is None else self._rows
            named = named | GiveSeeds(rows, self._key_file)
            photos = {**photos, "photos": named} if isinstance(photos, dict) else named
        return super().expand(photos)
