"""What a policy's rules may ask of a face, or of what another detector found: measures within a range, what it is,
whose it may be, and in which photo it is.
"""

import fnmatch
import math
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from mien.models.faces import FACE_KIND, KIND_PATTERN

STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
# What each measure can be at all; see mien.transforms.steps.decide.
MEASURE_RANGES = {
    "area": (0, 1),
    "rank": (1, math.inf),
    "center": (0, 1),
    "yaw": (0, 90),
    "pitch": (0, 90),
    "score": (0, 1),
    "sharpness": (0, math.inf),
    "count": (0, math.inf),
}
_WHOLE = ("rank", "count")
_OF_FACES = ("yaw", "pitch", "age", "person_in", "person_not_in")  # nothing else has these
YOUNG, GROWN = 17, 18


class Range(BaseModel):
    """Values from min to max, both included."""

    model_config = STRICT
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _holds_something(self) -> "Range":
        if self.min is None and self.max is None:
            raise ValueError("min or max is needed")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is over max")
        return self

    def holds(self, value: float | None) -> bool | None:
        """Whether the value lies in the range; None for one that is not known."""
        if value is None:
            return None
        low, high = self.ends()
        return low <= value <= high

    def ends(self) -> tuple[float, float]:
        """The least and the greatest value, infinite where none is set."""
        return -math.inf if self.min is None else self.min, math.inf if self.max is None else self.max


class Age(Range):
    """Apparent age in years. Only who is clearly grown up is told from the others: {max: 17}, or {min: 18}."""

    @model_validator(mode="after")
    def _can_be_told(self) -> "Age":
        if (self.min, self.max) not in ((None, YOUNG), (GROWN, None)):
            raise ValueError(
                f"only {{max: {YOUNG}}} (everybody who is not clearly grown up) and {{min: {GROWN}}} can be told"
            )
        return self


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1)], ...], BeforeValidator(_as_list), Field(min_length=1)
]
Kinds = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=f"^{KIND_PATTERN}$")], ...],
    BeforeValidator(_as_list),
    Field(min_length=1),
]


class Conditions(BaseModel):
    """What must hold, all of it, for a rule to match. The measures are those of mien.transforms.steps.decide.

    kind: what was found, by default faces alone. age: apparent, see Age. count: faces in the photo. path: globs, see
    matches_path(). person_in, person_not_in: galleries of reference photos, folders or URIs; see
    mien.models.privacy.gallery.
    """

    model_config = STRICT
    area: Range | None = None
    rank: Range | None = None
    center: Range | None = None
    yaw: Range | None = None
    pitch: Range | None = None
    score: Range | None = None
    sharpness: Range | None = None
    count: Range | None = None
    age: Age | None = None
    kind: Kinds | None = None
    path: Texts | None = None
    person_in: Texts | None = None
    person_not_in: Texts | None = None

    @property
    def kinds(self) -> frozenset[str]:
        """What the rule is for."""
        return frozenset(self.kind or (FACE_KIND,))

    def ranges(self) -> dict[str, Range]:
        """The measures that a value is wanted of."""
        return {name: getattr(self, name) for name in MEASURE_RANGES if getattr(self, name) is not None}

    def never(self) -> tuple[str, str] | None:
        """The first condition that nothing can meet, and why; None where there is none."""
        of_faces = next((name for name in _OF_FACES if getattr(self, name) is not None), "")
        if of_faces and FACE_KIND not in self.kinds:
            return of_faces, f"is asked of faces alone, and the rule is for {', '.join(sorted(self.kinds))}"
        for name, wanted in self.ranges().items():
            (low, high), (least, most) = wanted.ends(), MEASURE_RANGES[name]
            if name == "count" and self.kinds == {FACE_KIND}:
                least = 1  # a photo with a face has one
            if low > most:
                return name, f"min is over {most:g}, the most that there is: no face can match"
            if high < least:
                return name, f"max is under {least:g}, the least that there is: no face can match"
            if name in _WHOLE and math.ceil(max(low, least)) > high:
                return name, "no whole number lies between min and max: no face can match"
        if both := set(self.person_in or ()) & set(self.person_not_in or ()):
            return "person_not_in", f"{min(both)} is in person_in too: no face can match"
        return None

    def covers(self, other: "Conditions") -> bool:
        """Whether all that meets the other conditions meets these."""
        theirs = other.ranges()
        for name, wanted in self.ranges().items():
            low, high = wanted.ends()
            if name not in theirs or not (low <= theirs[name].ends()[0] and theirs[name].ends()[1] <= high):
                return False
        if not other.kinds <= self.kinds or (self.age is not None and self.age != other.age):
            return False
        for name in ("path", "person_in"):  # of a longer list more is met
            own, others = getattr(self, name), getattr(other, name)
            if own is not None and not (others and set(others) <= set(own)):
                return False
        return set(self.person_not_in or ()) <= set(other.person_not_in or ())


def matches_path(globs: Iterable[str], paths: Iterable[str]) -> bool:
    """Whether one of the globs fits one of the photo's paths.

    paths: below the inputs' common folder, and the URI. A glob without a slash is for the file's name; `*` goes over
    slashes, as in --exclude. Upper and lower case are different.
    """
    known = [name for path in paths for name in (path, f"/{path}")]
    names = [path.rpartition("/")[2] for path in paths]
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs for name in (known if "/" in glob else names))
