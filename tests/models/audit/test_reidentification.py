import numpy as np
import pytest

from mien.models.audit.reidentification import bootstrap_mean, rank_hits, reidentify, roc, same_people, wilson

RNG = np.random.default_rng(5)


def test_wilson_is_the_textbook_interval() -> None:
    # Newcombe (1998), table I: 81 of 263
    found = wilson(81, 263)
    assert (round(found.value, 4), round(found.low, 4), round(found.high, 4)) == (0.3080, 0.2553, 0.3662)
    assert (wilson(0, 10).low, wilson(10, 10).high) == (0, pytest.approx(1))
    assert np.isnan(wilson(0, 0).value)


def test_ranks_count_what_is_more_alike_and_share_ties() -> None:
    scores = np.array([[0.9, 0.1, 0.2], [0.5, 0.4, 0.1], [0.3, 0.3, 0.3]])
    none = np.zeros((3, 3), bool)
    assert rank_hits(scores, [0, 1, 2], none, 1).tolist() == [1, 0, pytest.approx(1 / 3)]
    assert rank_hits(scores, [0, 1, 2], none, 2).tolist() == [1, 1, pytest.approx(2 / 3)]
    none[1, 0] = True  # the same person in another photo is no impostor
    assert rank_hits(scores, [0, 1, 2], none, 1).tolist()[1] == 1


def test_copies_are_found_without_an_error() -> None:
    scores = RNG.normal(0, 0.1, (60, 60)) + np.eye(60)
    found = reidentify(scores, np.arange(60), np.arange(60))
    assert (found.rank1.value, found.rank5.value, found.eer.value) == (1, 1, 0)
    assert found.tar[1] is not None
    assert found.tar[1].value == 1
    assert found.above_chance
    assert found.chance1 == pytest.approx(1 / 60)
    assert len(found.impostor) == 60 * 59


def test_guesses_are_at_chance() -> None:
    found = reidentify(RNG.normal(size=(300, 300)), np.arange(300), np.arange(300))
    assert found.rank1.low <= found.chance1 <= found.rank1.high
    assert found.rank5.low <= found.chance5 <= found.rank5.high
    assert not found.above_chance
    assert found.eer.low < 0.5 < found.eer.high
    assert found.tar[0] is not None
    assert found.tar[0].value < 0.05
    curve = roc(found.genuine, found.impostor)
    assert np.abs(curve[:, 0] - curve[:, 1])[curve[:, 0] > 0.1].max() < 0.12


def test_few_faces_give_no_rate_that_needs_many() -> None:
    found = reidentify(np.eye(5), np.arange(5), np.arange(5))
    assert found.tar == (None, None)
    with pytest.raises(ValueError, match="two people"):
        reidentify(np.eye(2), [0, 1], [7, 7])


def test_two_photos_of_a_person_are_no_impostors() -> None:
    scores = np.eye(6)
    scores[0, 1] = scores[1, 0] = 2  # more alike than the own original
    apart, together = (reidentify(scores, np.arange(6), people) for people in (np.arange(6), [0, 0, 2, 3, 4, 5]))
    assert (apart.rank1.value, together.rank1.value) == (pytest.approx(4 / 6), 1)
    assert len(together.impostor) == 28


def test_people_are_joined_by_chains() -> None:
    alike = np.eye(4)
    alike[0, 1] = alike[1, 0] = alike[1, 2] = alike[2, 1] = 0.8
    assert same_people(alike, 0.5).tolist() == [0, 0, 0, 1]


def test_the_bootstrap_counts_people_and_not_faces() -> None:
    values, people = np.repeat([0.0, 1.0], 50), np.repeat([1, 2], 50)
    wide, narrow = bootstrap_mean(values, people), bootstrap_mean(values, np.arange(100))
    assert (wide.value, narrow.value) == (0.5, 0.5)
    assert wide.high - wide.low == 1
    assert narrow.high - narrow.low < 0.25
