import pickle
from pathlib import Path

import pytest

from mien.models.errors import PolicyError
from mien.transforms.policy.rules import BUILT_IN, load_policy, parse_policy

RULES = """version: 1
mask: face
rules:
  - {name: subjects, when: {rank: {max: 2}, area: {min: 0.02}, yaw: {max: 35}}, do: preserve}
  - name: crowd
    when:
      area: {max: 0.02}
    do: realistic
otherwise: redact
"""


# each list holds the one before it nine times over
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))


def test_a_policy_is_read_and_travels(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(RULES)
    policy = load_policy(str(path))
    assert [(rule.name, rule.do) for rule in policy.rules] == [("subjects", "preserve"), ("crowd", "realistic")]
    assert policy.otherwise == "fill"  # `redact` is the redaction of this version
    assert policy.id == f"my.yaml:{policy.hash[:12]}"
    again = pickle.loads(pickle.dumps(policy))
    assert (again, again.id) == (policy, policy.id)
    assert load_policy(f"file://{path}").hash == policy.hash
    assert parse_policy(RULES.replace("{max: 2}", "{max: 3}"), "my.yaml").hash != policy.hash


def test_galleries_and_masks() -> None:
    text = "{version: 1, mask: head, rules: [{name: r, when: {person_in: a, person_not_in: [b, c]}, do: keep}], "
    policy = parse_policy(f"{text} otherwise: pixelate}}", "p")
    assert (policy.mask, policy.galleries, policy.actions) == ("head", ("a", "b", "c"), {"keep", "pixelate"})
    assert policy.with_mask("face").mask == "face"
    assert policy.with_mask("face").id != policy.id
    narrower = "{name: first, when: {person_in: [a, b]}, do: keep}, {name: second, when: {person_in: c}, do: blur}"
    assert parse_policy(f"{{version: 1, rules: [{narrower}], otherwise: fill}}", "p").rules[1].do == "blur"


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_policies(name: str) -> None:
    assert load_policy(name).id.startswith(f"{name}:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p: empty"),
        ("a: [", "p:1: not YAML: expected the node content, but found '<stream end>'"),
        ("- 1", "p:1: policy: a mapping is wanted here"),
        ("version: 1", "p:1: otherwise: is required"),
        ("version: 2\notherwise: fill", "p:1: version: 2 is none of 1"),
        ("version: 1\nversion: 1\notherwise: fill", "p:2: version: twice in one place"),
        ("version: 1\nmask: hair\notherwise: fill", "p:2: mask: 'hair' is none of 'face' or 'head'"),
        (
            "version: 1\notherwise: hide",
            "p:2: otherwise: 'hide' is none of 'keep', 'preserve', 'realistic', 'deidentify'",
        ),
        (RULES.replace("area: {max", "aera: {max"), "p:7: rules.1.when.aera: unknown key"),
        (RULES.replace("area: {max: 0.02}", "person_in: {a: 1}"), "p:7: rules.1.when.person_in: a list is wanted here"),
        (RULES.replace("area: {max: 0.02}", "person_in: []"), "p:7: rules.1.when.person_in: "),
        (RULES.replace("area: {max: 0.02}", "area: {min: 2}"), "p:7: rules.1.when.area: min is over 1, the most"),
        (RULES.replace("{max: 35}", "{min: 91}"), "p:4: rules.0.when.yaw: min is over 90"),
        (RULES.replace("{max: 2}", "{max: 0.5}"), "p:4: rules.0.when.rank: max is under 1, the least"),
        (RULES.replace("{max: 2}", "{min: 1.2, max: 1.8}"), "p:4: rules.0.when.rank: no whole number"),
        (
            RULES.replace("area: {max: 0.02}", "{person_in: [a, b], person_not_in: b}"),
            "p:7: rules.1.when.person_not_in: b is in person_in too",
        ),
        (
            RULES.replace("when: {rank: {max: 2}, area: {min: 0.02}, yaw: {max: 35}}, ", ""),
            "p:5: rules.1: can never match: every face it is for is taken by the rule 'subjects' before it",
        ),
        (
            RULES.replace("area: {max: 0.02}", "{area: {min: 0.1}, yaw: {max: 9}, rank: {max: 1}}"),
            "p:5: rules.1: can never match: ",
        ),
        (RULES.replace("{max: 2}", "{max: 2, min: 3}"), "p:4: rules.0.when.rank: min is over max"),
        (RULES.replace("{max: 2}", "{}"), "p:4: rules.0.when.rank: min or max is needed"),
        (RULES.replace("{max: 2}", "2"), "p:4: rules.0.when.rank: a mapping is wanted here"),
        (RULES.replace("{max: 2}", "{max: two}"), "p:4: rules.0.when.rank.max: a number is wanted here"),
        (RULES.replace("{max: 2}", "{max: .nan}"), "p:4: rules.0.when.rank.max: "),
        (RULES.replace("    do: realistic\n", ""), "p:5: rules.1.do: is required"),
        ("version: 1\nrules: 3\notherwise: fill", "p:2: rules: a list is wanted here"),
        ("x: !!python/object/apply:os.getpid []", "p:1: not YAML: could not determine a constructor"),
        ("a: &a [*a]", "p:1: more than 50 levels deep, aliases included: no policy"),
        ("a: &a {b: *a}", "p:1: more than 50 levels deep"),
        ("[" * 60, "p:1: more than 50 levels deep: no policy"),
        ("version: 1\n? {a: b}\n: fill", "p:2: a key must be a text, not a list or mapping"),
        ("version: 1\n? [a, b]\n: fill", "p:2: a key must be a text"),
        ("version: 1\nrules: [{name: x, when: {{}: 1}, do: fill}]", "p:2: a key must be a text"),
        ("version: 1\nrules: !!set {? [a]}", "p:2: a key must be a text"),
        (LAUGHS, "p:1: over 20000 entries, aliases included: no policy"),
        (LAUGHS.replace("[", "{<<: [").replace("]", "]}").replace("{<<: [x", "{x: [x"), "p:1: over 20000 entries"),
        (f"version: {'1:' * 6_000}1", "p:1: a text of over 10000 characters: no policy"),
        (f"version: {'1:' * 4_000}1.5", "p: not YAML: "),
        ("version: !!int ''", "p: not YAML: "),
        ("version: !!bool maybe", "p: not YAML: "),
        ("version: !!timestamp then", "p: not YAML: "),
        ("version: 1\notherwise: [fill, [fill]]", "p:2: otherwise: ['fill', ['fill']] is none of"),
        ("1: 1\nversion: 1\notherwise: fill", "p:1: "),
        ("null: 1\nversion: 1\notherwise: fill", "p:1: "),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, "p")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nosuch", "nosuch: No such file or directory; built in are compress, redact, deidentify, background-people"),
        ("/no/such.yaml", "/no/such.yaml: No such file or directory"),
        ("memory://no/such.yaml", "memory://no/such.yaml: no such file"),
    ],
)
def test_policies_that_are_not_there(name: str, message: str) -> None:
    with pytest.raises(PolicyError, match="^" + message):
        load_policy(name)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(PolicyError, match="not UTF-8"):
        load_policy(str(tmp_path / "p.yaml"))
