import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from mien.models.errors import WithheldByRuleError
from mien.models.faces.face import Face
from mien.models.privacy.gallery import Gallery
from mien.transforms.elements import Decision, HandledFace, PhotoInWork
from mien.transforms.policy.rules import ACTIONS, SHOWS, Policy, load_policy, parse_policy
from mien.transforms.steps.decide import (
    Known,
    check_withheld,
    decide,
    decide_photo,
    measure_faces,
    measures,
    same_decisions,
    sharpness,
)

PIXELS = np.zeros((100, 200, 3), np.uint8)
LARGE = Face((90.0, 10.0, 40.0, 50.0), 0.9, pose=(-20.0, 5.0, 0.0))
SMALL = Face((0.0, 0.0, 10.0, 10.0), 0.5, pose=(0.0, 0.0, 0.0))
UNALIGNED = Face((150.0, 20.0, 40.0, 40.0), 0.8)


def decisions(policy: Policy, faces: Sequence[Face], pixels: npt.NDArray[np.uint8] = PIXELS) -> tuple[Decision, ...]:
    return tuple(decide(policy, measured) for measured in measure_faces(faces, pixels))


def rule(when: str) -> Policy:
    return parse_policy(f"{{version: 1, rules: [{{name: r, when: {when}, do: keep}}], otherwise: fill}}", "p")


def test_measures() -> None:
    found = measures(LARGE, 1, PIXELS)
    assert found["area"] == pytest.approx(0.1)
    assert found["center"] == pytest.approx(np.hypot(0.05, 0.15) / np.hypot(0.5, 0.5))
    assert (found["rank"], found["yaw"], found["pitch"], found["score"]) == (1, 20.0, 5.0, 0.9)
    over_the_border = measures(Face((-20.0, 90.0, 40.0, 40.0), 0.9), 1, PIXELS)
    assert over_the_border["area"] == pytest.approx(20 * 10 / 20000)
    assert over_the_border["yaw"] is None


def test_the_first_rule_that_matches_decides() -> None:
    found = decisions(load_policy("background-people"), [SMALL, LARGE, UNALIGNED])
    assert found == (
        Decision("realistic", "background people"),
        Decision("preserve", "subjects"),
        Decision("fill", "otherwise"),  # its pose is not known, so it cannot be a subject
    )


@pytest.mark.parametrize(
    ("when", "matches"),
    [
        ("{rank: {max: 1}}", [True, False]),
        ("{rank: {min: 2}}", [False, True]),
        ("{area: {min: 0.1}}", [True, False]),
        ("{yaw: {max: 20}}", [True, False]),
        ("{yaw: {min: 20}}", [True, False]),
        ("{score: {min: 0.85}}", [True, False]),
        ("{center: {max: 0.3}}", [True, False]),
        ("{}", [True, True]),
        ("{rank: {max: 1}, score: {max: 0.5}}", [False, False]),
    ],
)
def test_conditions(when: str, matches: list[bool]) -> None:
    found = decisions(rule(when), [LARGE, UNALIGNED])
    assert [decision.action == "keep" for decision in found] == matches


def test_sharpness_tells_noise_from_nothing() -> None:
    noisy = np.random.default_rng(0).integers(0, 255, (100, 200, 3), np.uint8)
    assert (sharpness(LARGE, noisy) or 0) > 20
    assert sharpness(LARGE, PIXELS) == 0
    assert sharpness(Face((300.0, 0.0, 10.0, 10.0), 0.9), PIXELS) is None
    assert [d.action for d in decisions(rule("{sharpness: {min: 10}}"), [LARGE], noisy)] == ["keep"]


def test_no_faces() -> None:
    assert decisions(load_policy("compress"), []) == ()


def alike(cosine: float, axis: int = 0) -> npt.NDArray[np.float32]:
    """An embedding so like the person of one axis, and like nobody else."""
    embedding = np.zeros(192, np.float32)
    embedding[[axis, 191]] = cosine, (1 - cosine**2) ** 0.5
    return embedding


@pytest.fixture
def people(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"friends": [0], "guests": [1], "town": range(2, 152)}
    galleries = {uri: Gallery(np.eye(192, dtype=np.float32)[list(axes)]) for uri, axes in known.items()}
    monkeypatch.setattr("mien.transforms.steps.people.gallery", lambda uri, digest: galleries[uri])


