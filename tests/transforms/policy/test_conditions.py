"""Age, kind, count, path and withhold: what is refused, what is covered, and what a policy says in sentences."""

import pytest

from mien.models.errors import PolicyError
from mien.transforms.policy.conditions import matches_path
from mien.transforms.policy.rules import load_policy, parse_policy
from mien.transforms.policy.sentences import explained

TEXT = "{version: 1, rules: [{name: r, when: %s, do: %s}], otherwise: %s}"


@pytest.mark.parametrize(
    ("when", "do", "message"),
    [
        (
            "{age: {max: 12}}",
            "fill",
            "p:1: rules.0.when.age: only {max: 17} (everybody who is not clearly grown up) and",
        ),
        ("{age: {min: 18, max: 30}}", "fill", "p:1: rules.0.when.age: only {max: 17}"),
        ("{kind: Plate}", "fill", "p:1: rules.0.when.kind.0: String should match"),
        ("{kind: []}", "fill", "p:1: rules.0.when.kind: "),
        ("{kind: plate}", "preserve", "p:1: rules.0: preserve is for faces alone: plate can be kept, filled in"),
        ("{kind: [face, plate]}", "deidentify", "p:1: rules.0: deidentify is for faces alone: plate can be kept"),
        ("{kind: plate, age: {max: 17}}", "fill", "p:1: rules.0.when.age: is asked of faces alone, and the rule is"),
        ("{kind: plate, person_in: a}", "fill", "p:1: rules.0.when.person_in: is asked of faces alone"),
        ("{count: {max: 0}}", "fill", "p:1: rules.0.when.count: max is under 1, the least that there is"),
        ("{count: {min: 1.2, max: 1.8}}", "fill", "p:1: rules.0.when.count: no whole number"),
        ("{path: ''}", "fill", "p:1: rules.0.when.path.0: "),
        ("{colour: red}", "fill", "p:1: rules.0.when.colour: unknown key"),
        ("{}", "hide", "p:1: rules.0.do: 'hide' is none of 'keep'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(when: str, do: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(TEXT % (when, do, "keep"), "p")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "dead"),
    [
        ("{path: '*/a/*'}", "{path: '*/a/*', count: {max: 3}}", True),
        ("{path: '*/a/*'}", "{path: ['*/a/*', '*/b/*']}", False),
        ("{kind: plate}", "{}", False),
        ("{kind: [face, plate]}", "{kind: plate}", True),
        ("{age: {max: 17}}", "{age: {max: 17}, yaw: {max: 9}}", True),
        ("{age: {max: 17}}", "{age: {min: 18}}", False),
        ("{}", "{age: {max: 17}}", True),
    ],
)
def test_rules_behind_others(first: str, second: str, dead: bool) -> None:
    rules = f"[{{name: a, when: {first}, do: fill}}, {{name: b, when: {second}, do: withhold}}]"
    text = f"{{version: 1, rules: {rules}, otherwise: keep}}"
    if dead:
        with pytest.raises(PolicyError, match="can never match: every face it is for is taken by the rule 'a'"):
            parse_policy(text, "p")
    else:
        assert parse_policy(text, "p").rules[1].do == "withhold"


def test_what_is_found_and_what_rules_are_for_fit_each_other() -> None:
    plates = parse_policy(TEXT % ("{kind: plate}", "fill", "preserve"), "p")
    plates.check_kinds(["face", "plate"])
    with pytest.raises(PolicyError, match="the rule 'r' is for plate, which no detector and no box file finds"):
        plates.check_kinds(["face"])
    with pytest.raises(PolicyError, match=r"text is found too, and otherwise \(preserve\) is for faces alone"):
        plates.check_kinds(["face", "plate", "text"])
    load_policy("redact").check_kinds(["face", "text"])  # what hides faces hides anything
    some = parse_policy(TEXT % ("{kind: plate, score: {min: 0.5}}", "fill", "preserve"), "p")
    with pytest.raises(PolicyError, match="a rule for all of them is needed"):
        some.check_kinds(["face", "plate"])


def test_policies_that_let_nothing_through() -> None:
    assert parse_policy("{version: 1, otherwise: withhold}", "p").withholds_all
    assert not parse_policy(TEXT % ("{score: {max: 0.3}}", "keep", "withhold"), "p").withholds_all


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("*.jpg", True),
        ("x.*", True),
        ("school/*", True),
        ("*/school/*", True),
        ("*/a/*.jpg", True),
        ("gs://archive/*", True),
        ("School/*", False),
        ("school", False),
        ("*.png", False),
    ],
)
def test_paths(glob: str, found: bool) -> None:
    assert matches_path([glob], ("school/a/x.jpg", "gs://archive/school/a/x.jpg")) is found
    assert matches_path(["no", glob], ("school/a/x.jpg", "gs://archive/school/a/x.jpg")) is found


def test_a_policy_in_sentences() -> None:
    text = """
version: 1
mask: head
rules:
  - {name: children, when: {age: {max: 17}, count: {min: 2, max: 9}}, do: withhold}
  - {name: plates, when: {kind: plate, path: ["*/road/*", "*.png"]}, do: pixelate}
  - {name: guests, when: {person_in: [a, b], area: {min: 0.02}, rank: {max: 1}}, do: keep}
otherwise: redact
"""
    assert list(explained(parse_policy(text, "p"))) == [
        "Of these rules the first that fits a face or plate decides on it:",
        "1. children: a face that is in a photo with 2 to 9 faces and does not clearly look over 17 keeps its whole"
        " photo back: the photo goes nowhere.",
        "2. plates: a plate that is in a photo whose path fits */road/* or *.png is pixelated.",
        "3. guests: a face that covers at least 2 % of the frame, is the largest of its kind and is of somebody in a or"
        " b stays as it is.",
        "Whatever no rule fits is filled in from its surroundings.",
        "With a face that is hidden go its hair, ears and neck.",
        "Where it cannot be told whether a rule fits, that is done which shows least.",
        "Age is what a face looks like: whoever does not clearly look over 17 counts as young.",
    ]
    assert list(explained(load_policy("redact"))) == ["Every face is filled in from its surroundings."]
    last = list(explained(parse_policy("{version: 1, otherwise: withhold}", "p")))[-1]
    assert last == "No photo in which anything is found gets through."
