"""Photos that mien has coded already, as input; and what is counted of TIFFs."""

import io

import numpy as np
import pytest
from PIL import Image

from mien.models.errors import ContainerError
from mien.models.images.chunk import StoredFace, StoredPhoto
from mien.models.images.container import embed
from mien.models.images.files import Codec, decode_image, encode_image
from mien.transforms.elements import Photo, PhotoInWork
from mien.transforms.steps.decode import DecodePhotos
from mien.transforms.workers.isolate import stages_of

PLAIN = np.full((48, 64, 3), (90, 120, 150), np.uint8)
FACE = StoredFace((1, 2, 30, 30), (), "preserve", "otherwise", "base1-0000", bytes(range(60)), 0.5)
STORED = StoredPhoto(64, 48, (FACE,), "compress", "0")


def decoded(data: bytes, coded: bool) -> PhotoInWork:
    (stage,) = stages_of([DecodePhotos(coded=coded)])
    (photo,) = stage.work(Photo("u", data, "n"))
    return photo


@pytest.mark.parametrize("codec", ["avif", "webp", "jpeg"])
def test_a_coded_photo_is_refused_where_its_faces_would_be_lost(codec: Codec) -> None:
    plain = encode_image(PLAIN, codec)
    coded = embed(plain, STORED)
    damaged = coded.replace(bytes(range(60)), bytes(60))
    behind = coded + b"\0\0" if codec == "avif" else coded
    for data in (coded, damaged, behind):
        with pytest.raises(ContainerError, match="coded already"):
            decoded(data, coded=False)
        # without the chunk it is the picture that every viewer shows, with the coded faces filled
        assert np.array_equal(decoded(data, coded=True).pixels, decode_image(plain))
    assert np.array_equal(decoded(plain, coded=False).pixels, decode_image(plain))


def test_other_formats_are_never_coded() -> None:
    for kind in ("PNG", "TIFF", "GIF", "BMP"):
        out = io.BytesIO()
        Image.fromarray(PLAIN).save(out, kind)
        assert decoded(out.getvalue() + b"mien\0", coded=False).pixels.shape == (48, 64, 3)
