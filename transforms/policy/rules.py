"""A policy file: rules that say, face by face, who stays recognisable and who does not.

Read and checked as a whole before a job starts; every error names the file, the line and the key.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, PrivateAttr, StringConstraints, ValidationError, model_validator

from mien.models.errors import PolicyError, one_line, why_unread
from mien.models.faces import FACE_KIND
from mien.transforms.policy.conditions import STRICT, Conditions
from mien.transforms.stores import is_local, read_start

Action = Literal["keep", "preserve", "realistic", "deidentify", "fill", "pixelate", "blur", "withhold"]
ACTIONS: tuple[str, ...] = get_args(Action)
WITHHOLD = "withhold"  # the whole photo goes nowhere
FOR_FACES = frozenset(("preserve", "realistic", "deidentify"))  # nothing else can be coded or replaced
SHOWN = frozenset(("keep", "preserve"))  # the person stays recognisable; every other action hides who it is
# How much each action shows of a face, in steps. Pixelated and blurred faces show as much as each other.
SHOWS: dict[str, int] = {
    "withhold": -1,
    "fill": 0,
    "pixelate": 1,
    "blur": 1,
    "deidentify": 2,
    "realistic": 3,
    "preserve": 4,
    "keep": 5,
}

_FOR_OTHERS = "kept, filled in, pixelated, blurred or withheld (keep, fill, pixelate, blur, withhold)"

BUILT_IN = {
    "compress": "{version: 1, otherwise: preserve}",
    "redact": "{version: 1, otherwise: redact}",
    "deidentify": "{version: 1, otherwise: deidentify}",
    "background-people": """
version: 1
rules:
  - {name: subjects, when: {rank: {max: 2}, area: {min: 0.02}, yaw: {max: 35}}, do: preserve}
  - {name: background people, when: {area: {max: 0.02}}, do: realistic}
