"""What a person who looked at the photos wants otherwise: lines of JSON, one for each correction.

They are a set and not a log: their order says nothing. What contradicts itself, or cannot be meant, spoils its photo,
which is then withheld; a line that names no photo spoils the file, because nobody can tell whom it was to hide.
"""

import dataclasses
import datetime
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mien.models.errors import CorrectionsError, one_line, why_unread
from mien.transforms.stores import read_start

Box = tuple[float, float, float, float]
Kind = Literal["add", "remove", "action", "withhold", "release", "confirm"]
KINDS: tuple[str, ...] = get_args(Kind)
OF_A_FACE = ("add", "remove", "action")
ACTIONS = ("fill", "pixelate", "blur", "realistic", "deidentify", "keep", "preserve")  # that a face can be given
MAX_CORRECTIONS = 50_000_000  # bytes of a file
_MAX_LINE, _MAX_SIDE, _MAX_NAME, _MAX_TIME = 10_000, 1 << 20, 200, 40
_MAX_PHOTO = 2000  # corrections: an index row has them all
_REQUIRED = {"uri", "size", "modified", "do"}
_KEYS = _REQUIRED | {"frame", "box", "action", "who", "when"}


@dataclass(frozen=True)
class Correction:
    """One line of a file of corrections.

    uri, size (bytes), modified (Unix seconds): of the original, as the run's index has them. frame: width and height of
    the upright photo, and box: x, y, width, height in its pixels; of corrections of one face. action: what is to be
    done with the face, of `add` and `action`. who: a name, if the reviewer gave one; when: ISO 8601.
    """

    uri: str
    size: int
    modified: float
    do: Kind
    frame: tuple[int, int] | None = None
    box: Box | None = None
    action: str = ""
    who: str = ""
    when: str = ""

    @property
    def work(self) -> tuple[Any, ...]:
        """What it changes in the photo's output, whoever asked for it."""
        return self.do, self.box, self.action

    def line(self) -> str:
        """As it is written, without what is not known."""
        return json.dumps({name: value for name, value in dataclasses.asdict(self).items() if value not in (None, "")})


@dataclass(frozen=True)
class PhotoCorrections:
    """All corrections of one photo. problem: why they cannot be carried out; empty where they can."""

    corrections: tuple[Correction, ...] = ()
    problem: str = ""

    @property
    def faces(self) -> tuple[Correction, ...]:
        """Those of single faces."""
        return tuple(one for one in self.corrections if one.do in OF_A_FACE)

    def of(self, kind: Kind) -> Correction | None:
        """The first of that kind."""
        return next((one for one in self.corrections if one.do == kind), None)

    @property
    def text(self) -> str:
        """All of it, to be read by of_text()."""
        return json.dumps({"problem": self.problem, "lines": [json.loads(one.line()) for one in self.corrections]})

    @classmethod
    def of_text(cls, text: str) -> "PhotoCorrections":
        """What text says; of an empty one no corrections."""
        if not text:
            return cls()
        said = json.loads(text)
        return cls(tuple(correction_of(line) for line in said["lines"]), said["problem"])

    @property
    def digest(self) -> str:
        """What changes when the photo's output does; empty where nothing is changed. Confirming changes nothing."""
        work = sorted(json.dumps(one.work) for one in self.corrections if one.do != "confirm")
        if not work and not self.problem:
            return ""
        return hashlib.sha256(json.dumps([self.problem, work]).encode()).hexdigest()[:16]

    def refused(self, size: int, modified: float) -> str:
        """Why they cannot be carried out on a file of so many bytes, last changed then; empty where they can."""
        if self.problem or not self.corrections:
            return self.problem
        if (self.corrections[0].size, self.corrections[0].modified) != (size, modified):
            return "the corrections are of another state of the photo: it has changed since it was reviewed"
        return ""


@dataclass(frozen=True)
class Corrections:
    """What a file of corrections says. photos: by uri. sha256: of the file; data: the file itself."""

    photos: Mapping[str, PhotoCorrections]
    sha256: str = ""
    data: bytes = field(default=b"", repr=False)

    @property
    def summary(self) -> dict[str, Any]:
        """What a record says of them: the file's sha256, how many photos it names, and how many there are of a kind."""
        kinds = Counter(one.do for photo in self.photos.values() for one in photo.corrections)
        return {"sha256": self.sha256, "photos": len(self.photos), "of": dict(kinds)}


def read_corrections(uri: str) -> Corrections:
    """A file from a path or any fsspec URI. Raises CorrectionsError."""
    try:
        data = read_start(uri, MAX_CORRECTIONS + 1)
    except Exception as error:  # every store has errors of its own
        raise CorrectionsError(f"{uri}: {why_unread(error)}") from error
    return parse_corrections(data, uri)


def parse_corrections(data: bytes, where: str) -> Corrections:
    """The corrections that a file's bytes say. where: the file, for messages.

    Raises CorrectionsError for what names no photo. What is wrong with a line that names one is its photo's problem.
    """
    if len(data) > MAX_CORRECTIONS:
        raise CorrectionsError(f"{where}: over {MAX_CORRECTIONS} bytes")
    found: dict[str, list[Correction]] = {}
    problems: dict[str, str] = {}
    seen: set[bytes] = set()
    for number, line in enumerate(data.splitlines(), 1):
        line = line.strip()
        if not line or line in seen:  # the very same line again: two saved files in one
            continue
        seen.add(line)
        fields = _fields_of(line, f"{where}:{number}")
        uri = fields["uri"]
        found.setdefault(uri, [])
        try:
            found[uri].append(correction_of(fields))
        except ValueError as error:
            problems.setdefault(uri, f"line {number}: {error}")
    photos = {
        uri: PhotoCorrections(tuple(some), problems.get(uri) or _contradiction(some)) for uri, some in found.items()
    }
    return Corrections(photos, hashlib.sha256(data).hexdigest(), data)


