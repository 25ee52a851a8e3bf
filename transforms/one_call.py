"""One photo by one call, without a pipeline: what the jobs redact, compress and restore do with a photo, as functions.

The photo goes to the same child process, through the same stages, as in a job (mien.transforms.workers), so that the
pixels are the same, what kills a decoder does not kill the caller, and threads of the caller need not wait for each
other: each that calls has a child of its own, as many as there are cores. A child has the models loaded (about 1 GB)
and stays for the next call; the first call waits some seconds for its start.
"""

import dataclasses
import io
import os
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from apache_beam.pvalue import TaggedOutput
from PIL import Image

from mien.models import errors
from mien.models.errors import ImageError, MienError, WithheldError
from mien.models.images import decode_image
from mien.models.runtime import cores
from mien.transforms.compress import CompressPhotos
from mien.transforms.elements import Failure, HandledFace, ListedFile, Photo, Pixels
from mien.transforms.formats import blob_of
from mien.transforms.policy import Policy
from mien.transforms.redact import RedactPhotos
from mien.transforms.restore import RestorePhotos
from mien.transforms.sources import MAX_BYTES, photo_of_blob, read_file
from mien.transforms.stores import normal_uri, not_for_photos, stat_file
from mien.transforms.workers import IsolatedStages, Limits, run_stages

ImageLike: TypeAlias = "Pixels | Image.Image | bytes | bytearray | memoryview | str | os.PathLike[str]"

_UNNAMED = "image"
_FILE_MODES = {"CMYK": "TIFF", "F": "TIFF", "I": "TIFF"}  # of Pillow's modes those that PNG has no place for
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


class Redacted(NamedTuple):
    """image: of the kind that was given, see redact_image. faces: what was done with each."""

    image: Any
    faces: tuple[HandledFace, ...]


def redact_image(image: ImageLike, policy: str | Policy = "redact", **options: Any) -> Redacted:
    """The safe photo, and what was done with its faces: what `mien redact` makes of the same file.

    image: pixels as a numpy array (H, W, 3) uint8 RGB (sRGB); a PIL image of any mode, whose orientation and colour
    profile are applied; an image file's bytes; or its path or URI (str or os.PathLike). An array comes back as an array
    and a PIL image as an RGB PIL image; bytes and a path come back as the bytes of an image file. What comes back is
    what was verified: it is decoded from the very file.
    policy: a built-in policy's name, a file's path or URI, or a Policy.
    options: as in mien.transforms.RedactPhotos, but for key_file, which needs the whole collection. image_format is by
    default jpeg for bytes and paths, as in the job, and png, which loses nothing, for arrays and PIL images.

    Raises ImageError for what is no photo, ImageTooLargeError, PrivacyError for a photo that is withheld because a face
    is still seen, PhotoCrashedError, PhotoTimeoutError, PhotoMemoryError, WithheldError for any other fault,
    FileNotFoundError, PolicyError, TypeError for an unknown option. No pixel is returned then. Thread-safe.
    """
    if unfit := {"key_file", "rows", "threads"} & options.keys():
        raise TypeError(f"{min(unfit)} is no option of a single photo: it is of a whole collection")
    as_file = not isinstance(image, np.ndarray | Image.Image)
    options.setdefault("image_format", "jpeg" if as_file else "png")
    # checked before anything is loaded
    photo = _photo_of(image)
    transform = RedactPhotos(policy, **options)
    safe = _result(transform, photo, options.get("limits"))
    if as_file:
        return Redacted(safe.data, safe.faces)
    pixels = decode_image(safe.data, 1 << 62)
    return Redacted(Image.fromarray(pixels) if isinstance(image, Image.Image) else pixels, safe.faces)


def compress_image(image: ImageLike, policy: str | Policy = "compress", **options: Any) -> bytes:
    """The photo as a blob, an ordinary image file that carries its coded faces: what `mien compress --format blobs`
    makes of the same file.

    image: as for redact_image. options: as in mien.transforms.CompressPhotos. Raises as redact_image does, and
    ContainerError for a photo that is coded already. Thread-safe.
    """
    if "threads" in options:
        raise TypeError("threads is no option of a single photo: it is of a whole collection")
    photo = _photo_of(image)
    return blob_of(_result(CompressPhotos(policy, **options), photo, options.get("limits")))


