"""What the values of a setting may be: as an annotation of its field it parses an option's text and checks a value.

Nothing here loads Beam or torch.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

USUAL_DETECTORS = ("centerface",)
USUAL, NO_DETECTOR = "mien", "none"  # stand for USUAL_DETECTORS, and for none


@dataclass(frozen=True)
class Number:
    """A whole number from low to high."""

    low: int
    high: int

    def parse(self, text: str) -> Any:
        """The value of an option's text; ValueError."""
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a whole number") from None
        return self.check(value)

    def check(self, value: Any) -> Any:
        """The value; ValueError for one that is not of this kind."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{value!r} is not a whole number")
        if not self.low <= value <= self.high:
            raise ValueError(f"{value} is not between {self.low} and {self.high}")
        return value


class Share:
    """A number from 0 to 1."""

    def parse(self, text: str) -> Any:
        """As Number.parse."""
        try:
            return self.check(float(text))
        except ValueError:
            raise ValueError(f"{text} is not between 0 and 1") from None

    def check(self, value: Any) -> Any:
        """As Number.check."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(f"{value!r} is not between 0 and 1")
        return float(value)


class Flag:
    """True or False."""

    def check(self, value: Any) -> Any:
        """As Number.check."""
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is neither True nor False")
        return value


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    known: tuple[Any, ...]

    def check(self, value: Any) -> Any:
        """As Number.check."""
        if value not in self.known:
            raise ValueError(f"{value!r} is not one of {', '.join(map(str, self.known))}")
        return value


@dataclass(frozen=True)
class Names:
    """Several of the known names, each once, in the order given. what: what one is called; empty: may be none."""

    known: tuple[str, ...]
    what: str
    empty: bool = False

    def parse(self, text: str) -> Any:
        """As Number.parse, of names joined by commas."""
        return self.check(text.split(","))

    def check(self, value: Any) -> Any:
        """As Number.check."""
        names = tuple(dict.fromkeys([value] if isinstance(value, str) else value))
        if unknown := [name for name in names if name not in self.known]:
            raise ValueError(f"unknown {self.what} {unknown[0]!r}; known are {', '.join(self.known)}")
        if not names and not self.empty:
            raise ValueError(f"no {self.what}; known are {', '.join(self.known)}")
        return names


@dataclass(frozen=True)
class DetectorNames(Names):
    """mien's own detectors (`mien` stands for the usual ones), entry points of the group mien.detectors and
    `module:Class`; `none` for none, beside boxes from a file."""

    empty: bool = True

    def check(self, value: Any) -> Any:
        """As Number.check."""
        from mien.models.errors import DetectorError
        from mien.models.faces import detector_kind, installed_detectors

        given = [value] if isinstance(value, str) else list(value)
        if NO_DETECTOR in given:
            if len(given) > 1:
                raise ValueError(f"{NO_DETECTOR} stands alone")
            return ()
        names = [name for one in given for name in (USUAL_DETECTORS if one == USUAL else (one,))]
        for name in names:
            if name not in self.known:
                try:
                    detector_kind(name)
                except DetectorError as error:
                    known = ", ".join((*self.known, USUAL, NO_DETECTOR, *installed_detectors()))
                    hint = f"; known are {known}, and module:Class" if str(error).startswith("unknown") else ""
                    raise ValueError(f"{error}{hint}") from None
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Texts:
    """Any texts, each once, in the order given, or none. what: what one is called."""

    what: str

    def parse(self, text: str) -> Any:
        """As Number.parse, of texts joined by commas."""
        return self.check(text.split(","))

    def check(self, value: Any) -> Any:
        """As Number.check."""
        texts = tuple(dict.fromkeys([value] if isinstance(value, str) else value))
        if not all(isinstance(text, str) and text for text in texts):
            raise ValueError(f"an empty {self.what}")
        return texts


@dataclass(frozen=True)
class Ratio:
    """A number from 1 to a million."""

    def parse(self, text: str) -> Any:
        """As Number.parse."""
        try:
            return self.check(float(text))
        except ValueError:
            raise ValueError(f"{text} is not between 1 and 1,000,000") from None

    def check(self, value: Any) -> Any:
        """As Number.check."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 10**6:
            raise ValueError(f"{value!r} is not between 1 and 1,000,000")
        return float(value)


@dataclass(frozen=True)
class Maybe:
    """None, or a value of a kind."""

    kind: Number | Ratio

    def parse(self, text: str) -> Any:
        """As Number.parse."""
        return self.kind.parse(text)

    def check(self, value: Any) -> Any:
        """As Number.check."""
        return None if value is None else self.kind.check(value)


Kind = Number | Share | Flag | Choice | Names | Texts | Ratio | Maybe


NOT_HASHED = "not hashed"  # marks a field whose value makes no other output: nothing need be done again


def kind_of(each: "dataclasses.Field[Any]") -> Kind | None:
    """What the values of a field may be."""
    return next((known for known in getattr(each.type, "__metadata__", ()) if not isinstance(known, str)), None)


def is_hashed(each: "dataclasses.Field[Any]") -> bool:
    """Whether another value makes another output, so that what was done with this one must be done again."""
    return NOT_HASHED not in getattr(each.type, "__metadata__", ())
