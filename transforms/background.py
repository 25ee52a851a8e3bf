"""Everything in the frame but the faces: those are filled in, the rest goes through a conventional coder."""

import importlib.metadata
from collections.abc import Iterable
from typing import Literal

import apache_beam as beam

from mien.models.background import box_mask, fill_faces
from mien.models.image import encode_image
from mien.transforms.code_faces import mask_of
from mien.transforms.elements import CodedPhoto, PhotoInWork, PhotosAndFailures
from mien.transforms.stage import Stage, StageTransform, through

BackgroundCodec = Literal["avif", "webp", "jpeg"]
SUFFIXES = {"avif": ".avif", "webp": ".webp", "jpeg": ".jpg", "png": ".png"}
QUALITY = 60
VERSION = importlib.metadata.version("mien")


def code_background(photo: PhotoInWork, policy: str, codec: BackgroundCodec, quality: int) -> CodedPhoto:
    """The photo as it is stored: every face but those that are kept filled in, then coded."""
    height, width = photo.pixels.shape[:2]
    shape = height, width
    masks = [mask_of(face, shape) for face in photo.coded if face.action != "keep"]
    # the mask of an aligned face is made for one seen from the front; what must go for good goes with all of its box
    masks += [box_mask(face.box, shape) for face in photo.coded if face.action == "fill" and face.transform]
    filled = fill_faces(photo.pixels, masks) if masks else photo.pixels
    return CodedPhoto(
        photo.uri,
        photo.source_bytes,
        width,
        height,
        encode_image(filled, codec, quality),
        codec,
        photo.coded,
        policy,
        VERSION,
        photo.name,
        photo.origin,
    )


class _Background(Stage):
    stage = "background"

    def __init__(self, policy: str, codec: BackgroundCodec, quality: int) -> None:
        self._policy = policy
        self._codec = codec
        self._quality = quality

    def work(self, element: PhotoInWork) -> Iterable[CodedPhoto]:
        yield code_background(element, self._policy, self._codec, self._quality)


class CodeBackground(StageTransform):
    """PhotoInWork with coded faces -> CodedPhoto. policy: the id that is recorded with the photo."""

    def __init__(self, policy: str, codec: BackgroundCodec = "avif", quality: int = QUALITY) -> None:
        super().__init__()
        self._stage = _Background(policy, codec, quality)

    def expand(self, photos: beam.PCollection) -> PhotosAndFailures:
        return through(photos, self._stage, CodedPhoto)
