"""A policy in plain sentences: what each rule asks, and what is done."""

from collections.abc import Iterator, Sequence

from mien.models.faces import FACE_KIND
from mien.transforms.policy.conditions import YOUNG, Conditions, Range
from mien.transforms.policy.rules import WITHHOLD, Policy

_DONE = {
    "keep": "stays as it is",
    "preserve": "stays recognisable (coded where the photo is compressed)",
    "realistic": "becomes another realistic face",
    "deidentify": "becomes the face of a person who does not exist",
    "fill": "is filled in from its surroundings",
    "pixelate": "is pixelated",
    "blur": "is blurred",
    WITHHOLD: "keeps its whole photo back: the photo goes nowhere",
}
_MEASURED = {
    "center": "lies {} of the way from the middle of the frame to a corner",
    "yaw": "is turned {} degrees to a side",
    "pitch": "is turned {} degrees up or down",
    "score": "was found with a score of {}",
    "sharpness": "has a sharpness of {}",
    "count": "is in a photo with {} faces",
}


def explained(policy: Policy) -> Iterator[str]:
    """The policy's sentences, a line each."""
    things = " or ".join(sorted({FACE_KIND, *(kind for rule in policy.rules for kind in rule.when.kinds)}))
    if policy.rules:
        yield f"Of these rules the first that fits a {things} decides on it:"
    for number, rule in enumerate(policy.rules, 1):
        what = " or ".join(sorted(rule.when.kinds))
        asked = list(_asked(rule.when))
        which = f" that {_listed(asked, 'and')}" if asked else ""
        yield f"{number}. {rule.name}: a {what}{which} {_DONE[rule.do]}."
    yield f"{'Whatever no rule fits' if policy.rules else 'Every face'} {_DONE[policy.otherwise]}."
    if policy.mask == "head":
        yield "With a face that is hidden go its hair, ears and neck."
    if policy.galleries or policy.asks_for_pose:
        yield "Where it cannot be told whether a rule fits, that is done which shows least."
    if policy.asks_for_age:
        yield f"Age is what a face looks like: whoever does not clearly look over {YOUNG} counts as young."
    if policy.withholds_all:
        yield "No photo in which anything is found gets through."


def _asked(when: Conditions) -> Iterator[str]:
    for name, wanted in when.ranges().items():
        if name == "area":
            yield f"covers {_said(wanted, 100)} % of the frame"
        elif name == "rank" and wanted.min is None:
            yield (
                "is the largest of its kind" if wanted.max == 1 else f"is among the {wanted.max:g} largest of its kind"
            )
        elif name == "rank":
            yield f"comes as number {_said(wanted)} by size"
        else:
            yield _MEASURED[name].format(_said(wanted))
    if when.age is not None:
        yield f"clearly looks over {YOUNG}" if when.age.min is not None else f"does not clearly look over {YOUNG}"
    if when.path:
        yield f"is in a photo whose path fits {_listed(when.path, 'or')}"
    if when.person_in:
        yield f"is of somebody in {_listed(when.person_in, 'or')}"
    if when.person_not_in:
        yield f"is of nobody in {_listed(when.person_not_in, 'or')}"


def _said(wanted: Range, unit: float = 1) -> str:
    low, high = (None if end is None else f"{end * unit:g}" for end in (wanted.min, wanted.max))
    if low == high:
        return f"exactly {low}"
    if low and high:
        return f"{low} to {high}"
    return f"at least {low}" if low else f"at most {high}"


def _listed(parts: Sequence[str], word: str) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"
