"""An image file's bytes to pixels: upright sRGB, everything else about the file forgotten."""

from collections.abc import Iterable, Sequence

from apache_beam.metrics import Metrics

from mien.models.errors import ContainerError, ImageError
from mien.models.images import decode_image, has_chunk, kept_exif, read_header
from mien.transforms.elements import Photo, PhotoInWork
from mien.transforms.settings import FindSettings
from mien.transforms.stores import name_under
from mien.transforms.workers import NAMESPACE, IsolatedStages, Stage

MAX_PIXELS = FindSettings.max_pixels


def decode_photo(
    photo: Photo, max_pixels: int = MAX_PIXELS, keep: Sequence[str] = (), keep_blocks: bool = False
) -> PhotoInWork:
    """The photo with its pixels, and of its metadata the fields in keep (mien.models.images.metadata.KEPT), written
    anew. keep_blocks: with the file itself, and with its orientation.

    Raises ImageError for what cannot be decoded or is no JPEG though its blocks are to be kept, ImageTooLargeError over
    max_pixels.
    """
    if keep_blocks and read_header(photo.data).format != "JPEG":
        raise ImageError("no JPEG, and --keep-blocks is for the blocks of JPEG files")
    pixels = decode_image(photo.data, max_pixels)
    name = photo.name or name_under("", photo.uri)
    exif = kept_exif(photo.data, [*keep, "orientation"] if keep_blocks else keep, turned=keep_blocks)
    return PhotoInWork(
        photo.uri,
        name,
        photo.origin,
        len(photo.data),
        pixels,
        exif=exif,
        source=photo.data if keep_blocks else b"",
        seeds=photo.seeds,
        spent=photo.spent,
    )


class _Decode(Stage):
    stage = "decode"

    def __init__(self, max_pixels: int, keep: Sequence[str], *, coded: bool, keep_blocks: bool) -> None:
        self._keep_blocks = keep_blocks
        self._max_pixels = max_pixels
        self._keep = tuple(keep)
        self._coded = coded

    def work(self, element: Photo) -> Iterable[PhotoInWork]:
        if not self._coded and has_chunk(element.data):
            raise ContainerError("the photo is coded already, and its faces are not in its picture: restore it first")
        yield decode_photo(element, self._max_pixels, self._keep, self._keep_blocks)
        if element.data.startswith((b"II", b"MM")):
            header = read_header(element.data)
            Metrics.counter(NAMESPACE, "pages_left_out").inc(header.pages - 1)
            Metrics.counter(NAMESPACE, "floats_stretched").inc(int(header.floats))


class DecodePhotos(IsolatedStages):
    """Photo -> PhotoInWork with pixels. keep: what of the metadata is to be written anew, see
    mien.models.images.metadata. coded: photos that mien has coded are taken for the pictures that viewers show; else
    they are refused. keep_blocks: as for decode_photo.

    Counted in Beam's metrics: further pages of TIFFs, which are left out (pages_left_out), and TIFFs of floats, which
    do not say what white is (floats_stretched)."""

    def __init__(
        self,
        max_pixels: int = MAX_PIXELS,
        keep: Sequence[str] = (),
        *,
        coded: bool = True,
        keep_blocks: bool = False,
    ) -> None:
        super().__init__([_Decode(max_pixels, keep, coded=coded, keep_blocks=keep_blocks)], PhotoInWork)