otherwise: redact
""",
}
_MAX_BYTES = 1_000_000
_MAX_NODES = 20_000  # texts, lists and mappings, with all that aliases repeat; a policy has at most 255 rules
_MAX_TEXT = 10_000  # characters of one; PyYAML takes quadratic time on some numbers
_MAX_DEPTH = 50
_WANTED = {
    "model_type": "a mapping is wanted here",
    "tuple_type": "a list is wanted here",
    "string_type": "a text is wanted here",
    "float_parsing": "a number is wanted here",
    "float_type": "a number is wanted here",
}


class Rule(BaseModel):
    """If a face meets the conditions, this is done with it; a rule without conditions matches every face."""

    model_config = STRICT
    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    when: Conditions = Conditions()
    do: Action

    @model_validator(mode="after")
    def _can_be_done(self) -> "Rule":
        if self.do in FOR_FACES and (others := self.when.kinds - {FACE_KIND}):
            raise ValueError(f"{self.do} is for faces alone: {min(others)} can be {_FOR_OTHERS}")
        return self


class Policy(BaseModel):
    """The first rule that matches a face decides; otherwise is for the faces that none matches."""

    model_config = STRICT
    version: Literal[1]
    mask: Literal["face", "head"] = "face"
    rules: tuple[Rule, ...] = Field(default=(), max_length=255)
    otherwise: Action
    _name: str = ""
    _digests: dict[str, str] = PrivateAttr(default_factory=dict)
    _references: int = 0

    @property
    def id(self) -> str:
        """The policy's name and the start of its hash, as it is recorded with every photo."""
        return f"{self._name}:{self.hash[:12]}"

    @property
    def actions(self) -> frozenset[str]:
        """All that it can decide."""
        return frozenset((self.otherwise, *(rule.do for rule in self.rules)))

    @property
    def galleries(self) -> tuple[str, ...]:
        """The URIs of all galleries that its rules name, each once."""
        named = (uri for r in self.rules for uri in (*(r.when.person_in or ()), *(r.when.person_not_in or ())))
        return tuple(dict.fromkeys(named))

    @property
    def asks_for_pose(self) -> bool:
        """Whether a rule has a condition that only landmarks can tell: pose, age or a gallery."""
        posed = any({"yaw", "pitch"} & rule.when.ranges().keys() for rule in self.rules)
        return bool(self.galleries) or posed or self.asks_for_age

    @property
    def asks_for_age(self) -> bool:
        """Whether a rule has a condition on the apparent age."""
        return any(rule.when.age is not None for rule in self.rules)

    @property
    def asks_for_path(self) -> bool:
        """Whether a rule has a condition on the photo's path."""
        return any(rule.when.path is not None for rule in self.rules)

    @property
    def withholds_all(self) -> bool:
        """Whether no photo in which anything is found can get through."""
        return self.actions == {WITHHOLD}

    def check_kinds(self, found: Iterable[str]) -> None:
        """PolicyError where what is found, by its kinds, and what the rules are for do not fit each other: nobody looks
        for what a rule is for, or nothing can be done with what no rule is for."""
        kinds = frozenset(found)
        for rule in self.rules:
            if missing := rule.when.kinds - kinds:
                kind = min(missing)
                raise PolicyError(
                    f"the rule {rule.name!r} is for {kind}, which no detector and no box file finds (--detector,"
                    " --boxes)"
                )
        for kind in sorted(kinds - {FACE_KIND}):
            every = Conditions(kind=(kind,))
            if self.otherwise in FOR_FACES and not any(rule.when.covers(every) for rule in self.rules):
                raise PolicyError(
                    f"{kind} is found too, and otherwise ({self.otherwise}) is for faces alone: a rule for all of them"
                    f" is needed, such as {{name: {kind}, when: {{kind: {kind}}}, do: fill}}"
                )

    def with_mask(self, mask: Literal["face", "head"]) -> "Policy":
        """The same policy with another mask."""
        return self.model_copy(update={"mask": mask})

    def uncoded(self) -> "Policy":
        """The policy with keep for preserve: in a safe photo a face that may be recognised stays as it is."""
        rules = tuple(rule.model_copy(update={"do": "keep"}) if rule.do == "preserve" else rule for rule in self.rules)
        otherwise = "keep" if self.otherwise == "preserve" else self.otherwise
        return self.model_copy(update={"rules": rules, "otherwise": otherwise})

    def pinned(self) -> "Policy":
        """The same policy with the digest of each gallery as it is now, or as it was when this was first asked.

        GalleryError for a gallery that cannot be read.
        """
        if self._digests or not self.galleries:
            return self
        from mien.models.privacy import gallery_state  # brings torch, which a policy alone does without

        policy = self.model_copy()
        states = {uri: gallery_state(uri) for uri in self.galleries}
        policy._digests = {uri: digest for uri, (digest, _) in states.items()}
        policy._references = sum(photos for _, photos in states.values())
        return policy

    @property
    def digests(self) -> dict[str, str]:
        """By each gallery's URI the digest of the photos that it must hold; empty before pinned()."""
        return dict(self._digests)

    @property
    def references(self) -> int:
        """How many photos the galleries hold; 0 before pinned()."""
        return self._references

    @property
    def hash(self) -> str:
        """SHA-256 of what the policy says, whatever its layout."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_policy(name_or_uri: str) -> Policy:
    """A built-in policy by name, or a YAML file from a path or any fsspec URI. Raises PolicyError."""
    if name_or_uri in BUILT_IN:
        return parse_policy(BUILT_IN[name_or_uri], name_or_uri)
    try:
        text = read_start(name_or_uri, _MAX_BYTES + 1)
    except Exception as error:
        known = f"; built in are {', '.join(BUILT_IN)}" if is_local(name_or_uri) and "/" not in name_or_uri else ""
        raise PolicyError(f"{name_or_uri}: {why_unread(error)}{known}") from error
    if len(text) > _MAX_BYTES:
        raise PolicyError(f"{name_or_uri}: over {_MAX_BYTES} bytes, no policy")
    try:
        return parse_policy(text.decode(), name_or_uri.rstrip("/").rpartition("/")[2], name_or_uri)
    except UnicodeDecodeError as error:
        raise PolicyError(f"{name_or_uri}: not UTF-8 text") from error


def parse_policy(text: str, name: str, where: str = "") -> Policy:
    """The policy that a YAML text says. name: as it is recorded; where: the file, for messages."""
    where = where or name
    try:
        _check_size(text, where)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            raise PolicyError(f"{where}: empty")
        _check_nodes(root, where)
        content = yaml.safe_load(text)
    except PolicyError:
        raise
    except Exception as error:  # of a value that is not what its tag says PyYAML raises nearly every kind
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise PolicyError(f"{where}{line}: not YAML: {one_line(getattr(error, 'problem', None) or error)}") from error
    try:
        policy = Policy.model_validate(_actions_named(content))
    except ValidationError as error:
        raise PolicyError(_message(error, root, where)) from error
    _refuse_dead_rules(policy, root, where)
    policy._name = name
    return policy


def _refuse_dead_rules(policy: Policy, root: yaml.Node, where: str) -> None:
    """PolicyError for a rule that can never match, by itself or behind those before it."""
    for i, rule in enumerate(policy.rules):
        path: tuple[int | str, ...] = ("rules", i)
        problem = ""
        if found := rule.when.never():
            path, problem = (*path, "when", found[0]), found[1]
        elif before := next((r for r in policy.rules[:i] if r.when.covers(rule.when)), None):
            problem = f"can never match: every face it is for is taken by the rule {before.name!r} before it"
        if problem:
            raise PolicyError(f"{where}:{_line(root, path) + 1}: {'.'.join(map(str, path))}: {problem}")


def _actions_named(content: Any) -> Any:
    """`redact` stands for the redaction that shows least, which is fill."""
    if not isinstance(content, dict):
        return content
    named = {key: "fill" if key == "otherwise" and value == "redact" else value for key, value in content.items()}
    if isinstance(rules := content.get("rules"), list):
        named["rules"] = [{**r, "do": "fill"} if isinstance(r, dict) and r.get("do") == "redact" else r for r in rules]
    return named


def _check_size(text: str, where: str) -> None:
    """PolicyError for a document that is larger than any policy, before more of it is read: PyYAML takes quadratic
    time on deep ones."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        large = _too_large(count, depth)
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > _MAX_TEXT:
            large = f"a text of over {_MAX_TEXT} characters"
        if large:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise PolicyError(f"{where}:{line}: {large}: no policy")


