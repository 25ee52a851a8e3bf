"""Coded photos back to pictures: the background decoded, each face decoded and put back into its place."""

from collections.abc import Iterable
from typing import Any

from apache_beam.metrics import Metrics

from mien.models.codec import FaceCodec
from mien.models.errors import ContainerError, ImageTooLargeError
from mien.models.images import decode_image, encode_image, enlarge, is_scaled, synthesis_xmp
from mien.models.runtime import tune_process
from mien.transforms.elements import CodedPhoto, Photo, Pixels
from mien.transforms.settings import ImageFormat, RestoreSettings, chosen
from mien.transforms.steps import MAX_PIXELS, VERSION, paste_coded
from mien.transforms.stores import SUFFIXES, name_under, output_name
from mien.transforms.workers import NAMESPACE, IsolatedStages, Stage


def restore_photo(photo: CodedPhoto, codec: FaceCodec, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The photo's (height, width, 3) uint8 picture with every coded face in its place.

    Faces are decoded at the size that their place needs. Raises ImageError for the background, PayloadError for a face,
    ContainerError for a background of other proportions than recorded: its faces would go to the wrong places. One that
    was shrunk to fit a budget of bytes is enlarged again; ImageTooLargeError for a record of more than max_pixels.
    """
    coded = decode_image(photo.background, max_pixels)
    size = photo.width, photo.height
    if not is_scaled((coded.shape[1], coded.shape[0]), *size):
        raise ContainerError(
            f"the image is {coded.shape[1]} x {coded.shape[0]}, its record says {photo.width} x {photo.height}"
        )
    if size[0] * size[1] > max_pixels:
        raise ImageTooLargeError(f"{size[0]} x {size[1]} pixels, over the limit of {max_pixels:,}")
    pixels = enlarge(coded, size).copy()
    paste_coded(pixels, photo.faces, codec)
    return pixels


class _Restore(Stage):
    stage = "restore"

    def __init__(self, settings: RestoreSettings) -> None:
        self._settings = settings

    def setup(self) -> None:
        tune_process(self._settings.threads)
        self._codec = FaceCodec.load()

    def work(self, element: CodedPhoto) -> Iterable[Photo]:
        how = self._settings
        decoded = sum(bool(face.payload) for face in element.faces)
        xmp = synthesis_xmp(VERSION) if decoded and how.synthesis_mark else b""
        image = encode_image(restore_photo(element, self._codec), how.image_format, how.quality, xmp=xmp)
        Metrics.counter(NAMESPACE, "faces").inc(decoded)
        name = element.name or name_under("", element.uri)
        yield Photo(element.uri, image, output_name(name) + SUFFIXES[how.image_format], element.origin)


class RestorePhotos(IsolatedStages):
    """CodedPhoto -> Photo: an image file with all coded faces in their places.

    Takes a PCollection of CodedPhoto or what ReadCoded gives. The result has .photos (Photo) and .failures (Failure).
    image_format: of the files; or the RestoreSettings, whole. options: the other fields of RestoreSettings;
    SettingsError for a value that cannot be.
    """

    def __init__(self, image_format: ImageFormat | RestoreSettings = "png", **options: Any) -> None:
        settings = chosen(RestoreSettings, options, image_format=image_format)
        super().__init__([_Restore(settings)], Photo, settings.photo_limits)
