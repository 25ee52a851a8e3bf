"""An image file's bytes to pixels: upright sRGB, everything else about the file forgotten."""

from collections.abc import Iterable

import apache_beam as beam

from mien.models.image import decode_image
from mien.transforms.elements import Photo, PhotoInWork, PhotosAndFailures
from mien.transforms.names import name_under
from mien.transforms.stage import Stage, StageTransform, through

MAX_PIXELS = 100_000_000


def decode_photo(photo: Photo, max_pixels: int = MAX_PIXELS) -> PhotoInWork:
    """The photo with its pixels. Raises ImageError for what cannot be decoded, ImageTooLargeError over max_pixels."""
    pixels = decode_image(photo.data, max_pixels)
    return PhotoInWork(photo.uri, photo.name or name_under("", photo.uri), photo.origin, len(photo.data), pixels)


class _Decode(Stage):
    stage = "decode"

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels

    def work(self, element: Photo) -> Iterable[PhotoInWork]:
        yield decode_photo(element, self._max_pixels)


class DecodePhotos(StageTransform):
    """Photo -> PhotoInWork with pixels."""

    def __init__(self, max_pixels: int = MAX_PIXELS) -> None:
        super().__init__()
        self._max_pixels = max_pixels

    def expand(self, photos: beam.PCollection) -> PhotosAndFailures:
        return through(photos, _Decode(self._max_pixels), PhotoInWork)