@pytest.mark.parametrize(
    ("when", "embedding", "action"),
    [
        ("{person_in: friends}", alike(0.9), "keep"),
        ("{person_in: friends}", alike(0.45), "fill"),  # doubtful
        ("{person_not_in: friends}", alike(0.45), "fill"),
        ("{person_not_in: friends}", alike(0.1), "keep"),
        ("{person_in: [friends, guests]}", alike(0.9, 1), "keep"),
        ("{person_in: [friends, guests]}", alike(0.1), "fill"),
        ("{person_not_in: [friends, guests]}", alike(0.1), "keep"),
        ("{person_not_in: [friends, guests]}", alike(0.45), "fill"),
        ("{person_in: friends, yaw: {max: 10}}", alike(0.9), "fill"),
        ("{person_in: friends}", None, "fill"),  # not aligned, or too small
        ("{person_not_in: friends}", None, "fill"),
        ("{person_in: friends}", alike(0.6), "keep"),
        ("{person_in: [friends, town]}", alike(0.6), "fill"),  # so many people have somebody as like
    ],
)
def test_a_gallery_is_asked(people: None, when: str, embedding: npt.NDArray[np.float32] | None, action: str) -> None:
    (measured,) = measure_faces([LARGE], PIXELS)
    assert decide(rule(when), measured, Known(embedding)).action == action


@pytest.mark.parametrize("condition", ["person_in", "person_not_in"])
@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(ACTIONS, 2)))
@pytest.mark.parametrize("embedding", [alike(0.45), None], ids=["doubtful", "unknown"])
def test_doubt_never_shows_more(
    people: None, condition: str, one: str, other: str, embedding: npt.NDArray[np.float32] | None
) -> None:
    rules = f"[{{name: r, when: {{{condition}: friends}}, do: {one}}}]"
    policy = parse_policy(f"{{version: 1, rules: {rules}, otherwise: {other}}}", "p")
    (measured,) = measure_faces([LARGE], PIXELS)
    settled = [decide(policy, measured, Known(alike(cosine))) for cosine in (0.9, 0.1)]
    assert {decision.action for decision in settled} == {one, other}
    assert not any(decision.doubted for decision in settled)
    found = decide(policy, measured, Known(embedding))
    assert found.doubted
    assert SHOWS[found.action] == min(SHOWS[one], SHOWS[other])


def test_only_what_both_answers_would_give_is_looked_at(people: None) -> None:
    rules = "{name: a, when: {person_in: friends}, do: keep}, {name: b, when: {person_not_in: friends}, do: blur}"
    policy = parse_policy(f"{{version: 1, rules: [{rules}], otherwise: fill}}", "p")
    (measured,) = measure_faces([LARGE], PIXELS)
    assert decide(policy, measured, Known(alike(0.45))) == Decision("blur", "b", doubted=True)
    same = parse_policy("{version: 1, rules: [{name: a, when: {person_in: friends}, do: blur}], otherwise: blur}", "p")
    assert decide(same, measured, Known(alike(0.45))).action == "blur"


def test_with_many_galleries_in_doubt_nothing_is_shown_either() -> None:
    each = ", ".join(f"{{name: r{i}, when: {{person_not_in: g{i}}}, do: fill}}" for i in range(200))
    policy = parse_policy(f"{{version: 1, rules: [{each}], otherwise: keep}}", "p")
    (measured,) = measure_faces([LARGE], PIXELS)
    found = decide(policy, measured)
    assert (found.action, found.doubted) == ("fill", True)


def test_a_measure_that_is_not_known_never_shows_more() -> None:
    policy = parse_policy("{version: 1, rules: [{name: r, when: {yaw: {min: 40}}, do: fill}], otherwise: keep}", "p")
    assert [found.action for found in decisions(policy, [LARGE, UNALIGNED])] == ["keep", "fill"]


def test_what_was_recorded_tells_whether_a_policy_decides_the_same() -> None:
    first = load_policy("background-people")
    rows = [
        dataclasses.asdict(HandledFace(face.box, d.action, d.rule, d.action, **measured))
        for face, d, measured in zip(
            [SMALL, LARGE], decisions(first, [SMALL, LARGE]), measure_faces([SMALL, LARGE], PIXELS), strict=True
        )
    ]
    late = dataclasses.asdict(HandledFace(SMALL.box, "fill", "found when verified", ""))
    assert same_decisions(first, [*rows, late])
    text = "{version: 1, rules: [{name: a, when: {rank: {max: 1}}, do: preserve}], otherwise: %s}"
    assert same_decisions(parse_policy(text % "realistic", "p"), rows)
    assert not same_decisions(parse_policy(text % "fill", "p"), rows)
    assert not same_decisions(rule("{person_in: gallery}"), rows)
    turned = rule("{yaw: {max: 35}}")
    assert turned.asks_for_pose
    assert not same_decisions(turned, [{**rows[0], "yaw": None, "decided": "fill"}])  # it may not have been looked for
    assert not load_policy("redact").asks_for_pose


