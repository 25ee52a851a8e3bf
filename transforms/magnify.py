"""Magnifying faces: of whole photos, enlarged around them, or of pictures that are one aligned face each."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from apache_beam.metrics import Metrics
from PIL import Image

from mien.models.codec import SIZE, SIZES
from mien.models.errors import ImageTooLargeError, NoFaceError
from mien.models.faces import Face, align_face, square
from mien.models.images import encode_image, synthesis_xmp
from mien.models.magnify import DOUBTFUL, MOST, SMALLEST, FaceMagnifier, Magnified
from mien.models.painting import enlarged_transform, inlay_face, needed_size
from mien.models.runtime import tune_process
from mien.transforms.elements import MagnifiedFace, MagnifiedPhoto, PhotoInWork, Pixels
from mien.transforms.restore import ImageFormat
from mien.transforms.steps import DETECTORS, MAX_PIXELS, MAX_YAW, VERSION, DecodePhotos, DetectFaces
from mien.transforms.workers import LIMITS, NAMESPACE, IsolatedStages, Limits, Stage, stages_of

FACTOR, QUALITY = 4, 95
TURNED, TOO_SMALL, TOO_LARGE, NOT_ALIGNED = "turned away", "too small", "large enough", "not aligned"


@dataclass(frozen=True)
class Magnifying:
    """How faces are magnified; size to seed: as in FaceMagnifier.magnify.

    factor: how many times as wide and high photos become. aligned: each picture is one FFHQ-aligned face of 8 to 256 px
    and becomes one of size px; in photos the size follows from the factor.
    """

    factor: int = FACTOR
    aligned: bool = False
    size: int = SIZE
    strength: float = 0.0
    samples: int = 1
    seed: int = 0
    payload: bool = False
    max_pixels: int = MAX_PIXELS


def magnify_aligned(
    photo: PhotoInWork, magnifier: FaceMagnifier, how: Magnifying
) -> tuple[list[Pixels], list[MagnifiedFace]]:
    """An aligned face's pictures (size, size, 3) uint8 and reports, one a sample; MagnifyError for a bad picture."""
    made = _magnify(magnifier, photo.pixels, how.size, how)
    side = len(photo.pixels)
    box = (0.0, 0.0, float(side), float(side))
    return list(made.pictures), [_report(made, i, 1, box, side, how.size / side, how) for i in range(how.samples)]


def magnify_faces(
    photo: PhotoInWork, magnifier: FaceMagnifier, how: Magnifying
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
        reports += [_report(made, i, number, face.box, side, how.factor, how) for i in range(how.samples)]
    if not done:
        found = ", ".join(dict.fromkeys(report.reasons[0] for report in reports))
        raise NoFaceError(
            f"none of its faces can be magnified ({found})"
            if found
            else "no face was found; --aligned takes pictures that are one aligned face"
        )
    return _pictures(photo.pixels, done, (width, height), how.samples), reports


def _left(number: int, face: Face, side: int, reason: str, how: Magnifying) -> list[MagnifiedFace]:
    """The reports of a face that is enlarged as the rest of the photo is."""
    return [
        MagnifiedFace(i, number, face.box, side, how.factor, False, False, (reason,)) for i in range(1, how.samples + 1)
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


def _magnify(magnifier: FaceMagnifier, small: Pixels, size: int, how: Magnifying) -> Magnified:
    return magnifier.magnify(small, size=size, strength=how.strength, samples=how.samples, seed=how.seed)


def _report(
    made: Magnified,
    sample: int,
    face: int,
    box: tuple[float, float, float, float],
    side: int,
    factor: float,
    how: Magnifying,
) -> MagnifiedFace:
    reasons = made.reasons[sample]
    return MagnifiedFace(
        sample + 1,
        face,
        box,
        side,
        factor,
        True,
        bool(reasons),
        reasons,
        made.rms[sample],
        made.limit,
        made.similarity[sample],
        made.preserved[sample],
        made.likeness[sample],
        made.payloads[sample] if how.payload else b"",
    )


class _Magnify(Stage):
    stage = "magnify"

    def __init__(self, how: Magnifying, image_format: ImageFormat, quality: int, threads: int) -> None:
        self._how = how
        self._format = image_format
        self._quality = quality
        self._threads = threads

    def setup(self) -> None:
        tune_process(self._threads)
        self._magnifier = FaceMagnifier.load()

    def work(self, element: PhotoInWork) -> Iterable[MagnifiedPhoto]:
        pictures: Iterable[Pixels]
        if self._how.aligned:
            Metrics.counter(NAMESPACE, "faces").inc()
            pictures, faces = magnify_aligned(element, self._magnifier, self._how)
        else:
            pictures, faces = magnify_faces(element, self._magnifier, self._how)
        xmp = synthesis_xmp(VERSION)
        files = tuple(encode_image(picture, self._format, self._quality, xmp=xmp) for picture in pictures)
        for name, count in (
            ("magnified", sum(face.magnified for face in faces)),
            ("flagged", sum(face.flagged for face in faces)),
            ("identity_not_preserved", sum(face.identity_preserved is False for face in faces)),
        ):
            Metrics.counter(NAMESPACE, name).inc(count)
        yield MagnifiedPhoto(element.uri, element.name, self._format, files, tuple(faces), VERSION, element.origin)


class MagnifyFaces(IsolatedStages):
    """Photo -> MagnifiedPhoto: the photo enlarged, its small faces magnified; or pictures of one aligned face each.

    Takes a PCollection of Photo or what ReadPhotos gives, whose failures it hands on. The result has .photos
    (MagnifiedPhoto) and .failures (Failure): each photo comes out of one of them. WriteMagnified writes them. Every
    picture says in XMP that a trained model made parts of it.

    factor to seed: as in Magnifying. payload: reports hold the faces as payloads of the codec. image_format: of the
    files; quality: of the lossy ones. detectors: whose finds are joined; max_pixels: of a photo, before and after;
    threads: of one worker process; limits: of a photo.
    """

    def __init__(
        self,
        factor: int = FACTOR,
        aligned: bool = False,
        size: int = SIZE,
        strength: float = 0.0,
        samples: int = 1,
        seed: int = 0,
        payload: bool = False,
        image_format: ImageFormat = "png",
        quality: int = QUALITY,
        detectors: Sequence[str] = DETECTORS,
        max_pixels: int = MAX_PIXELS,
        threads: int = 1,
        limits: Limits = LIMITS,
    ) -> None:
        how = Magnifying(factor, aligned, size, strength, samples, seed, payload, max_pixels)
        parts: list[IsolatedStages] = [DecodePhotos(max_pixels)]
        if not aligned:
            parts.append(DetectFaces(detectors, threads))
        magnify = _Magnify(how, image_format, quality, threads)
        super().__init__([*stages_of(parts), magnify], MagnifiedPhoto, limits)
