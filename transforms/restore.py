"""Coded photos back to pictures: the background decoded, each face decoded and put back into its place."""

from collections.abc import Iterable, Sequence
from typing import Any

from apache_beam.metrics import Metrics

from mien.models.codec import FaceCodec
from mien.models.errors import ContainerError
from mien.models.images import decode_image, encode_image, synthesis_xmp
from mien.models.painting import needed_size, paste_face
from mien.models.runtime import tune_process
from mien.transforms.elements import CodedFace, CodedPhoto, Photo, Pixels
from mien.transforms.settings import ImageFormat, RestoreSettings, chosen
from mien.transforms.steps import MAX_PIXELS, VERSION
from mien.transforms.stores import SUFFIXES, name_under, output_name
from mien.transforms.workers import NAMESPACE, IsolatedStages, Stage


def restore_photo(photo: CodedPhoto, codec: FaceCodec, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The photo's (height, width, 3) uint8 picture with every coded face in its place.

    Faces are decoded at the size that their place needs. Raises ImageError for the background, PayloadError for a face,
    ContainerError for a background of another size than recorded: its faces would go to the wrong places.
    """
    pixels = decode_image(photo.background, max_pixels).copy()
    if pixels.shape[:2] != (photo.height, photo.width):
        raise ContainerError(
            f"the image is {pixels.shape[1]} x {pixels.shape[0]}, its record says {photo.width} x {photo.height}"
        )
    paste_coded(pixels, photo.faces, codec)
    return pixels


def paste_coded(pixels: Pixels, faces: Sequence[CodedFace], codec: FaceCodec) -> None:
    """Every face that has a payload decoded, at the size that its place needs, and painted into the photo, in place.

    pixels: (H, W, 3) uint8, the faces' places filled. Raises PayloadError.
    """
    coded = [face for face in faces if face.payload and face.transform]
    for face in sorted(coded, key=_scale):  # a large face stands in front of a small one
        paste_face(pixels, codec.decode(face.payload, needed_size(face.transform)), face.transform)


def _scale(face: CodedFace) -> float:
    a, b = face.transform[:2]
    return a * a + b * b


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
