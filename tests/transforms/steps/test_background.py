import dataclasses

import numpy as np

from mien.models.codec.face_codec import FaceCodec
from mien.models.images.files import decode_image
from mien.models.painting.inpaint import face_mask
from mien.transforms.elements import Pixels
from mien.transforms.steps.align import align_faces
from mien.transforms.steps.background import code_background
from mien.transforms.steps.code_faces import code_photo
from tests.transforms.steps.conftest import FACE, QUICK, Decided


def test_a_filled_face_goes_with_all_of_its_box(pixels: Pixels, decided: Decided, codec: FaceCodec) -> None:
    photo = code_photo(align_faces(decided("fill")), codec, QUICK)
    other = pixels.copy()
    x, y, w, h = (round(v) for v in FACE.box)
    other[y : y + h, x : x + w] = 255 - other[y : y + h, x : x + w]
    backgrounds = [
        code_background(dataclasses.replace(photo, pixels=source), QUICK).background for source in (pixels, other)
    ]
    assert backgrounds[0] == backgrounds[1]


def test_the_background_keeps_only_what_may_stay(pixels: Pixels, decided: Decided, codec: FaceCodec) -> None:
    photo = code_photo(align_faces(decided("preserve", "keep")), codec, QUICK)
    coded = code_background(photo, QUICK)
    assert (coded.width, coded.height, coded.background_codec, coded.policy) == (800, 400, "webp", QUICK.policy.id)
    shown = decode_image(coded.background).astype(np.float32)
    for face, kept in zip(photo.coded, (False, True), strict=True):
        (rows, columns), alpha = face_mask(face.transform, (400, 800))
        error = np.abs(shown[rows, columns] - pixels[rows, columns])[alpha > 0.9].mean()
        assert (error < 6) == kept