def _fields_of(line: bytes, where: str) -> dict[str, Any]:
    try:
        if len(line) > _MAX_LINE:
            raise ValueError(f"over {_MAX_LINE} bytes")
        fields = json.loads(line.decode(), object_pairs_hook=_once)
        uri = fields.get("uri") if isinstance(fields, dict) else None
        if not isinstance(uri, str) or not uri.encode():
            raise ValueError("a uri is needed")
    except (ValueError, RecursionError) as error:
        raise CorrectionsError(f"{where}: no correction of a photo: {one_line(error)}") from error
    return dict(fields)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's fields. ValueError for a key that is there twice, of which nobody can tell which is meant."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key is there twice")
    return fields


def correction_of(fields: Mapping[str, Any]) -> Correction:
    """A line's fields as a correction. Raises ValueError, whose message says what is wrong with them."""
    if missing := _REQUIRED - fields.keys():
        raise ValueError(f"{min(missing)} is missing")
    if unknown := fields.keys() - _KEYS:
        raise ValueError(f"unknown key {min(unknown)!r:.100}")
    uri, do, size, modified = (fields[name] for name in ("uri", "do", "size", "modified"))
    if do not in KINDS:
        raise ValueError(f"do: {do!r:.100} is none of {', '.join(KINDS)}")
    if type(size) is not int or not 0 <= size < 1 << 63:
        raise ValueError("size: a number of bytes is wanted here")
    if not _is_number(modified):
        raise ValueError("modified: a time in Unix seconds is wanted here")
    who, when = _text(fields, "who", _MAX_NAME), _text(fields, "when", _MAX_TIME)
    if when:
        _check_time(when)
    action = _text(fields, "action", 20)
    if action and do not in ("add", "action"):
        raise ValueError(f"action: is not of {do}")
    if (action and action not in ACTIONS) or (do == "action" and not action):
        raise ValueError(f"action: {action!r} is none of {', '.join(ACTIONS)}")
    frame = _frame(fields) if "frame" in fields or do in OF_A_FACE else None
    box = None
    if frame and do in OF_A_FACE:
        box = _box(fields, frame, do == "add")
    elif "box" in fields:
        raise ValueError(f"box: is not of {do}")
    return Correction(uri, size, float(modified), do, frame, box, action, who, when)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 1 << 53


def _text(fields: Mapping[str, Any], name: str, most: int) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str) or len(value) > most or not (value.isprintable() or not value):
        raise ValueError(f"{name}: a text of at most {most} printable characters is wanted here")
    return value


def _check_time(when: str) -> None:
    try:
        datetime.datetime.fromisoformat(when)
    except ValueError as error:
        raise ValueError("when: a time as ISO 8601 has it is wanted here") from error


def _frame(fields: Mapping[str, Any]) -> tuple[int, int]:
    frame = fields.get("frame")
    if not isinstance(frame, list | tuple) or len(frame) != 2 or any(type(side) is not int for side in frame):
        raise ValueError("frame: the photo's width and height are wanted here")
    width, height = frame
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        raise ValueError("frame: no photo is so large or so small")
    return width, height


def _box(fields: Mapping[str, Any], frame: tuple[int, int], drawn: bool) -> Box:
    """drawn: by hand, and so within the frame; what a detector found may reach over the border."""
    box = fields.get("box")
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(map(_is_number, box)):
        raise ValueError("box: four numbers are wanted here: x, y, width, height")
    x, y, width, height = (float(side) for side in box)
    if width < 1 or height < 1:
        raise ValueError("box: is smaller than a pixel")
    right, bottom = x + width, y + height
    outside = x >= frame[0] or y >= frame[1] or right <= 0 or bottom <= 0
    over = x < -0.5 or y < -0.5 or right > frame[0] + 0.5 or bottom > frame[1] + 0.5
    if outside or (drawn and over) or max(width, height) > 4 * max(frame):
        raise ValueError(f"box: is not within the frame of {frame[0]} x {frame[1]}")
    return x, y, width, height


def _contradiction(some: Sequence[Correction]) -> str:
    """Why these corrections of one photo cannot all be meant; empty where they can."""
    if len(some) > _MAX_PHOTO:
        return f"over {_MAX_PHOTO} corrections of one photo"
    if len({(one.size, one.modified) for one in some}) > 1:
        return "the corrections are of two states of the photo"
    if len({one.frame for one in some if one.frame}) > 1:
        return "the corrections are of two sizes of the photo"
    if twice := _twice(one.box for one in some if one.do in OF_A_FACE):
        return f"two corrections are of the box {', '.join(f'{side:g}' for side in twice)}"
    counts = Counter(one.do for one in some)
    if counts["withhold"] > 1 or counts["release"] > 1:
        return "is withheld or released twice"
    if counts["withhold"] and counts["release"]:
        return "is both withheld and released"
    return ""


def _twice(boxes: Iterable[Box | None]) -> Box | None:
    return next((box for box, count in Counter(boxes).items() if box and count > 1), None)
