import numpy as np
import pytest

from mien.models.faces import Face
from mien.transforms.decide import decide, measures, sharpness
from mien.transforms.elements import Decision
from mien.transforms.policy import load_policy, parse_policy

PIXELS = np.zeros((100, 200, 3), np.uint8)
LARGE = Face((90.0, 10.0, 40.0, 50.0), 0.9, pose=(-20.0, 5.0, 0.0))
SMALL = Face((0.0, 0.0, 10.0, 10.0), 0.5, pose=(0.0, 0.0, 0.0))
UNALIGNED = Face((150.0, 20.0, 40.0, 40.0), 0.8)


def rule(when: str) -> str:
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
    decisions = decide(load_policy("background-people"), [SMALL, LARGE, UNALIGNED], PIXELS)
    assert decisions == (
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
    decisions = decide(rule(when), [LARGE, UNALIGNED], PIXELS)
    assert [decision.action == "keep" for decision in decisions] == matches


def test_sharpness_tells_noise_from_nothing() -> None:
    noisy = np.random.default_rng(0).integers(0, 255, (100, 200, 3), np.uint8)
    assert (sharpness(LARGE, noisy) or 0) > 20
    assert sharpness(LARGE, PIXELS) == 0
    assert sharpness(Face((300.0, 0.0, 10.0, 10.0), 0.9), PIXELS) is None
    assert [d.action for d in decide(rule("{sharpness: {min: 10}}"), [LARGE], noisy)] == ["keep"]


def test_no_faces() -> None:
    assert decide(load_policy("compress"), [], PIXELS) == ()
