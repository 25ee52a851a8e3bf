"""Everything in the frame but the faces: those are filled in, the rest goes through a conventional coder.

A face that a policy preserves may look more like itself in that coder's own pixels than by the face codec: then they
stay. What is better depends on the bytes, so both photos are made, and looked at.
"""

import dataclasses
import functools
import importlib.metadata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from apache_beam.metrics import Metrics

from mien.models.codec import FaceCodec, Likeness, Original, is_seen
from mien.models.errors import BudgetError
from mien.models.images import decode_image, encode_image, fit_picture
from mien.models.privacy import Hidden, redact_faces
from mien.models.runtime import tune_process
from mien.transforms.elements import CodedFace, CodedPhoto, PhotoInWork, Pixels, PlainPhoto
from mien.transforms.formats import IN_PIXELS, blob_of, in_pixels
from mien.transforms.settings import BackgroundCodec, CompressSettings
from mien.transforms.steps.align import hidden_of
from mien.transforms.steps.paste import paste_coded
from mien.transforms.workers import NAMESPACE, IsolatedStages, Stage

VERSION = importlib.metadata.version("mien")
# How much farther from the original all of a photo may look, to the trunk, than with its faces in their own pixels: it
# doubts coded faces more than LPIPS does, which on five portraits was as large at 1.15.
WHOLE_SLACK = 1.08
FACE_SLACK = 1.02  # the same for another face of the photo, which stays in its pixels
LOOKED_AT = 8  # faces in their own pixels, the largest ones, for which a background's size is chosen
REUSED = 0.96  # of the room: a plain photo that fills as much of it is not coded again


@dataclass(frozen=True)
class _Version:
    """A photo as it may be stored. pixels: what its background shows; full: nothing better was to be had."""

    faces: tuple[CodedFace, ...]
    data: bytes
    pixels: Pixels
    full: bool


def code_background(photo: PhotoInWork, settings: CompressSettings) -> CodedPhoto:
    """The photo as it is stored: every face but those that are kept redacted or filled in, then coded.

    With `faces` auto, faces under `preserve` whose own pixels look better stay in them, and their rule says so.
    BudgetError for one that does not fit its bytes.
    """
    coded = [i for i, face in enumerate(photo.coded) if face.action == "preserve" and face.payload]
    if settings.faces == "auto" and coded:
        found = _better(photo, coded, settings)
    else:
        found = code_version(photo, photo.coded, settings)
    if found.full:
        Metrics.counter(NAMESPACE, "below_budget").inc()
    return _stored(photo, found.faces, found.data, settings)


def code_version(photo: PhotoInWork, faces: tuple[CodedFace, ...], settings: CompressSettings) -> _Version:
    """The photo with these faces, before it is known whether it is the best. BudgetError."""
    hidden = _hidden(faces, settings)
    budget = settings.budget(photo.source_bytes)
    room = None if budget is None else budget - _beside(photo, faces, settings)
    plain = photo.plain
    if plain is not None and plain.hidden == hidden and _fits(plain, room):
        return _Version(faces, plain.data, plain.pixels, plain.full)
    filled = redact_faces(photo.pixels, hidden) if hidden else photo.pixels
    if budget is None or room is None:
        data = encode_image(filled, settings.background, settings.coder_quality)
        return _Version(faces, data, decode_image(data, filled.size) if settings.faces == "auto" else filled, False)
    seen = [face.transform for face in faces if in_pixels(face) and is_seen(filled, face.transform)]
    original = Original(FaceCodec.load().encoder, filled, seen[:LOOKED_AT])
    try:
        fitted = _fitted(filled, settings.background, room, photo.source_bytes - (budget - room), original)
    except BudgetError as error:
        least = error.least + budget - room
        many = f" with its {len(faces)} faces" if faces else ""
        raise BudgetError(
            least, f"this photo{many} needs at least {least:,} bytes, and {budget:,} are allowed"
        ) from None
    return _Version(faces, *fitted)


def _fitted(
    filled: Pixels, codec: BackgroundCodec, room: int, source: int, original: Original
) -> tuple[bytes, Pixels, bool]:
    """The file, what it shows, and whether it stays below its room: nothing is larger than what it was made from."""
    if source < room:
        try:
            found = fit_picture(filled, codec, source, original.distance)
            return found.data, found.pixels, True
        except BudgetError:  # what the file needs at least is more than the source has
            pass
    found = fit_picture(filled, codec, room, original.distance)
    return found.data, found.pixels, found.full


def _fits(plain: PlainPhoto, room: int | None) -> bool:
    if room is None or plain.room is None:
        return room == plain.room
    return len(plain.data) <= room and (plain.full or len(plain.data) >= REUSED * room)


