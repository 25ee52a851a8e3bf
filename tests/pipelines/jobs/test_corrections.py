"""mien redact --corrections: what a reviewer said is done, in the photos concerned and in no other."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mien.models.images import decode_image
from mien.pipelines.reports.review import FILE, Review
from mien.transforms.policy import Correction
from tests.pipelines.conftest import DATA, failures, mien, record
from tests.pipelines.jobs.test_redact import QUICK, rows
from tests.pipelines.reports.browser import Browser, needs_chromium
from tests.pipelines.reports.test_review import served

pytestmark = pytest.mark.slow


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """One photo with a face, two of noise without."""
    folder = tmp_path / "in"
    folder.mkdir()
    with Image.open(DATA / "allhands.jpg") as image:
        image.crop((110, 430, 410, 750)).save(folder / "face.jpg", quality=95)
    for seed, name in enumerate(("drawn.png", "other.png")):
        noise = np.random.default_rng(seed).integers(0, 255, (15, 20, 3), np.uint8)
        Image.fromarray(noise).resize((200, 150), Image.Resampling.NEAREST).save(folder / name)
    return folder


def correction(path: Path, do: Any, box: tuple[float, float, float, float] | None = None, **more: Any) -> Correction:
    found = path.stat()
    with Image.open(path) as image:
        frame = image.size if box else None
    return Correction(str(path), found.st_size, found.st_mtime, do, frame, box, **more)


def save(path: Path, *some: Correction) -> Path:
    path.write_text("".join(f"{one.line()}\n" for one in some))
    return path


def pixels(path: Path) -> np.ndarray:
    return decode_image(path.read_bytes()).astype(int)


def differ(one: Path, other: Path, box: tuple[float, ...]) -> float:
    """Grey levels, the mean over the box."""
    x, y, width, height = map(round, box)
    place = slice(max(0, y), y + height), slice(max(0, x), x + width)
    return float(np.abs(pixels(one)[place] - pixels(other)[place]).mean())


def test_only_the_photos_concerned_are_done_again(source: Path, tmp_path: Path) -> None:
    output, file = tmp_path / "out", tmp_path / "c.jsonl"
    words = ("redact", source, "--output", output, "--image-format", "png", *QUICK)
    assert mien(*words) == 0
    face = tuple(rows(output)["face.jpg"]["faces"][0]["box"])
    was = {path.name: path.stat().st_mtime_ns for path in output.glob("*.png")}
    drawn = (20.0, 30.0, 60.0, 50.0)
    look = correction(source / "other.png", "confirm", who="A. B.")
    removed = correction(source / "face.jpg", "remove", face, who="A. B.", when="2026-11-27T18:00:00+00:00")  # type: ignore[arg-type]
    add = correction(source / "drawn.png", "add", drawn)
    save(file, removed, add, look)
    assert differ(output / "face.jpg.png", source / "face.jpg", face) > 20
    assert differ(output / "drawn.png.png", source / "drawn.png", drawn) == 0

    assert mien(*words, "--corrections", file) == 0
    said = record(output)
    assert (said["counts"]["out"], said["counts"]["skipped"], said["counts"]["corrected"]) == (2, 1, 2)
    assert said["actions"] == {"keep": 1, "fill": 1}
    assert (output / "other.png.png").stat().st_mtime_ns == was["other.png.png"]
    # the face is left as it is, and the second look does not mind; the box is filled, and what is far from it is not
    assert differ(output / "face.jpg.png", source / "face.jpg", face) == 0
    assert differ(output / "drawn.png.png", source / "drawn.png", drawn) > 20
    assert differ(output / "drawn.png.png", source / "drawn.png", (150, 0, 50, 150)) == 0
    flat = pixels(output / "drawn.png.png")[30:80, 20:80]
    assert np.abs(np.diff(flat, axis=1)).max() < 10, "no edge of the noise is left in the box"

    # the audit record: who, when, which
    row = rows(output)["face.jpg"]
    assert row["corrections"] == [json.loads(removed.line())]
    assert [(one["action"], one["rule"]) for one in row["faces"]] == [("keep", "review: box taken away")]
    assert said["corrections"] == {
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "photos": 3,
        "of": {"remove": 1, "add": 1, "confirm": 1},
    }  # fmt: skip
    (copy,) = output.glob("corrections-*.jsonl")
    assert sorted(copy.read_text().splitlines()) == sorted(file.read_text().splitlines())
    assert said["sha256"]["corrections"] == hashlib.sha256(copy.read_bytes()).hexdigest()

    # again: nothing is left to do; without one of them: this photo alone
    assert mien(*words, "--corrections", file) == 0
    assert record(output)["counts"]["skipped"] == 3
    save(file, removed)
    assert mien(*words, "--corrections", file) == 0
    assert (record(output)["counts"]["out"], record(output)["counts"]["skipped"]) == (1, 2)
    assert differ(output / "drawn.png.png", source / "drawn.png", drawn) == 0

    # withheld: what was made of it goes
    save(file, removed, correction(source / "other.png", "withhold", who="A. B."))
    assert mien(*words, "--corrections", file) == 3
    assert (record(output)["counts"]["withheld"], record(output)["counts"]["withdrawn"]) == (1, 1)
    assert failures(output)["other.png"] | {"uri": ""} == {
        "uri": "", "stage": "review", "error": "ReviewedError", "message": "withheld by A. B. at review"
    }  # fmt: skip
    assert not (output / "other.png.png").exists()


def test_corrections_that_cannot_be_carried_out(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, file = tmp_path / "out", tmp_path / "c.jsonl"
    for name in ("changed", "small", "outside", "twice", "edited"):
        shutil.copy(source / "drawn.png", source / f"{name}.png")
    box = (20.0, 30.0, 60.0, 50.0)
    changed = dataclasses.replace(correction(source / "changed.png", "add", box), modified=1.5)
    small = dataclasses.replace(correction(source / "small.png", "add", box), frame=(201, 150))
    save(file, changed, small)
    for name, change in (("outside", {"box": [180, 30, 60, 50]}), ("twice", {}), ("edited", {"size": "12"})):
        line = json.loads(correction(source / f"{name}.png", "add", box).line()) | change
        with file.open("a") as stream:
            stream.write(f"{json.dumps(line)}\n")
            if name == "twice":
                stream.write(f"{json.dumps(line | {'who': 'A. B.'})}\n")
    with file.open("a") as stream:
        stream.write(correction(source / "other.png", "confirm").line().replace("other", "gone") + "\n")
    words = ("redact", source, "--output", output, "--corrections", file, *QUICK)
    assert mien(*words) == 3
    told = {name: (row["stage"], row["message"]) for name, row in failures(output).items()}
    assert told == {
        "changed.png": (
            "review",
            "withheld: the corrections are of another state of the photo: it has changed since it was reviewed",
        ),
        "small.png": ("correct", "withheld: the corrections are of a photo of 201 x 150, not 200 x 150"),
        "outside.png": ("review", "withheld: line 3: box: is not within the frame of 200 x 150"),
        "twice.png": ("review", "withheld: two corrections are of the box 20, 30, 60, 50"),
        "edited.png": ("review", "withheld: line 6: size: a number of bytes is wanted here"),
        "gone.png": ("list", "corrections are of this photo, which is not among the inputs"),
    }
    counts = record(output)["counts"]
    assert (counts["in"], counts["out"], counts["withheld"], counts["failed"]) == (9, 3, 5, 1)
    assert {path.name for path in output.glob("*.jpg")} == {"face.jpg.jpg", "drawn.png.jpg", "other.png.jpg"}

    for line, status in (("no JSON\n", 2), ("", 0)):  # whom it was to hide cannot be told: nothing is done
        file.write_text(line)
        capsys.readouterr()
        assert mien(*words) == status
        assert ("c.jsonl:1: no correction of a photo: Expecting" in capsys.readouterr().err) == bool(status)
    assert mien(*words[:4], "--corrections", tmp_path / "gone.jsonl") == 2
    assert "No such file" in capsys.readouterr().err


@needs_chromium
def test_a_review_is_saved_and_carried_out(source: Path, tmp_path: Path) -> None:
    (source / "other.png").unlink()
    output = tmp_path / "out"
    words = ("redact", source, "--output", output, "--image-format", "png", *QUICK)
    assert mien(*words) == 0
    face = rows(output)["face.jpg"]["faces"][0]["box"]
    with served(output) as server, Browser(server.url) as page:
        page.wait("document.getElementById('name').textContent.endsWith('drawn.png')")  # no face found: in doubt
        page.wait("document.getElementById('picture').naturalWidth === 200")
        left, top, scale = page.evaluate(
            "(() => { const r = document.getElementById('boxes').getBoundingClientRect();"
            " return [r.left, r.top, r.width / 200] })()"
        )
        for x, y in ((20, 30), (120, 90)):
            page.drag((left + x * scale, top + y * scale), (left + (x + 40) * scale, top + (y + 40) * scale))
        page.press("u")
        page.press("c")
        page.wait("document.getElementById('name').textContent.endsWith('face.jpg')")
        page.press("ArrowRight")
        page.press("x")
        page.press("y")
        page.wait("document.getElementById('told').textContent === 'saved'")
    found = [json.loads(line) for line in (output / FILE).read_text().splitlines()]
    assert [one["do"] for one in found] == ["add", "confirm", "remove"]
    drawn = found[0]["box"]
    assert np.allclose(drawn, [20, 30, 40, 40], atol=1.5)
    assert found[2]["box"] == face

    assert mien(*words, "--corrections", output / FILE) == 0
    assert differ(output / "drawn.png.png", source / "drawn.png", drawn) > 20
    assert differ(output / "drawn.png.png", source / "drawn.png", (120, 90, 40, 40)) == 0  # undone
    assert differ(output / "face.jpg.png", source / "face.jpg", face) == 0

    # another evening: it goes on where it stopped
    one = Review([str(output)], False, 10)
    photos = {Path(photo["uri"]).name: photo["faces"] for photo in one.shown}
    assert [face["rule"] for face in photos["drawn.png"]] == ["review: box added"]
    with served(output) as server, Browser(server.url) as page:
        page.wait("document.querySelectorAll('#list .mark').length === 2")
        assert page.evaluate("document.getElementById('progress').textContent") == "1 of 2 confirmed, 2 corrections"
        page.press("z")
        page.wait("document.getElementById('told').textContent === 'saved'")
    assert len((output / FILE).read_text().splitlines()) < 3