PLATE = dataclasses.replace(UNALIGNED, kind="plate")


def photo(*faces: Face) -> PhotoInWork:
    return PhotoInWork("gs://archive/school/x.jpg", "school/x.jpg", None, 9, PIXELS, faces)


def done(when: str, *faces: Face) -> list[str]:
    return [decision.action for decision in decide_photo(rule(when), photo(*faces)).decisions]


def test_rules_are_for_faces_unless_they_name_another_kind() -> None:
    assert done("{}", LARGE, PLATE) == ["keep", "fill"]
    assert done("{kind: plate}", LARGE, PLATE) == ["fill", "keep"]
    assert done("{kind: [face, plate]}", LARGE, PLATE) == ["keep", "keep"]
    assert done("{rank: {max: 1}}", LARGE, SMALL) == ["keep", "fill"]
    assert done("{kind: plate, rank: {max: 1}}", LARGE, PLATE) == ["fill", "keep"]  # the largest plate


def test_faces_are_counted_and_nothing_else() -> None:
    assert done("{count: {min: 2}}", LARGE, PLATE) == ["fill", "fill"]
    assert done("{count: {min: 2}}", LARGE, SMALL) == ["keep", "keep"]
    assert done("{kind: plate, count: {max: 0}}", PLATE) == ["keep"]


def test_a_photo_is_asked_for_by_its_path() -> None:
    assert done("{path: school/*}", LARGE) == ["keep"]
    assert done("{path: ['*.png', gs://archive/*]}", LARGE) == ["keep"]
    assert done("{path: other/*}", LARGE) == ["fill"]


def test_whose_age_cannot_be_told_counts_as_young() -> None:
    assert done("{age: {max: 17}}", UNALIGNED) == ["keep"]
    assert done("{age: {min: 18}}", UNALIGNED) == ["fill"]


def test_a_rule_withholds_the_photo_and_is_named() -> None:
    text = "{version: 1, rules: [{name: crowd, when: {count: {min: 2}}, do: withhold}], otherwise: keep}"
    policy = parse_policy(text, "p")
    check_withheld(decide_photo(policy, photo(LARGE)))
    with pytest.raises(WithheldByRuleError) as caught:
        check_withheld(decide_photo(policy, photo(LARGE, SMALL)))
    x, y, w, h = LARGE.box
    place = f"face 1 ({w:.0f} x {h:.0f} at {x:.0f}, {y:.0f})"
    assert str(caught.value) == f"withheld by the rule 'crowd' for {place}, and for 1 more"
    otherwise = parse_policy("{version: 1, otherwise: withhold}", "p")
    with pytest.raises(WithheldByRuleError, match="withheld by the policy's otherwise for plate 1"):
        check_withheld(decide_photo(otherwise, photo(PLATE)))
    check_withheld(decide_photo(otherwise, photo()))


def test_other_kinds_and_withholding_are_told_from_the_record_too() -> None:
    before = parse_policy("{version: 1, otherwise: fill}", "p")
    work = decide_photo(before, photo(LARGE, PLATE))
    rows = [
        dataclasses.asdict(HandledFace(face.box, d.action, d.rule, d.action, **measured, kind=face.kind))
        for face, d, measured in zip(work.faces, work.decisions, work.measured, strict=True)
    ]
    text = "{version: 1, rules: [{name: r, when: %s, do: %s}], otherwise: fill}"
    assert same_decisions(parse_policy(text % ("{kind: plate}", "fill"), "p"), rows)
    assert not same_decisions(parse_policy(text % ("{kind: plate}", "keep"), "p"), rows)
    assert not same_decisions(parse_policy(text % ("{count: {max: 1}}", "withhold"), "p"), rows)
    assert not same_decisions(parse_policy(text % ("{path: x}", "fill"), "p"), rows)
    assert not same_decisions(parse_policy(text % ("{age: {max: 17}}", "fill"), "p"), rows)
    earlier = [{name: value for name, value in rows[0].items() if name not in ("kind", "count")}]
    assert same_decisions(before, earlier)
    assert not same_decisions(parse_policy(text % ("{count: {min: 9}}", "fill"), "p"), earlier)