def _hidden(faces: Sequence[CodedFace], settings: CompressSettings) -> tuple[Hidden, ...]:
    mask = settings.policy.mask  # how much of the faces goes that must not be recognised
    return tuple(
        hidden_of(face, face.action, *(("face", 0.0) if face.action == "preserve" else (mask, settings.margin)))
        for face in faces
        if face.action != "keep"
    )


def plain_version(photo: PhotoInWork, faces: tuple[CodedFace, ...], settings: CompressSettings) -> PlainPhoto:
    """The photo with no face by the codec, to be looked at and perhaps to be stored. BudgetError."""
    found = code_version(photo, faces, settings)
    budget = settings.budget(photo.source_bytes)
    room = None if budget is None else budget - _beside(photo, faces, settings)
    return PlainPhoto(found.data, found.pixels, _hidden(faces, settings), room, found.full)


def left_in_pixels(face: CodedFace) -> CodedFace:
    """The face in its own pixels, and the rule that says why."""
    return dataclasses.replace(face, action="keep", rule=face.rule + IN_PIXELS, model="", payload=b"", score=0.0)


def _better(photo: PhotoInWork, coded: Sequence[int], settings: CompressSettings) -> _Version:
    """The photo with those of its coded faces that look better so than in their own pixels, and with none if all of it
    or another face would look worse for it."""
    plain_faces = tuple(left_in_pixels(face) if i in coded else face for i, face in enumerate(photo.coded))
    codec = FaceCodec.load()
    kept = (i for i, face in enumerate(photo.coded) if face.action in ("keep", "preserve"))
    compared = [i for i in kept if is_seen(photo.pixels, photo.coded[i].transform)]
    original = Original(codec.encoder, photo.pixels, [photo.coded[i].transform for i in compared])

    def looked_at(version: _Version) -> Likeness:
        shown = version.pixels.copy()
        paste_coded(shown, version.faces, codec)
        return original.compare(shown)

    plain = code_version(photo, plain_faces, settings)
    known = looked_at(plain)
    chosen, free = list(coded), settings.budget(photo.source_bytes) is None
    while chosen:
        faces = tuple(photo.coded[i] if i in chosen else face for i, face in enumerate(plain_faces))
        try:
            found = code_version(photo, faces, settings)
        except BudgetError:
            return plain
        if free and _size(photo, found, settings) > _size(photo, plain, settings):
            return plain  # of as many bytes it would look better still
        seen = looked_at(found)
        pairs = dict(zip(compared, zip(seen.faces, known.faces, strict=True), strict=True))
        winners = [i for i in chosen if pairs[i][0].beats(pairs[i][1])]
        if winners == chosen:
            others = [pair for i, pair in pairs.items() if i not in chosen]
            harmed = any(ours.distance > FACE_SLACK * theirs.distance for ours, theirs in others)
            return plain if harmed or seen.whole > WHOLE_SLACK * known.whole else found
        chosen = winners
    return plain


def _size(photo: PhotoInWork, version: _Version, settings: CompressSettings) -> int:
    return len(version.data) + _beside(photo, version.faces, settings)


def _beside(photo: PhotoInWork, faces: tuple[CodedFace, ...], settings: CompressSettings) -> int:
    """Bytes of a coded photo that are not its background's."""
    tiny = _tiny(settings.background)
    padding = settings.background == "webp"  # an odd chunk gets a byte more
    return len(blob_of(_stored(photo, faces, tiny, settings))) - len(tiny) + padding


@functools.cache
def _tiny(codec: BackgroundCodec) -> bytes:
    return encode_image(np.zeros((1, 1, 3), np.uint8), codec, 1)


def _stored(photo: PhotoInWork, faces: tuple[CodedFace, ...], data: bytes, settings: CompressSettings) -> CodedPhoto:
    height, width = photo.pixels.shape[:2]
    about = settings.policy.id, VERSION, photo.name, photo.origin
    return CodedPhoto(photo.uri, photo.source_bytes, width, height, data, settings.background, faces, *about)


class _Background(Stage):
    stage = "background"

    def __init__(self, settings: CompressSettings) -> None:
        self._settings = settings

    def setup(self) -> None:
        tune_process(self._settings.threads)

    def work(self, element: PhotoInWork) -> Iterable[CodedPhoto]:
        coded = code_background(element, self._settings)
        for face in coded.faces:
            Metrics.counter(NAMESPACE, f"action_{face.action}").inc()
            if in_pixels(face):
                Metrics.counter(NAMESPACE, "pixels").inc()
        yield coded


class CodeBackground(IsolatedStages):
    """PhotoInWork with coded faces -> CodedPhoto."""

    def __init__(self, settings: CompressSettings) -> None:
        super().__init__([_Background(settings)], CodedPhoto)
