from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.models.faces.alignment import SIZE, align_face, similarity
from mien.models.faces.appearance import Looks, bareness
from mien.models.faces.mesh import OVAL, covered
from mien.models.painting.inpaint import MARGIN
from mien.models.painting.replace import outline_mask

DATA = Path(__file__).parents[2] / "data"
TRANSFORM = similarity(160.0, 150.0, 200.0, 0.2)
SHAPE = 300, 320


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    return [np.asarray(Image.open(DATA / f"samples/{n}.jpg").convert("RGB").resize((512, 512))) for n in (1, 2)]


@pytest.fixture(scope="module")
def points(faces: list[np.ndarray]) -> list[np.ndarray]:
    looks = Looks()
    found = [np.asarray(looks.located(face).landmarks).reshape(478, 2) for face in faces]
    looks.close()
    return found


def test_a_mask_is_what_lies_within_the_outline() -> None:
    """A disc of 100 aligned pixels, in a photo at 200 / 512 of their size."""
    angle = np.arange(36) * np.pi / 18
    window, mask = outline_mask(TRANSFORM, 255.5 + 100 * np.stack([np.cos(angle), np.sin(angle)], 1), SHAPE)
    whole = np.zeros(SHAPE, np.float32)
    whole[window] = mask
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    distance = np.hypot(x - 160, y - 150) - 100 * 200 / SIZE
    assert whole[distance < MARGIN - 1.5].all()
    assert not whole[distance > MARGIN + 1.5].any()


def test_what_covers_a_face_makes_it_less_bare(faces, points) -> None:
    bare = bareness(faces[0], points[0].ravel())
    assert bare > 0.85
    covered = faces[0].copy()
    covered[190:290] = 20  # dark glasses
    assert bareness(covered, points[0].ravel()) < bare - 0.1
    assert (
        abs(bareness(align_face(faces[0], similarity(255.5, 255.5, 512.0, 0.0), 256), (points[0] / 2).ravel()) - bare)
        < 0.03
    )


def test_landmarks_beside_the_face_do_not_cover_it(points) -> None:
    low, high = points[0][list(OVAL)].min(0), points[0][list(OVAL)].max(0)
    box = (*low, *(high - low))
    assert covered(box, points[0].ravel()) > 0.9
    assert covered(box, (points[0] + (high - low) * 0.5).ravel()) < 0.6
    assert covered(box, (points[0] + 9999).ravel()) == 0
