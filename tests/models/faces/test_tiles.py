import itertools

import numpy as np
import pytest

from mien.models.faces.tiles import Found, Level, Tile, enlarged, located, merge, pyramid, tiles, windows


def found(*rows):
    """Rows of x, y, width, height, score and whether cut."""
    array = np.array([row[:5] for row in rows], float).reshape(-1, 5)
    return Found(array[:, :4], array[:, 4], np.array([bool(row[5:] and row[5]) for row in rows], bool))


def merged(*rows):
    return [tuple(box) for box in merge(found(*rows)).boxes]


def test_of_boxes_on_one_face_the_best_is_kept():
    assert merged((10, 10, 100, 120, 0.6), (14, 8, 96, 118, 0.9), (5, 15, 104, 116, 0.3)) == [(14, 8, 96, 118)]


def test_neighbours_that_overlap_are_both_kept():
    rows = ((0, 0, 100, 100, 0.9), (55, 10, 100, 100, 0.8))
    assert merged(*rows) == [row[:4] for row in rows]


def test_a_cut_face_does_not_survive_beside_the_whole_one():
    whole, part = (100, 100, 80, 100, 0.5), (100, 100, 45, 100, 0.9, True)
    assert merged(part, whole) == [whole[:4]]


def test_a_cut_face_alone_survives():
    assert merged((100, 100, 45, 100, 0.3, True)) == [(100, 100, 45, 100)]


def test_a_small_face_inside_a_large_box_is_kept():
    assert len(merged((0, 0, 400, 400, 0.9), (150, 150, 60, 60, 0.4))) == 2


def test_the_order_of_what_was_found_does_not_matter():
    generator = np.random.default_rng(1)
    rows = [(*generator.integers(0, 60, 2), *generator.integers(20, 50, 2), 0.5, False) for _ in range(30)]
    expected = merged(*rows)
    for _ in range(5):
        generator.shuffle(rows)
        assert merged(*rows) == expected


def test_nothing_and_empty_boxes_give_nothing():
    assert merge(Found.joined([])).boxes.shape == (0, 4)
    assert merged((5, 5, 0, 10, 0.9)) == []


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (192, 192), (193, 100), (1600, 1200), (3264, 2448), (5000, 8), (1000, 193)]
)
def test_tiles_cover_the_photo_and_overlap(width, height):
    size, overlap = 192, 64
    all_tiles = list(tiles(width, height, size, overlap))
    covered = np.zeros((height, width), bool)
    for tile in all_tiles:
        assert tile.width <= size
        assert tile.height <= size
        covered[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] = True
    assert covered.all()
    for starts, span in (
        ({t.x for t in all_tiles}, all_tiles[0].width),
        ({t.y for t in all_tiles}, all_tiles[0].height),
    ):
        for a, b in itertools.pairwise(sorted(starts)):
            assert a + span - b >= overlap
    assert len(all_tiles) <= (width / (size - overlap) + 1) * (height / (size - overlap) + 1)


def test_boxes_of_a_tile_are_in_photo_pixels_and_know_that_they_are_cut():
    level = Level(np.zeros((300, 400, 3), np.uint8), 0.5, 0.5)
    boxes = np.array([[50.0, 50, 40, 40], [60, 60, 132, 100], [0, 60, 30, 30], [170, 60, 20, 20]])
    result = located(level, Tile(0, 100, 192, 192), 64, boxes, np.array([0.9, 0.8, 0.7, 0.6]))
    # the last lies in the part that the right neighbour sees better; the photo's own border at the left cuts nothing
    assert result.boxes.tolist() == [[100, 300, 80, 80], [120, 320, 264, 200], [0, 320, 60, 60]]
    assert result.cut.tolist() == [False, True, False]


def test_the_pyramid_ends_at_the_whole_frame_or_where_it_gets_too_thin():
    assert [level.pixels.shape[:2] for level in pyramid(np.zeros((900, 1001, 3), np.uint8), 192)] == [
        (900, 1001),
        (450, 501),
        (225, 251),
        (113, 126),
    ]
    assert [level.pixels.shape[:2] for level in pyramid(np.zeros((40, 9000, 3), np.uint8), 192)] == [
        (40, 9000),
        (20, 4500),
    ]
    assert not list(pyramid(np.zeros((15, 15, 3), np.uint8), 192))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((8, 8), (32, 32)), ((300, 300), (640, 640)), ((960, 1280), (1369, 1826)), ((3000, 4000), (3000, 4000))],
)
def test_small_photos_are_enlarged(shape, expected):
    assert enlarged(np.zeros((*shape, 3), np.uint8)).shape[:2] == expected


@pytest.mark.parametrize("size", [256, 1024])
def test_windows_hold_their_places_with_a_margin(size: int) -> None:
    level = Level(np.zeros((1000, 1500, 3), np.uint8), 0.5, 0.5)
    places = np.array(
        [[0, 0, 80, 60], [1000, 700, 50, 50], [1060, 720, 60, 60], [2900, 1900, 100, 100], [400, 900, 900, 90]]
    )
    found = windows(level, places.astype(float), size, 32)
    covered = np.zeros((1000, 1500), bool)
    for tile in found:
        assert max(tile.width, tile.height) <= size
        covered[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] = True
    for x, y, w, h in places // 2:
        assert covered[max(0, y - 32) : y + h + 32, max(0, x - 32) : x + w + 32].all()
    assert covered.mean() < 0.2
    assert len(windows(level, places[1:3].astype(float), size, 32)) == 1


def test_no_place_asks_for_no_window() -> None:
    assert windows(Level(np.zeros((100, 100, 3), np.uint8), 1.0, 1.0), np.zeros((0, 4)), 1024, 32) == []
