import pickle
from pathlib import Path

import pytest

from mien.models.errors import PolicyError
from mien.transforms.policy import BUILT_IN, load_policy, parse_policy

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
        ("version: 1\notherwise: blur", "p:2: otherwise: the action blur is not in this version"),
        ("version: 1\nmask: head\notherwise: fill", "p:2: mask: the mask head is not in this version"),
        ("version: 1\notherwise: hide", "p:2: otherwise: 'hide' is none of 'keep', 'preserve', 'realistic' or 'fill'"),
        (RULES.replace("area: {max", "aera: {max"), "p:7: rules.1.when.aera: unknown key"),
        (RULES.replace("area: {max", "person_in: {max"), "p:7: rules.1.when.person_in: the condition person_in is not"),
        (RULES.replace("{max: 2}", "{max: 2, min: 3}"), "p:4: rules.0.when.rank: min is over max"),
        (RULES.replace("{max: 2}", "{}"), "p:4: rules.0.when.rank: min or max is needed"),
        (RULES.replace("{max: 2}", "2"), "p:4: rules.0.when.rank: a mapping is wanted here"),
        (RULES.replace("{max: 2}", "{max: two}"), "p:4: rules.0.when.rank.max: a number is wanted here"),
        (RULES.replace("{max: 2}", "{max: .nan}"), "p:4: rules.0.when.rank.max: "),
        (RULES.replace("    do: realistic\n", ""), "p:5: rules.1.do: is required"),
        ("version: 1\nrules: 3\notherwise: fill", "p:2: rules: a list is wanted here"),
        ("x: !!python/object/apply:os.getpid []", "p:1: not YAML: could not determine a constructor"),
        ("a: &a [*a]", "p: not YAML"),
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
        ("nosuch", "nosuch: No such file or directory; built in are compress, redact, background-people"),
        ("/no/such.yaml", "/no/such.yaml: No such file or directory"),
        ("deidentify", "the built-in policy deidentify is not in this version"),
    ],
)
def test_policies_that_are_not_there(name: str, message: str) -> None:
    with pytest.raises(PolicyError, match="^" + message):
        load_policy(name)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(PolicyError, match="not UTF-8"):
        load_policy(str(tmp_path / "p.yaml"))
