import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mien.models.codec.face_codec import FaceCodec
from mien.models.errors import ContainerError, ImageError, PayloadError
from mien.models.images.files import encode_image
from mien.transforms.elements import CodedFace, CodedPhoto, ListedFile
from mien.transforms.formats.blobs import blob_name, blob_of
from mien.transforms.restore import restore_photo
from mien.transforms.sources.read_coded import photo_of_blob

GREY = np.full((200, 300, 3), 120, np.uint8)


@pytest.fixture(scope="module")
def codec() -> FaceCodec:
    return FaceCodec.load()


@pytest.fixture(scope="module")
def coded(codec: FaceCodec) -> CodedPhoto:
    noise = np.random.default_rng(0).integers(90, 160, (8, 8, 3), np.uint8)
    payload = codec.encode(np.kron(noise, np.ones((64, 64, 1), np.uint8)), max_bytes=64)
    face = CodedFace(
        (90.0, 40.0, 90.0, 120.0), (0.25, 0.0, 70.0, 0.0, 0.25, 30.0), "preserve", "r", codec.model, payload, 1
    )
    return CodedPhoto("/in/x.jpg", 9, 300, 200, encode_image(GREY, "webp"), "webp", (face,), "p", "v", "x.jpg")


def test_a_face_is_put_into_its_place_and_nowhere_else(coded: CodedPhoto, codec: FaceCodec) -> None:
    restored = restore_photo(coded, codec)
    changed = np.argwhere(np.abs(restored.astype(int) - 120).max(2) > 4)
    (top, left), (bottom, right) = changed.min(0), changed.max(0)
    assert top >= 30
    assert bottom <= 160
    assert left >= 70
    assert right <= 200
    without = dataclasses.replace(coded, faces=())
    assert np.abs(restore_photo(without, codec).astype(int) - 120).max() <= 4


def test_what_does_not_fit_together_is_refused(coded: CodedPhoto, codec: FaceCodec) -> None:
    with pytest.raises(ContainerError, match="300 x 200, its record says 301 x 200"):
        restore_photo(dataclasses.replace(coded, width=301), codec)
    with pytest.raises(ImageError):
        restore_photo(dataclasses.replace(coded, background=b"no image"), codec)
    damaged = dataclasses.replace(coded.faces[0], payload=b"\0" * 20)
    with pytest.raises(PayloadError):
        restore_photo(dataclasses.replace(coded, faces=(damaged,)), codec)


def test_a_blob_is_read_as_it_was_written(coded: CodedPhoto) -> None:
    assert blob_name(coded) == "x.jpg.webp"
    blob = blob_of(coded)
    for name, expected in (("x.jpg.webp", "x.jpg"), ("a/x.webp", "a/x.webp"), ("x.jpg.png", "x.jpg.png")):
        again = photo_of_blob(blob, ListedFile(f"/out/{name}", name, len(blob), 1.0))
        assert (again.name, again.width, again.height, again.policy) == (expected, 300, 200, "p")
        assert again.faces[0].payload == coded.faces[0].payload
        assert again.faces[0].transform == pytest.approx(coded.faces[0].transform, abs=0.1)


def test_bytes_behind_a_coded_avif_do_not_matter(coded: CodedPhoto, codec: FaceCodec) -> None:
    blob = blob_of(dataclasses.replace(coded, background=encode_image(GREY, "avif"), background_codec="avif"))
    whole, longer = (
        photo_of_blob(data, ListedFile("/out/x.jpg.avif", "x.jpg.avif", len(data), 1.0))
        for data in (blob, blob + b"\0\0")
    )
    assert len(longer.faces) == 1
    assert np.array_equal(restore_photo(longer, codec), restore_photo(whole, codec))


def test_names_without_a_tree(tmp_path: Path) -> None:
    photo = CodedPhoto("gs://b/../x.jpg", 9, 3, 2, b"", "avif", (), "p", "v")
    assert blob_name(photo) == "b/%2E%2E/x.jpg.avif"
