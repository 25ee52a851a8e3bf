import numpy as np
import pytest

from mien.models.faces.same_face import same_face, same_faces, same_places


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ((2, 3, 100, 100), True),
        ((0, 60, 100, 60), False),
        ((10, 10, 51, 51), True),  # a part beside the whole
        ((30, 40, 45, 45), False),  # a face before it
        ((30, 40, 0, 45), False),
    ],
)
def test_a_face_within_another_one_s_box_is_not_it(other: tuple[float, ...], same: bool) -> None:
    whole = (0, 0, 100, 100)
    assert same_face(whole, other) is same
    assert same_face(other, whole) is same
    assert same_faces(whole, np.array([other, whole], float)).tolist() == [same, True]


def test_faces_of_two_searches_are_matched_by_place_and_not_by_number() -> None:
    first = np.array([(0, 0, 100, 120), (300, 10, 90, 100), (0, 0, 45, 45), (45, 0, 100, 120)], float)
    second = first[[3, 1, 0]] + [(2, -3, 1, 2), (0, 4, 0, 0), (-1, 2, 3, 0)]
    assert same_places(first, second) == {0: 2, 1: 1, 3: 0}
    assert same_places(second, first) == {0: 3, 1: 1, 2: 0}
    assert same_places(first[:0], second) == same_places(first, second[:0]) == {}
