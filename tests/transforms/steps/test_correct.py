"""Corrections carried out on the decisions of a photo."""

import json
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from mien.models.errors import CorrectionsError, ReviewedError
from mien.models.faces import Face
from mien.transforms.elements import Decision, ListedFile, PhotoInWork
from mien.transforms.policy import parse_corrections
from mien.transforms.sources import CheckCorrections, GiveCorrections, check_corrections
from mien.transforms.steps import ADDED, CHANGED, REMOVED
from mien.transforms.steps.correct import correct_photo
from mien.transforms.steps.decide import measure_faces

FACES = (Face((10.0, 10.0, 20.0, 20.0), 0.9), Face((40.0, 10.0, 20.0, 20.0), 0.7), Face((38.0, 30.0, 9.0, 9.0), 0.4))


def line(do: str, box: tuple[float, ...] = (), **more: Any) -> dict[str, Any]:
    of_a_face = {"box": box, "frame": (80, 60)} if box else {}
    return {"uri": "/in/a.jpg", "size": 9, "modified": 1.5, "do": do, **of_a_face, **more}


def listed(*lines: dict[str, Any], uri: str = "/in/a.jpg", size: int = 9) -> ListedFile:
    text = parse_corrections("\n".join(map(json.dumps, lines)).encode(), "c").photos[uri].text if lines else ""
    return ListedFile(uri, "a.jpg", size, 1.5, corrections=text)


def corrected(*lines: dict[str, Any], generates: bool = False) -> PhotoInWork:
    pixels = np.zeros((60, 80, 3), np.uint8)
    decisions = (Decision("fill", "otherwise"),) * 3
    measured, embeddings = measure_faces(FACES, pixels), (None,) * 3
    origin = listed(*lines)
    photo = PhotoInWork(
        "/in/a.jpg", "a.jpg", origin, 9, pixels, FACES, decisions, measured=measured, embeddings=embeddings
    )
    return correct_photo(photo, generates)


def done(photo: PhotoInWork) -> list[tuple[str, str]]:
    assert len(photo.faces) == len(photo.decisions) == len(photo.measured) == len(photo.embeddings)
    return [(decision.action, decision.rule) for decision in photo.decisions]


PLAIN = [("fill", "otherwise")] * 3


def test_no_corrections() -> None:
    assert done(corrected()) == PLAIN
    assert done(corrected(line("confirm"))) == PLAIN


def test_a_box_that_was_missed() -> None:
    photo = corrected(line("add", (60, 40, 15, 15)), line("add", (5, 40, 15, 15), action="blur"))
    assert done(photo) == [*PLAIN, ("fill", ADDED), ("blur", ADDED)]
    assert photo.faces[3].box == (60.0, 40.0, 15.0, 15.0)
    assert photo.measured[3]["area"] == pytest.approx(15 * 15 / 4800)


def test_a_box_that_was_drawn_over_a_found_face_is_that_face() -> None:
    assert done(corrected(line("add", (11, 10, 20, 20), action="pixelate"))) == [("pixelate", ADDED), *PLAIN[1:]]


def test_a_box_taken_away_is_of_that_face_alone() -> None:
    assert done(corrected(line("remove", (40, 10, 20, 20)))) == [PLAIN[0], ("keep", REMOVED), PLAIN[2]]
    # none of the found faces: it is kept for the second look, which may see there what this one did not
    assert done(corrected(line("remove", (52, 22, 20, 20)))) == [*PLAIN, ("keep", REMOVED)]


def test_an_action_that_was_changed() -> None:
    assert done(corrected(line("action", (38, 30, 9, 9), action="preserve")))[2] == ("keep", CHANGED)
    assert done(corrected(line("action", (10, 10, 20, 20), action="realistic"), generates=True))[0][0] == "realistic"
    with pytest.raises(CorrectionsError, match="makes no new faces"):
        corrected(line("action", (10, 10, 20, 20), action="realistic"))


def test_a_photo_of_another_size() -> None:
    with pytest.raises(CorrectionsError, match="of 80 x 61, not 80 x 60"):
        corrected(line("add", (60, 40, 15, 15)) | {"frame": (80, 61)})


def test_what_is_not_passed_on() -> None:
    assert check_corrections(listed()) == listed()
    with pytest.raises(CorrectionsError, match="has changed"):
        check_corrections(listed(line("confirm"), size=10))
    with pytest.raises(CorrectionsError, match="line 1: unknown key"):
        check_corrections(listed(line("confirm", why="x")))
    withheld = line("withhold", who="A. B.", when="2026-11-27T18:19:03Z")
    with pytest.raises(ReviewedError, match=r"withheld by A\. B\. at review, 2026-11-27T18:19:03Z"):
        check_corrections(listed(withheld))
    with pytest.raises(ReviewedError):
        corrected(withheld)


def test_corrections_find_their_photos() -> None:
    lines = [line("withhold"), line("confirm") | {"uri": "/in/gone.jpg"}, line("confirm") | {"uri": "/in/c.jpg"}]
    corrections = parse_corrections("\n".join(map(json.dumps, lines)).encode(), "c")
    files = [ListedFile(f"/in/{name}.jpg", f"{name}.jpg", 9, 1.5) for name in "abc"]
    with TestPipeline() as pipeline:
        given = pipeline | beam.Create(files, reshuffle=False) | GiveCorrections(corrections)
        checked = given | CheckCorrections()
        passed = checked.photos | beam.Map(lambda file: (file.uri, bool(file.corrections)))
        told = checked.failures | beam.Map(lambda failure: (failure.uri, failure.stage, failure.error))
        assert_that(passed, equal_to([("/in/b.jpg", False), ("/in/c.jpg", True)]), label="passed")
        wanted = [("/in/a.jpg", "review", "ReviewedError"), ("/in/gone.jpg", "list", "CorrectionsError")]
        assert_that(told, equal_to(wanted), label="told")
