"""What a file of corrections may say, and what becomes of one that says anything else."""

import json
from pathlib import Path
from typing import Any

import pytest

from mien.models.errors import CorrectionsError
from mien.transforms.policy import Correction, PhotoCorrections, parse_corrections, read_corrections

LINE = {"uri": "/in/a.jpg", "size": 9, "modified": 1.5, "do": "add", "frame": [64, 48], "box": [1, 2, 30, 40]}


def parsed(*lines: dict[str, Any]) -> PhotoCorrections:
    """Of lines about /in/a.jpg."""
    data = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    return parse_corrections(data, "c.jsonl").photos["/in/a.jpg"]


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in LINE.items() if name not in names}


PHOTO = without("frame", "box")


def test_a_line_comes_back_as_it_was() -> None:
    line = LINE | {"action": "blur", "who": "A. B.", "when": "2026-11-27T18:19:03.483Z"}
    (one,) = parsed(line).corrections
    assert one == Correction(
        "/in/a.jpg", 9, 1.5, "add", (64, 48), (1.0, 2.0, 30.0, 40.0), "blur", "A. B.", "2026-11-27T18:19:03.483Z"
    )
    assert json.loads(one.line()) == line
    assert PhotoCorrections.of_text(parsed(line).text) == parsed(line)
    assert PhotoCorrections.of_text("") == PhotoCorrections()


def test_a_file_is_a_set() -> None:
    lines = [LINE, PHOTO | {"do": "confirm"}, LINE | {"uri": "/in/b.jpg"}, LINE]  # the last is there twice
    data = "\n\n".join(json.dumps(line) for line in lines).encode()
    found = parse_corrections(data, "c.jsonl")
    assert {uri: [one.do for one in photo.corrections] for uri, photo in found.photos.items()} == {
        "/in/a.jpg": ["add", "confirm"],
        "/in/b.jpg": ["add"],
    }
    assert found.summary == {"sha256": found.sha256, "photos": 2, "of": {"add": 2, "confirm": 1}}
    assert not any(photo.problem for photo in found.photos.values())
    assert parse_corrections(b"", "c.jsonl").photos == {}


def test_the_digest_tells_what_is_done_otherwise() -> None:
    assert parsed(PHOTO | {"do": "confirm"}).digest == PhotoCorrections().digest == ""
    plain = parsed(LINE).digest
    assert parsed(LINE | {"who": "X"}, PHOTO | {"do": "confirm"}).digest == plain
    other = LINE | {"box": [3, 2, 30, 40]}
    assert parsed(LINE, other).digest == parsed(other, LINE).digest
    changes: list[dict[str, Any]] = [{"action": "blur"}, {"do": "remove"}, {"box": [1, 2, 30, 41]}, {"size": "9"}]
    digests = {plain, parsed(PHOTO | {"do": "withhold"}).digest, *(parsed(LINE | change).digest for change in changes)}
    assert len(digests) == 6


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"do": "delete"}, "do: 'delete' is none of add, remove"),
        ({"size": "9"}, "size: a number"),
        ({"size": True}, "size: a number"),
        ({"modified": float("nan")}, "modified: a time"),
        ({"modified": None}, "modified: a time"),
        ({"frame": [64]}, "frame: the photo's width"),
        ({"frame": [64.0, 48.0]}, "frame: the photo's width"),
        ({"frame": [0, 48]}, "frame: no photo"),
        ({"box": [1, 2, 30]}, "box: four numbers"),
        ({"box": [1, 2, 30, float("inf")]}, "box: four numbers"),
        ({"box": [1, 2, -30, 40]}, "box: is smaller than a pixel"),
        ({"box": [1, 2, 30, 0]}, "box: is smaller than a pixel"),
        ({"box": [40, 2, 30, 40]}, "not within the frame of 64 x 48"),
        ({"box": [-9, 2, 30, 40]}, "not within the frame of 64 x 48"),
        ({"box": [64, 2, 30, 40], "do": "remove"}, "not within the frame of 64 x 48"),
        ({"box": [1, 2, 999, 40], "do": "remove"}, "not within the frame of 64 x 48"),
        ({"action": "paint"}, "action: 'paint' is none of fill"),
        ({"action": "withhold"}, "action: 'withhold' is none of fill"),
        ({"do": "action"}, "action: '' is none of fill"),
        ({"do": "remove", "action": "fill"}, "action: is not of remove"),
        ({"do": "withhold"}, "box: is not of withhold"),
        ({"who": "a\nb"}, "who: a text"),
        ({"who": "a" * 201}, "who: a text"),
        ({"when": "yesterday"}, "when: a time"),
        ({"why": "because"}, "unknown key 'why'"),
    ],
)
def test_a_line_that_cannot_be_meant_spoils_its_photo(change: dict[str, Any], problem: str) -> None:
    data = (json.dumps(LINE | change) + "\n" + json.dumps(LINE | {"uri": "/in/b.jpg"})).encode()
    photos = parse_corrections(data, "c.jsonl").photos
    assert photos["/in/a.jpg"].problem.startswith("line 1: ")
    assert problem in photos["/in/a.jpg"].problem
    assert photos["/in/a.jpg"].refused(9, 1.5) == photos["/in/a.jpg"].problem
    assert not photos["/in/b.jpg"].problem


def test_what_detectors_find_may_reach_over_the_border() -> None:
    assert not parsed(LINE | {"do": "remove", "box": [-5, -5, 40, 60]}).problem


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([LINE, LINE | {"who": "X"}], "two corrections are of the box 1, 2, 30, 40"),
        ([LINE, LINE | {"do": "remove"}], "two corrections are of the box"),
        ([LINE, LINE | {"size": 10, "box": [5, 5, 9, 9]}], "two states"),
        ([LINE, LINE | {"frame": [65, 48], "box": [5, 5, 9, 9]}], "two sizes"),
        ([PHOTO | {"do": "withhold"}, PHOTO | {"do": "release"}], "both withheld and released"),
        ([PHOTO | {"do": "withhold"}, PHOTO | {"do": "withhold", "who": "X"}], "twice"),
    ],
)
def test_a_contradiction_spoils_its_photo(lines: list[dict[str, Any]], problem: str) -> None:
    assert problem in parsed(*lines).problem
    assert problem in parsed(*lines[::-1]).problem


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"7",
        b'{"do": "withhold"}',
        b'{"uri": ""}',
        b'{"uri": "\\ud800"}',
        b'{"uri": "a", "uri": "b"}',
        b"\xff",
        b"[" * 9000,
        b'"' + b"a" * 20_000 + b'"',
    ],
)
def test_a_line_that_names_no_photo_spoils_the_file(line: bytes) -> None:
    with pytest.raises(CorrectionsError, match=r"^c\.jsonl:2: no ") as told:
        parse_corrections(json.dumps(LINE).encode() + b"\n" + line, "c.jsonl")
    assert "\n" not in str(told.value)


def test_a_photo_that_changed() -> None:
    assert not parsed(LINE).refused(9, 1.5)
    assert "has changed" in parsed(LINE).refused(10, 1.5)
    assert "has changed" in parsed(LINE).refused(9, 1.25)
    assert not PhotoCorrections().refused(9, 1.5)


def test_reading(tmp_path: Path) -> None:
    with pytest.raises(CorrectionsError, match="No such file"):
        read_corrections(str(tmp_path / "c.jsonl"))
    (tmp_path / "c.jsonl").write_text(json.dumps(LINE))
    assert list(read_corrections(str(tmp_path / "c.jsonl")).photos) == ["/in/a.jpg"]
