import pathlib

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that
from PIL import Image

from mien.models import FaceMagnifier
from mien.models.errors import ImageTooLargeError, NoFaceError
from mien.models.images.files import decode_image, encode_image
from mien.models.images.metadata import has_mark
from mien.transforms import MagnifyFaces, MagnifySettings
from mien.transforms.elements import Failure, MagnifiedPhoto, Photo, PhotoInWork
from mien.transforms.magnify import magnify_faces
from mien.transforms.sinks.write_magnified import files_of

SAMPLES = pathlib.Path(__file__).parent.parent / "data/samples"


def small(size: int) -> bytes:
    picture = Image.open(SAMPLES / "2.jpg").convert("RGB").resize((size, size), Image.Resampling.BOX)
    return encode_image(np.asarray(picture), "png")


@pytest.mark.slow
def test_aligned_faces_in_a_pipeline() -> None:
    photos = [Photo("a/x.png", small(32), "x.png"), Photo("a/tiny.png", small(6), "tiny.png")]

    def magnified(found: list[MagnifiedPhoto]) -> None:
        (photo,) = found
        assert (photo.uri, photo.name, len(photo.pictures)) == ("a/x.png", "x.png", 2)
        assert [(face.sample, face.face, face.pixels, face.factor) for face in photo.faces] == [
            (1, 1, 32, 8.0),
            (2, 1, 32, 8.0),
        ]
        assert all(face.rms < face.limit and face.payload for face in photo.faces)
        for picture in photo.pictures:
            assert decode_image(picture).shape == (256, 256, 3)
            assert has_mark(picture)
        assert list(files_of(photo)) == ["x.png.png", "x.png-2.png", "x.png.mien", "x.png-2.mien", "x.png.jsonl"]

    def failed(found: list[Failure]) -> None:
        assert [(failure.uri, failure.stage, failure.error) for failure in found] == [
            ("a/tiny.png", "magnify", "FaceTooSmallError")
        ]

    with beam.Pipeline("FnApiRunner") as pipeline:
        made = pipeline | beam.Create(photos) | MagnifyFaces(aligned=True, size=256, samples=2, payload=True)
        assert_that(made.photos, magnified, "photos")
        assert_that(made.failures, failed, "failures")


def test_a_photo_without_a_face_and_one_that_would_be_too_large() -> None:
    photo = PhotoInWork("x", "x", None, 0, np.zeros((40, 60, 3), np.uint8))
    magnifier = FaceMagnifier.load()
    with pytest.raises(NoFaceError, match="--aligned"):
        magnify_faces(photo, magnifier, MagnifySettings(factor=2))
    with pytest.raises(ImageTooLargeError, match="a factor of 20 is the most"):
        magnify_faces(photo, magnifier, MagnifySettings(factor=64, max_pixels=1_000_000))
