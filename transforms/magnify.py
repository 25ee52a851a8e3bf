"""MagnifySettings faces: of whole photos, enlarged around them, or of pictures that are one aligned face each."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from apache_beam.metrics import Metrics
from PIL import Image

from mien.models.codec import SIZES
from mien.models.errors import ImageTooLargeError, NoFaceError
from mien.models.faces import Face, align_face, square
from mien.models.images import encode_image, synthesis_xmp
from mien.models.magnify import DOUBTFUL, MOST, SMALLEST, FaceMagnifier, Magnified
from mien.models.painting import enlarged_transform, inlay_face, needed_size
from mien.models.runtime import tune_process
from mien.transforms.elements import MagnifiedFace, MagnifiedPhoto, PhotoInWork, Pixels
from mien.transforms.settings import MagnifySettings, chosen
from mien.transforms.steps import MAX_YAW, VERSION, DecodePhotos, DetectFaces
from mien.transforms.workers import NAMESPACE, IsolatedStages, Stage, stages_of

TURNED, TOO_SMALL, TOO_LARGE, NOT_ALIGNED = "turned away", "too small", "large enough", "not aligned"


def magnify_aligned(
    photo: PhotoInWork, magnifier: FaceMagnifier, how: MagnifySettings
) -> tuple[list[Pixels], list[MagnifiedFace]]:
    """An aligned face's pictures (size, size, 3) uint8 and reports, one a sample; MagnifyError for a bad picture."""
    made = _magnify(magnifier, photo.pixels, how.size, how)
    side = len(photo.pixels)
    whole = Face((0.0, 0.0, float(side), float(side)), 1.0)
    return list(made.pictures), _reports(made, whole, 1, side, how.size / side, how)


def magnify_faces(
    photo: PhotoInWork, magnifier: FaceMagnifier, how: MagnifySettings
) -> tuple[Iterator[Pixels], list[MagnifiedFace]]:
    """A photo with faces: its pictures, (H factor, W factor, 3) uint8, one a sample, and what became of its faces.

    A face of more than MOST px or of less than SMALLEST, one that could not be aligned, is turned away or not
    understood, is enlarged as the rest is: what would be drawn there would be another face, laid over it.
    NoFaceError where no face is left, ImageTooLargeError where the pictures would have more than max_pixels.
    """
    height, width = (side * how.factor for side in photo.pixels.shape[:2])
    if height * width > how.max_pixels:
        most = int((how.max_pixels / (photo.pixels.shape[0] * photo.pixels.shape[1])) ** 0.5)
        advice = f"; a factor of {most} is the most" if most > 1 else ""
        raise ImageTooLargeError(
            f"enlarged {how.factor} times it would have {height * width:,} pixels, over {how.max_pixels:,}{advice}"
        )
    done: list[tuple[Magnified, tuple[float, ...]]] = []
    reports: list[MagnifiedFace] = []
    for number, face in enumerate(photo.faces, 1):
        side = round(square(face.transform)[2]) if face.transform else round(max(face.box[2:]))
        reason, small = _small(photo.pixels, face, side)
        if small is None:
            reports += _left(number, face, side, reason, how)
            continue
        transform = enlarged_transform(face.transform, how.factor)
        size = next(size for size in SIZES if size >= max(len(small), needed_size(transform)))
        made = _magnify(magnifier, small, size, how)
        if DOUBTFUL in made.reasons[0]:
            reports += _left(number, face, side, DOUBTFUL, how)
            continue
        done.append((made, transform))
        reports += _reports(made, face, number, side, how.factor, how)
    if not done:
        found = ", ".join(dict.fromkeys(report.reasons[0] for report in reports))
        raise NoFaceError(
            f"none of its faces can be magnified ({found})"
            if found
            else "no face was found; --aligned takes pictures that are one aligned face"
        )
    return _pictures(photo.pixels, done, (width, height), how.samples), reports


def _left(number: int, face: Face, side: int, reason: str, how: MagnifySettings) -> list[MagnifiedFace]:
    """The reports of a face that is enlarged as the rest of the photo is."""
    return [
        MagnifiedFace(i, number, face.box, side, how.factor, magnified=False, flagged=False, reasons=(reason,))
        for i in range(1, how.samples + 1)
    ]


