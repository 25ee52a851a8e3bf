"""Masks and fill: the right place, no original pixel left, nothing leaks, smooth, fast."""

import math

import numpy as np
import pytest

from mien.models.faces.alignment import similarity
from mien.models.painting import inpaint
from mien.models.painting.inpaint import MARGIN, NEUTRAL, box_mask, edge_distance, face_mask, fill_faces, outline

RNG = np.random.default_rng(3)


def noise(height, width):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def under(masks, shape):
    """Every pixel with alpha > 0 under any of the masks."""
    inside = np.zeros(shape, bool)
    for window, alpha in masks:
        inside[window] |= alpha > 0
    return inside


def grown(inside, by):
    """The same pixels and those at most `by` rows and columns away."""
    padded = np.pad(inside, by)
    height, width = inside.shape
    steps = range(2 * by + 1)
    return np.any([padded[dy : dy + height, dx : dx + width] for dy in steps for dx in steps], axis=0)


SCENES = {
    "one": ((300, 400), [similarity(200, 150, 180, 0.2)]),
    "overlapping": ((300, 400), [similarity(150, 150, 180, 0.1), similarity(230, 160, 150, -0.3)]),
    "touching rings": ((300, 400), [similarity(120, 150, 160, 0), similarity(232, 150, 160, 0)]),
    "cut by borders": ((200, 260), [similarity(0, 0, 200, 0), similarity(255, 190, 140, 1.0)]),
    "tiny": ((60, 80), [similarity(30, 30, 16, 0), similarity(60, 20, 3, 0)]),
    "large": ((900, 800), [similarity(400, 450, 760, math.pi), similarity(90, 90, 60, 0)]),
}


@pytest.mark.parametrize("scene", SCENES)
def test_no_pixel_under_a_mask_changes_the_output(scene):
    shape, transforms = SCENES[scene]
    masks = [face_mask(transform, shape) for transform in transforms]
    masks.append(box_mask((shape[1] * 0.8, shape[0] * 0.7, 20, 24), shape))
    inside = under(masks, shape)
    pixels = noise(*shape)
    filled = fill_faces(pixels, masks)
    for value in (0, 255, None):
        other = pixels.copy()
        other[inside] = noise(1, int(inside.sum()))[0] if value is None else value
        assert np.array_equal(fill_faces(other, masks), filled)
    # nor do the pixels next to the masks
    beside = grown(inside, 1)
    other = pixels.copy()
    other[beside] = 255 - other[beside]
    assert np.array_equal(fill_faces(other, masks), filled)
    # everything beyond the margin is left as it is
    margin = grown(inside, MARGIN)
    assert np.array_equal(filled[~margin], pixels[~margin])
    assert (filled[inside] != pixels[inside]).any(axis=1).mean() > 0.95


def test_many_masks_that_hang_together_in_a_chain_leak_nothing():
    shape = (700, 900)
    transforms = [similarity(60 + 40 * i, 350 + 250 * math.sin(i), 120 + 9 * (i % 7), i) for i in range(20)]
    masks = [face_mask(transform, shape) for transform in transforms]
    pixels = noise(*shape)
    filled = fill_faces(pixels, masks)
    other = pixels.copy()
    other[under(masks, shape)] = 0
    assert np.array_equal(fill_faces(other, masks), filled)
    # nor does their order matter
    assert np.array_equal(fill_faces(pixels, masks[::-1]), filled)


def test_mask_covers_the_face_and_nothing_beyond_its_window():
    shape = (512, 512)
    window, alpha = face_mask(similarity(255.5, 255.5, 512, 0), shape)
    whole = np.zeros(shape, np.float32)
    whole[window] = alpha
    assert alpha.dtype == np.float32
    assert whole.max() == 1
    assert whole.min() == 0
    # FFHQ's mean eyes, brows, mouth, cheeks and chin
    for x, y in [(192, 241), (321, 241), (171, 201), (339, 201), (255, 380), (130, 280), (390, 280), (255, 470)]:
        assert whole[y, x] == 1, (x, y)
    assert not whole[:, :70].any()
    assert not whole[:60].any()
    # the ramp is inside the edge: on the outline 0, and every window's border is 0
    u, v = outline(90).astype(np.float32).T
    assert np.abs(edge_distance(u, v)).max() < 1e-3
    assert not alpha[0].any()
    assert not alpha[:, -1].any()


