"""An image file's bytes to pixels: upright sRGB, everything else about the file forgotten."""

from collections.abc import Iterable, Sequence

from mien.models.images import decode_image, kept_exif
from mien.transforms.elements import Photo, PhotoInWork
from mien.transforms.stores import name_under
from mien.transforms.workers import IsolatedStages, Stage

MAX_PIXELS = 100_000_000


def decode_photo(photo: Photo, max_pixels: int = MAX_PIXELS, keep: Sequence[str] = ()) -> PhotoInWork:
    """The photo with its pixels, and of its metadata the fields in keep (mien.models.images.metadata.KEPT), written
    anew.

    Raises ImageError for what cannot be decoded, ImageTooLargeError over max_pixels.
    """
    pixels = decode_image(photo.data, max_pixels)
    name = photo.name or name_under("", photo.uri)
    exif = kept_exif(photo.data, keep)
    return PhotoInWork(
        photo.uri, name, photo.origin, len(photo.data), pixels, exif=exif, seeds=photo.seeds, spent=photo.spent
    )


class _Decode(Stage):
    stage = "decode"

    def __init__(self, max_pixels: int, keep: Sequence[str]) -> None:
        self._max_pixels = max_pixels
        self._keep = tuple(keep)

    def work(self, element: Photo) -> Iterable[PhotoInWork]:
        yield decode_photo(element, self._max_pixels, self._keep)


class DecodePhotos(IsolatedStages):
    """Photo -> PhotoInWork with pixels. keep: what of the metadata is to be written anew, see
    mien.models.images.metadata.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS, keep: Sequence[str] = ()) -> None:
        super().__init__([_Decode(max_pixels, keep)], PhotoInWork)