def _small(pixels: Pixels, face: Face, side: int) -> tuple[str, Pixels | None]:
    """The aligned face at its own size, or why there is none."""
    if not face.transform:
        return NOT_ALIGNED, None
    if face.pose and abs(face.pose[0]) > MAX_YAW:
        return TURNED, None
    if side < SMALLEST:
        return TOO_SMALL, None
    if side > MOST:
        return TOO_LARGE, None
    try:
        return "", align_face(pixels, face.transform, side)
    except ValueError:  # its square lies beyond the photo
        return NOT_ALIGNED, None


def _pictures(
    pixels: Pixels, done: Sequence[tuple[Magnified, tuple[float, ...]]], size: tuple[int, int], samples: int
) -> Iterator[Pixels]:
    """One after the other: a photo enlarged 64 times is large."""
    enlarged = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    order = sorted(range(len(done)), key=lambda i: square(done[i][1])[2])  # a large face stands in front of a small one
    for sample in range(samples):
        picture = enlarged.copy()
        for i in order:
            made, transform = done[i]
            others = [other for j, (_, other) in enumerate(done) if j != i]
            inlay_face(picture, made.pictures[sample], transform, others)
        yield picture


def _magnify(magnifier: FaceMagnifier, small: Pixels, size: int, how: MagnifySettings) -> Magnified:
    return magnifier.magnify(small, size=size, strength=how.strength, samples=how.samples, seed=how.seed)


def _reports(
    made: Magnified, face: Face, number: int, side: int, factor: float, how: MagnifySettings
) -> list[MagnifiedFace]:
    """The reports of a magnified face, one a sample. number: of the face; side: px of its square before."""
    return [
        MagnifiedFace(
            i + 1,
            number,
            face.box,
            side,
            factor,
            magnified=True,
            flagged=bool(made.reasons[i]),
            reasons=made.reasons[i],
            rms=made.rms[i],
            limit=made.limit,
            similarity=made.similarity[i],
            identity_preserved=made.preserved[i],
            likeness=made.likeness[i],
            payload=made.payloads[i] if how.payload else b"",
        )
        for i in range(how.samples)
    ]


class _Magnify(Stage):
    stage = "magnify"

    def __init__(self, how: MagnifySettings) -> None:
        self._how = how

    def setup(self) -> None:
        tune_process(self._how.threads)
        self._magnifier = FaceMagnifier.load()

    def work(self, element: PhotoInWork) -> Iterable[MagnifiedPhoto]:
        pictures: Iterable[Pixels]
        if self._how.aligned:
            Metrics.counter(NAMESPACE, "faces").inc()
            pictures, faces = magnify_aligned(element, self._magnifier, self._how)
        else:
            pictures, faces = magnify_faces(element, self._magnifier, self._how)
        xmp = synthesis_xmp(VERSION)
        files = tuple(encode_image(picture, self._how.image_format, self._how.quality, xmp=xmp) for picture in pictures)
        for name, count in (
            ("magnified", sum(face.magnified for face in faces)),
            ("flagged", sum(face.flagged for face in faces)),
            ("identity_not_preserved", sum(face.identity_preserved is False for face in faces)),
        ):
            Metrics.counter(NAMESPACE, name).inc(count)
        yield MagnifiedPhoto(
            element.uri, element.name, self._how.image_format, files, tuple(faces), VERSION, element.origin
        )


class MagnifyFaces(IsolatedStages):
    """Photo -> MagnifiedPhoto: the photo enlarged, its small faces magnified; or pictures of one aligned face each.

    Takes a PCollection of Photo or what ReadPhotos gives, whose failures it hands on. The result has .photos
    (MagnifiedPhoto) and .failures (Failure): each photo comes out of one of them. WriteMagnified writes them. Every
    picture says in XMP that a trained model made parts of it.

    factor: how many times as wide and high photos become; or the MagnifySettings, whole. options: the other fields of
    MagnifySettings; SettingsError for a value that cannot be.
    """

    def __init__(self, factor: int | MagnifySettings = MagnifySettings.factor, **options: Any) -> None:
        settings = chosen(MagnifySettings, options, factor=factor)
        parts: list[IsolatedStages] = [DecodePhotos(settings.max_pixels)]
        if not settings.aligned:
            parts.append(DetectFaces(settings))
        super().__init__([*stages_of(parts), _Magnify(settings)], MagnifiedPhoto, settings.photo_limits)
