from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.models.faces.alignment import align_face, similarity
from mien.models.painting.replace import outline_mask
from mien.models.privacy.join import join, join_outline

DATA = Path(__file__).parents[2] / "data"
TRANSFORM = similarity(160.0, 150.0, 200.0, 0.2)
SHAPE = 300, 320


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    return [np.asarray(Image.open(DATA / f"samples/{n}.jpg").convert("RGB").resize((512, 512))) for n in (1, 2)]


def mask_of(transform: tuple[float, ...]) -> np.ndarray:
    whole = np.zeros(SHAPE, bool)
    window, mask = outline_mask(transform, join_outline(), SHAPE)
    whole[window] = mask > 0
    return whole


def test_only_what_lies_within_the_outline_changes(faces: list[np.ndarray]) -> None:
    photo = np.full((*SHAPE, 3), (190, 140, 120), np.uint8)
    shown = photo.copy()
    join(shown, faces[1], align_face(photo, TRANSFORM), TRANSFORM)
    assert np.array_equal(shown[~mask_of(TRANSFORM)], photo[~mask_of(TRANSFORM)])
    middle = align_face(shown, TRANSFORM)[180:380, 180:330].astype(int)
    assert np.abs(middle - faces[1][180:380, 180:330]).mean() < 40  # with the photo's colours
    assert np.abs(middle - (190, 140, 120)).mean() > 20


def test_of_the_old_face_nothing_within_the_ring_counts(faces: list[np.ndarray]) -> None:
    other = faces[0].copy()
    other[200:400, 190:320] = 90
    shown = []
    for face in (faces[0], other):
        photo = np.zeros((512, 512, 3), np.uint8)
        photo[:] = face
        join(photo, faces[1], face, similarity(255.5, 255.5, 512.0, 0.0))
        shown.append(photo[200:400, 190:320])
    assert np.abs(shown[0].astype(int) - shown[1]).max() <= 12  # what softens it looks at the old face's detail


def test_a_plain_new_face_takes_the_photos_colours(faces: list[np.ndarray]) -> None:
    """A square of one colour in a photo of another: nothing is to be seen."""
    photo = np.full((*SHAPE, 3), (190, 140, 120), np.uint8)
    shown = photo.copy()
    join(shown, np.full((128, 128, 3), (175, 130, 115), np.uint8), align_face(photo, TRANSFORM), TRANSFORM)
    assert np.abs(shown.astype(int) - photo).max() <= 2


def test_a_face_beside_it_is_not_painted_over(faces: list[np.ndarray]) -> None:
    photo = np.full((*SHAPE, 3), (190, 140, 120), np.uint8)
    beside = similarity(225.0, 150.0, 200.0, 0.2)
    shown = [photo.copy(), photo.copy()]
    for pixels, others in zip(shown, ([], [beside]), strict=True):
        join(pixels, faces[1], align_face(photo, TRANSFORM), TRANSFORM, others)
    inner = align_face(np.dstack([mask_of(TRANSFORM).astype(np.uint8) * 255] * 3), beside)[200:380, 240:270, 0] > 250
    changes = [np.abs(align_face(one, beside)[200:380, 240:270].astype(int) - (190, 140, 120)).max(2) for one in shown]
    assert changes[0][inner].mean() > 3
    assert changes[1][inner].mean() < 0.3 * changes[0][inner].mean()


def test_outside_the_photo_nothing_happens_and_bad_transforms_are_refused(faces: list[np.ndarray]) -> None:
    photo = np.zeros((*SHAPE, 3), np.uint8)
    join(photo, faces[1], faces[0], similarity(-900.0, -900.0, 200.0, 0.0))
    assert not photo.any()
    with pytest.raises(ValueError, match="not a transform"):
        join(photo, faces[1], faces[0], (1.0, 0.0))
