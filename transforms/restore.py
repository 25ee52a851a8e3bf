"""Coded photos back to pictures: the background decoded, each face decoded and put back into its place."""

from collections.abc import Iterable, Sequence
from typing import Literal

from apache_beam.metrics import Metrics

from mien.models.codec import FaceCodec
from mien.models.errors import ContainerError
from mien.models.images import decode_image, encode_image, synthesis_xmp
from mien.models.painting import needed_size, paste_face
from mien.models.runtime import tune_process
from mien.transforms.elements import CodedFace, CodedPhoto, Photo, Pixels
from mien.transforms.steps import MAX_PIXELS, VERSION
from mien.transforms.stores import SUFFIXES, name_under, output_name
from mien.transforms.workers import LIMITS, NAMESPACE, IsolatedStages, Limits, Stage

ImageFormat = Literal["png", "jpeg", "webp", "avif"]
QUALITY = 90
_FACES_AT_ONCE = 16


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
    decoded: dict[int, Pixels] = {}
    for size in (128, 256, 512):
        chosen = [i for i, face in enumerate(coded) if needed_size(face.transform) == size]
        for start in range(0, len(chosen), _FACES_AT_ONCE):
            part = chosen[start : start + _FACES_AT_ONCE]
            decoded.update(zip(part, codec.decode_batch([coded[i].payload for i in part], size=size), strict=True))
    # a large face stands in front of a small one
    for i in sorted(decoded, key=lambda i: _scale(coded[i])):
        paste_face(pixels, decoded[i], coded[i].transform)


def _scale(face: CodedFace) -> float:
    a, b = face.transform[:2]
    return a * a + b * b


class _Restore(Stage):
    stage = "restore"

    def __init__(self, image_format: ImageFormat, quality: int, threads: int, synthesis_mark: bool) -> None:
        self._format = image_format
        self._quality = quality
        self._threads = threads
        self._synthesis_mark = synthesis_mark

    def setup(self) -> None:
        tune_process(self._threads)
        self._codec = FaceCodec.load()

    def work(self, element: CodedPhoto) -> Iterable[Photo]:
        decoded = sum(bool(face.payload) for face in element.faces)
        xmp = synthesis_xmp(VERSION) if decoded and self._synthesis_mark else b""
        image = encode_image(restore_photo(element, self._codec), self._format, self._quality, xmp=xmp)
        Metrics.counter(NAMESPACE, "faces").inc(decoded)
        name = element.name or name_under("", element.uri)
        yield Photo(element.uri, image, output_name(name) + SUFFIXES[self._format], element.origin)


class RestorePhotos(IsolatedStages):
    """CodedPhoto -> Photo: an image file with all coded faces in their places.

    Takes a PCollection of CodedPhoto or what ReadCoded gives. The result has .photos (Photo) and .failures (Failure).
    image_format: of the files; quality: of the lossy ones; threads: of one worker process. synthesis_mark: a picture
    with decoded faces says in XMP that a trained model made them (mien.models.images.metadata). limits: of a photo.
    """

    def __init__(
        self,
        image_format: ImageFormat = "png",
        quality: int = QUALITY,
        threads: int = 1,
        synthesis_mark: bool = True,
        limits: Limits = LIMITS,
    ) -> None:
        super().__init__([_Restore(image_format, quality, threads, synthesis_mark)], Photo, limits)