def restore_image(blob: bytes | bytearray | memoryview | str | os.PathLike[str], image_format: str = "") -> Any:
    """The picture of a blob, with its coded faces in their places: what `mien restore` makes of it.

    blob: its bytes, or its path or URI. image_format: empty for the pixels, a numpy array (H, W, 3) uint8 RGB; png,
    jpeg, webp or avif for the bytes of such a file, which says, as the job's does, that a trained model made the faces.

    Raises ContainerError for an image without mien's chunk, PayloadError, ImageError, FileNotFoundError. Thread-safe.
    """
    if image_format not in ("", "png", "jpeg", "webp", "avif"):
        raise ValueError(f"unknown image format {image_format!r}: png, jpeg, webp, avif")
    if not isinstance(blob, bytes | bytearray | memoryview | str | os.PathLike):
        raise ImageError(f"no blob: {type(blob).__name__}")
    read = _photo_of(blob)
    coded = photo_of_blob(read.data, ListedFile(read.uri, _UNNAMED, len(read.data), 0.0))
    transform = RestorePhotos(image_format or "png")  # type: ignore[arg-type]
    made = _result(transform, coded, None)
    return made.data if image_format else decode_image(made.data, 1 << 62)


def _result(transform: IsolatedStages, photo: Any, limits: Limits | None) -> Any:
    limits = limits or transform.limits
    for result in run_stages(transform.stages, photo, dataclasses.replace(limits, children=cores())):
        if not isinstance(result, TaggedOutput):
            return result
        raise _error_of(result.value)
    raise WithheldError("nothing came of the photo")


def _error_of(failure: Failure) -> MienError:
    """The exception that a failure was; one that is not mien's own as a WithheldError that names it."""
    kind = getattr(errors, failure.error, None)
    if isinstance(kind, type) and issubclass(kind, MienError):
        return kind(failure.message)
    return WithheldError(f"{failure.stage}: {failure.error}: {failure.message}")


def _photo_of(image: ImageLike) -> Photo:
    """As a file's bytes, which decode to the very pixels. ImageError for what is no image."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ImageError(f"(H, W, 3) uint8 RGB pixels wanted, {image.shape} {image.dtype} given")
        return Photo(_UNNAMED, _saved(Image.fromarray(np.ascontiguousarray(image)), "PNG"))
    if isinstance(image, Image.Image):
        return Photo(_UNNAMED, _file_of(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return Photo(_UNNAMED, bytes(image))
    if isinstance(image, str | os.PathLike):
        uri = normal_uri(os.fspath(image))
        if reason := not_for_photos(uri):
            raise ImageError(f"{uri}: {reason}")
        found = stat_file(uri)
        if found is None:
            raise FileNotFoundError(f"{uri}: no such file")
        return Photo(uri, read_file(ListedFile(uri, _UNNAMED, found[0], found[1]), MAX_BYTES), _UNNAMED)
    raise ImageError(f"no image: {type(image).__name__}; a numpy array, a PIL image, bytes or a path is wanted")


def _file_of(image: Image.Image) -> bytes:
    """A PIL image with what decides how it is seen: orientation, colour profile, transparency."""
    try:
        image.load()
        if image.mode not in (*_PNG_MODES, *_FILE_MODES):
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        said: dict[str, Any] = {"exif": image.getexif().tobytes()} if image.getexif() else {}
        if profile := image.info.get("icc_profile"):
            said["icc_profile"] = profile
        return _saved(image, _FILE_MODES.get(image.mode, "PNG"), **said)
    except Exception as error:  # a PIL image is read when it is first used, and its plugins raise anything
        raise ImageError(f"a PIL image that cannot be read: {error}") from error


def _saved(image: Image.Image, kind: str, **said: Any) -> bytes:
    stream = io.BytesIO()
    fast: dict[str, Any] = {"compress_level": 1} if kind == "PNG" else {}
    image.save(stream, kind, **fast, **said)
    return stream.getvalue()
