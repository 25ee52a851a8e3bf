from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mien.models.faces.alignment import SIZE, align_face, similarity
from mien.models.faces.appearance import Looks, bareness
from mien.models.faces.mesh import OVAL, aligned_points, covered, outline_of
from mien.models.painting.inpaint import fill_faces
from mien.models.painting.replace import FADE_OUTSIDE, bent, outline_mask, paste_within

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


def in_photo(points: np.ndarray) -> tuple[float, ...]:
    forward = np.array(TRANSFORM).reshape(2, 3)
    return tuple((points @ forward[:, :2].T + forward[:, 2]).ravel())


def photo_of(face: np.ndarray) -> np.ndarray:
    forward = np.array(TRANSFORM).reshape(2, 3)
    return cv2.warpAffine(face, forward, SHAPE[::-1], flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)


def pasted(photo: np.ndarray, new: np.ndarray, points: np.ndarray, outline: np.ndarray) -> np.ndarray:
    pixels = fill_faces(photo, [outline_mask(TRANSFORM, outline, SHAPE)])
    paste_within(pixels, photo, new, points, TRANSFORM, outline)
    return pixels


def test_landmarks_go_to_aligned_pixels_and_back(points) -> None:
    assert np.allclose(aligned_points(in_photo(points[0]), TRANSFORM), points[0], atol=1e-6)
    assert np.allclose(outline_of(in_photo(points[0]), TRANSFORM), points[0][list(OVAL)], atol=1e-6)
    with pytest.raises(ValueError, match="478 landmarks wanted"):
        aligned_points((1.0, 2.0), TRANSFORM)


def test_the_new_face_takes_the_place_of_the_old_one_within_its_outline(faces, points) -> None:
    photo, outline = photo_of(faces[0]), points[0][list(OVAL)]
    shown = pasted(photo, faces[1], points[1], outline)
    window, mask = outline_mask(TRANSFORM, outline, SHAPE)
    inside = np.zeros(SHAPE, bool)
    inside[window] = mask > 0
    reach = 2 * int(np.ceil(FADE_OUTSIDE * 200 / SIZE)) + 1
    near = cv2.dilate(inside.view(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    assert np.array_equal(shown[~near], photo[~near])
    assert np.abs(shown.astype(int) - photo)[inside].mean() > 8


def test_of_the_old_face_only_the_skin_along_the_outline_counts(faces, points) -> None:
    outline = points[0][list(OVAL)]
    other = faces[0].copy()
    middle = outline.mean(0)
    inner = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(inner, [np.rint(middle + (outline - middle) * 0.5).astype(np.int32)], 1)
    cheeks = np.median(faces[0][(inner > 0)], axis=0)
    other[inner > 0] = cheeks  # no eyes, nose or mouth
    one, two = (pasted(photo_of(face), faces[1], points[1], outline) for face in (faces[0], other))
    # the tone of the face's middle says what skin is; no more than that
    assert np.abs(one.astype(int) - two).max() < 12


def test_skin_meets_skin_without_an_edge(points) -> None:
    """A face of one colour in a photo of another: along any line nothing jumps."""
    photo = np.full((*SHAPE, 3), (190, 140, 120), np.uint8)
    photo += (np.arange(SHAPE[1]) // 16).astype(np.uint8)[None, :, None]
    new = np.full((SIZE, SIZE, 3), (160, 125, 110), np.uint8)
    shown = pasted(photo, new, points[1], points[0][list(OVAL)]).astype(int)
    assert np.abs(np.diff(shown, axis=0)).max() <= 3
    assert np.abs(np.diff(shown, axis=1)).max() <= 3


def test_a_face_is_bent_to_the_outline(points) -> None:
    """The disc within the new face's oval becomes what lies within the outline."""
    own, outline = points[1][list(OVAL)], points[0][list(OVAL)]
    disc, wanted = np.zeros((SIZE, SIZE, 3), np.uint8), np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(disc, [np.rint(own.mean(0) + (own - own.mean(0)) * 0.95).astype(np.int32)], (255, 255, 255))
    cv2.fillPoly(wanted, [np.rint(outline).astype(np.int32)], 255)
    found = bent(disc, points[1], outline)[:, :, 0] > 127
    wanted = wanted > 127
    assert (found & wanted).sum() / (found | wanted).sum() > 0.97
    assert np.abs(bent(disc, points[1], own).astype(int) - disc).mean() < 25


def test_outside_the_photo_nothing_happens_and_bad_pictures_are_refused(faces, points) -> None:
    photo, outline = photo_of(faces[0]), points[0][list(OVAL)]
    away = similarity(-900.0, -900.0, 200.0, 0.0)
    pixels = photo.copy()
    paste_within(pixels, photo, faces[1], points[1], away, outline)
    assert np.array_equal(pixels, photo)
    with pytest.raises(ValueError, match="a decoded face is"):
        paste_within(pixels, photo, faces[1][:100], points[1], TRANSFORM, outline)


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