def _too_large(count: int, depth: int) -> str:
    """What is too much of so many entries at such a depth; empty where it is not."""
    if count > _MAX_NODES:
        return f"over {_MAX_NODES} entries"
    return f"more than {_MAX_DEPTH} levels deep" if depth > _MAX_DEPTH else ""


def _check_nodes(root: yaml.Node, where: str) -> None:
    """PolicyError for a key that is no text or is there twice, and for what no policy needs: very many or very deep
    nodes. An alias counts as often as it stands there: nine levels of nine would be a billion."""
    for count, (node, depth) in enumerate(_nodes(root)):
        if large := _too_large(count, depth):
            raise PolicyError(f"{where}:{node.start_mark.line + 1}: {large}, aliases included: no policy")
        if not isinstance(node, yaml.MappingNode):
            continue
        seen = set()
        for key, _ in node.value:
            line = f"{where}:{key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise PolicyError(f"{line}: a key must be a text, not a list or mapping")
            if key.value in seen:
                raise PolicyError(f"{line}: {key.value}: twice in one place")
            seen.add(key.value)


def _nodes(root: yaml.Node) -> Iterator[tuple[yaml.Node, int]]:
    """The node and all below it, each with its depth; a node that holds itself has no end."""
    waiting = [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        yield node, depth
        if isinstance(node, yaml.MappingNode):
            waiting += [(child, depth + 1) for pair in reversed(node.value) for child in reversed(pair)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(child, depth + 1) for child in reversed(node.value)]


def _message(error: ValidationError, root: yaml.Node, where: str) -> str:
    """The first thing that is wrong, as one line: file:line: key: what."""
    first = error.errors(include_url=False)[0]
    path = first["loc"]
    line = _line(root, path) + 1
    key = ".".join(str(part) for part in path) or "policy"
    if first["type"] == "missing":
        problem = "is required"
    elif first["type"] == "extra_forbidden":
        problem = "unknown key"
    elif first["type"] == "literal_error":
        problem = f"{first['input']!r:.100} is none of {first['ctx']['expected']}"
    elif first["type"] in _WANTED:
        problem = _WANTED[first["type"]]
    else:
        problem = first["msg"].removeprefix("Value error, ")
    return f"{where}:{line}: {key}: {problem}"


def _line(node: yaml.Node, path: tuple[int | str, ...]) -> int:
    """The line, from 0, of the deepest part of the path that the file has."""
    line: int = node.start_mark.line
    for part in path:
        found = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, found = key.start_mark.line, value
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = node.value[part]
            line = found.start_mark.line
        if found is None:
            break
        node = found
    return line