@pytest.mark.parametrize("angle", [0, 0.7, 2.5, -1.6])
def test_mask_turns_and_scales_with_the_transform(angle):
    shape = (1000, 1000)
    transform = similarity(480.25, 510.5, 700, angle)
    window, alpha = face_mask(transform, shape)
    y, x = np.mgrid[window[0], window[1]]
    inverse = np.linalg.inv(np.vstack([np.reshape(transform, (2, 3)), [0, 0, 1]]))
    u, v, _ = np.tensordot(inverse, np.stack([x, y, np.ones_like(x)]), 1).astype(np.float32)
    inside = edge_distance(u, v)
    assert ((alpha > 0) == (inside > 0))[np.abs(inside) > 1e-4].all()
    # the window is tight, but for the pixel that is kept on each side
    assert (alpha > 0).any(axis=1).sum() >= alpha.shape[0] - 5
    assert (alpha > 0).any(axis=0).sum() >= alpha.shape[1] - 5


def test_mask_outside_or_over_the_border():
    shape = (100, 120)
    (rows, columns), alpha = face_mask(similarity(-500, 50, 60, 0), shape)
    assert alpha.size == 0
    pixels = noise(*shape)
    assert np.array_equal(fill_faces(pixels, [((rows, columns), alpha)]), pixels)
    (rows, columns), alpha = face_mask(similarity(0, 50, 60, 0), shape)
    assert alpha.shape == (rows.stop - rows.start, columns.stop - columns.start)
    assert columns.start == 0
    assert alpha[:, 0].max() == 1
    assert box_mask((-30, -30, 40, 40), shape)[1].max() == 1
    assert box_mask((50, 50, 0, 0), shape)[1].max() > 0


@pytest.mark.parametrize("bad", [(1, 2, 3), (math.nan,) * 6, (0, 0, 5, 0, 0, 5), (1, 0, math.inf, 0, 1, 0)])
def test_unusable_transforms_are_refused(bad):
    with pytest.raises(ValueError, match="transform"):
        face_mask(bad, (10, 10))
    with pytest.raises(ValueError, match="box"):
        box_mask((0, 0, math.nan, 1), (10, 10))


def test_no_known_pixel_gives_neutral_grey():
    pixels = noise(50, 40)
    assert (fill_faces(pixels, [face_mask(similarity(20, 20, 900, 0), (50, 40))]) == NEUTRAL).all()
    one = noise(1, 1)
    assert (fill_faces(one, [box_mask((0, 0, 1, 1), (1, 1))]) == NEUTRAL).all()
    assert np.array_equal(fill_faces(pixels, []), pixels)


@pytest.mark.parametrize("side", [24, 200, 1400])
def test_fill_continues_a_smooth_photo(side):
    size = max(120, int(side * 1.2))
    ramp = np.linspace(20, 230, size)
    pixels = np.stack(np.broadcast_arrays(ramp[None, :], ramp[:, None], 128.0), axis=2).round().astype(np.uint8)
    mask = face_mask(similarity(size / 2, size / 2, side, 0.1), (size, size))
    filled = fill_faces(pixels, [mask])
    # a linear ramp obeys Laplace's equation: the membrane gives it back but for the ring's smoothing and the grid
    assert np.abs(filled.astype(int) - pixels).max() <= 12
    assert np.abs(filled.astype(int) - pixels).mean() < 1


def test_one_dark_hair_throws_no_streak():
    pixels = np.full((400, 400, 3), 200, np.uint8)
    pixels[:, 199:201] = 10
    filled = fill_faces(pixels, [face_mask(similarity(200, 200, 300, 0), (400, 400))])
    assert filled[150:260, 150:250].min() > 180
    assert np.ptp(filled[200, 150:250]) <= 4


def test_fill_is_smooth_over_a_noisy_ring():
    filled = fill_faces(noise(500, 500), [face_mask(similarity(250, 250, 400, 0), (500, 500))]).astype(int)
    middle = filled[180:330, 180:330]
    assert np.abs(np.diff(middle, axis=0)).max() <= 3
    assert np.abs(np.diff(middle, axis=1)).max() <= 3


def test_the_fill_is_solved_on_a_coarse_grid(monkeypatch):
    """Work does not grow with a face's pixels, and a crowd whose masks all touch has a limit."""
    relaxed = []
    relax = inpaint._relax
    monkeypatch.setattr(inpaint, "_relax", lambda colour, known: (relaxed.append(known.size), relax(colour, known))[1])

    def cells(shape, faces):
        relaxed.clear()
        fill_faces(np.full((*shape, 3), 99, np.uint8), [face_mask(similarity(*face, 0), shape) for face in faces])
        return sum(relaxed)  # of all levels, each half the size of the one before

    small, large = (cells((side, side), [(side / 2, side / 2, 0.9 * side)]) for side in (400, 1600))
    assert 0 < large < 1.5 * small
    monkeypatch.setattr(inpaint, "MAX_CELLS", 4000)
    row = [(x, 100, 60) for x in range(50, 2000, 30)]
    assert 0 < cells((200, 2000), row) < 1.5 * 4000
