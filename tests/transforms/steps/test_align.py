import dataclasses

import numpy as np

from mien.models.faces.alignment import align_face
from mien.models.painting.inpaint import face_mask
from mien.transforms.elements import Decision, PhotoInWork, Pixels
from mien.transforms.steps.align import align_faces
from tests.transforms.steps.conftest import FACE, Decided


def test_only_faces_to_code_are_aligned(pixels: Pixels, decided: Decided) -> None:
    photo = align_faces(decided("preserve", "keep", "fill", "realistic"))
    assert [face is not None for face in photo.aligned] == [True, False, False, False]
    crop = align_faces(decided("preserve", "keep")).aligned[0]
    assert crop is not None
    assert np.array_equal(crop, align_face(pixels, FACE.transform))


def test_nothing_hidden_gets_into_the_crop_of_a_neighbour(pixels: Pixels) -> None:
    a, b, x, c, d, y = FACE.transform
    near = dataclasses.replace(FACE, transform=(a, b, x + 100, c, d, y))
    other = pixels.copy()
    (rows, columns), alpha = face_mask(near.transform, (pixels.shape[0], pixels.shape[1]))
    other[rows, columns][alpha > 0] = 255 - other[rows, columns][alpha > 0]
    crops = []
    for source in (pixels, other):  # differ in the hidden face alone
        decisions = (Decision("preserve", "r"), Decision("realistic", "r"))
        photo = align_faces(PhotoInWork("u", "n", None, 9, source, (FACE, near), decisions))
        crops.append(photo.aligned[0])
    assert crops[0] is not None
    assert crops[1] is not None
    assert np.array_equal(crops[0], crops[1])
