"""Redactions: nothing finer than a cell survives, at any size and place, and the recogniser sees nobody."""

import itertools
import math

import numpy as np
import pytest

from mien.models.faces.alignment import similarity
from mien.models.painting.inpaint import HEAD_EGG, face_mask
from mien.models.privacy.redaction import CELLS, REDACTIONS, STEP, Hidden, cell_size, masks_of, redact_faces

RNG = np.random.default_rng(5)
SHAPE = (240, 320)


def aligned(how="fill", x=160.0, y=120.0, side=140.0, angle=0.0, mask="face"):
    size = 0.68 * side
    box = (x - size / 2, y + 0.09 * side - size / 2, size, size)
    return Hidden(box, similarity(x, y, side, angle), how, mask)


def boxed(how="fill", x=60.0, y=60.0, size=40.0, mask="face"):
    return Hidden((x, y, size, size), (), how, mask)


def noise(height=SHAPE[0], width=SHAPE[1]):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def under(face, shape=SHAPE):
    inside = np.zeros(shape, bool)
    for window, alpha in masks_of(face, shape):
        inside[window] |= alpha > 0
    return inside


PLACES = {
    "aligned": aligned(),
    "upside down": aligned(angle=math.pi),
    "on its side": aligned(angle=1.4),
    "over the border": aligned(x=4, y=2),
    "no alignment": boxed(),
    "12 pixels": boxed(size=12),
    "a pixel": boxed(size=1),
    "larger than the photo": aligned(side=900),
    "beyond the photo": boxed(x=-500),
}


@pytest.mark.parametrize("mask", ["face", "head"])
@pytest.mark.parametrize("how", REDACTIONS)
@pytest.mark.parametrize("place", PLACES)
def test_only_means_of_cells_come_through(place, how, mask):
    where = PLACES[place]
    face = Hidden(where.box, where.transform, how, mask)
    inside = under(face)
    # a pattern that has the same mean, but for an odd pixel, in every cell: what differs must be gone
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    level = np.where(inside, 128 + np.where((x + y) % 2 == 0, 40, -40), 128)
    out = redact_faces(np.repeat(level[:, :, None], 3, axis=2).astype(np.uint8), [face])
    assert (out[~inside] == 128).all()
    assert np.abs(out[inside].astype(int) - 128).max(initial=0) <= STEP
    assert inside.any() == (place != "beyond the photo")


def test_cells_grow_with_the_face_and_are_few():
    sizes = [cell_size(aligned(side=side)) for side in (100, 200, 400, 800)]
    assert [b / a for a, b in itertools.pairwise(sizes)] == pytest.approx([2, 2, 2], rel=0.06)
    face = aligned("pixelate", side=180)
    out = redact_faces(noise(), [face])
    inside = under(face)
    across = np.ptp(np.nonzero(inside), axis=1) // cell_size(face) + 2
    own = {tuple(colour) for colour in out[inside]}
    assert len(own) <= math.prod(across)
    assert max(across) <= 2 * CELLS


def test_blur_knows_no_more_than_pixelate():
    """From the same photo the same cells: what is not pixelated in the one is not blurred into the other."""
    photo = noise()
    blocks = redact_faces(photo, [aligned("pixelate")])
    assert np.array_equal(
        redact_faces(np.where(under(aligned())[:, :, None], blocks, photo), [aligned("pixelate")]), blocks
    )
    blurred = redact_faces(photo, [aligned("blur")]).astype(int)
    inside = under(aligned())
    assert np.abs(np.diff(blurred, axis=1))[inside[:, 1:] & inside[:, :-1]].max() < 60
    assert np.abs(np.diff(photo.astype(int), axis=1))[inside[:, 1:]].mean() > 80


def test_where_faces_meet_the_fill_is_shown():
    small, large = aligned("pixelate", 150, 130, 50), aligned("fill", 160, 120, 200)
    both = redact_faces(noise(), [small, large])
    photo = noise()
    other = photo.copy()
    inside = under(small) | under(large)
    other[inside] = noise()[inside]
    assert np.array_equal(redact_faces(photo, [small, large])[inside], redact_faces(other, [small, large])[inside])
    assert both.shape == photo.shape


def test_no_pixel_under_a_feather_is_left():
    """An original pixel would show as a difference that is as large as that of the originals."""
    for how in REDACTIONS:
        face = aligned(how)
        inside = under(face)
        grey = np.full((*SHAPE, 3), 128, np.uint8)
        dark, light = (np.where(inside[:, :, None], np.uint8(value), grey) for value in (0, 255))
        line = dark.copy()
        line[:, 160] = np.where(inside[:, 160, None], 255, 128)  # one column of the face
        change = np.abs(redact_faces(line, [face]).astype(int) - redact_faces(dark, [face]))
        assert change.max() <= 255 / cell_size(face) + STEP
        if how == "fill":
            assert np.array_equal(redact_faces(dark, [face]), redact_faces(light, [face]))


def test_a_head_is_more_than_a_face():
    face, head = under(aligned()), under(aligned(mask="head"))
    assert (head & face).sum() == face.sum()
    assert head.sum() > 2 * face.sum()
    (rows, _), _ = face_mask(similarity(160, 120, 100, 0), SHAPE, HEAD_EGG)
    assert rows.start < 120 - 50  # hair goes beyond the aligned square
    replaced = masks_of(Hidden((0, 0, 9, 9), aligned().transform, "replace"), SHAPE)
    assert len(replaced) == 1  # exactly what a pasted face paints
