"""mien report: read from the outputs of real runs, and its page used in a browser where there is one."""

import base64
import hashlib
import html as markup
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mien.models.images.container import extract
from mien.models.images.files import decode_image
from mien.pipelines.cli import main
from mien.pipelines.reports.report_page import safe_picture
from mien.pipelines.reports.report_runs import read_run
from tests.pipelines.likeness import likeness, places
from tests.pipelines.reports.browser import Browser, needs_chromium

HOSTILE = "<img src=x onerror=hacked()>&'\".jpg"


def report(*words: object) -> int:
    return main(["report", *map(str, words), "-q"])


@pytest.fixture(scope="module")
def safe(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One photo redacted, two that cannot be."""
    folder, output = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("safe")
    shutil.copy(photos / "a/x.jpg", folder / HOSTILE)
    (folder / "cut.jpg").write_bytes((photos / "a/x.jpg").read_bytes()[:3000])
    (folder / "text.jpg").write_text("<script>hacked()</script>")
    words = ["--detector", "mediapipe", "--workers", "1", "-q"]
    assert main(["redact", str(folder), "--output", str(output), *words]) == 3
    return output


@pytest.fixture(scope="module")
def html(safe: Path, compressed: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("report") / "report.html"
    assert report(safe, compressed("blobs"), compressed("parquet"), "--output", page) == 0
    return page


def pictures(page: str) -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"data:image/webp;base64,([^\"]+)", page)
    ]


@pytest.mark.slow
def test_a_run_is_read_from_its_output(safe: Path, compressed: Callable[[str], Path]) -> None:
    run = read_run(str(safe))
    assert {Path(uri).name: photo.state for uri, photo in run.photos.items()} == {
        HOSTILE: "done", "cut.jpg": "withheld", "text.jpg": "withheld",
    }  # fmt: skip
    assert [(one["stage"], one["error"], one["count"]) for one in run.failures] == [("decode", "ImageError", 2)]
    record = json.loads((safe / "run.json").read_text())
    assert run.actions == record["actions"]
    assert run.bytes[1] == record["bytes"]["out"] == record["spread"]["photo_bytes"]["sum"]
    assert record["milliseconds"]["decode"]["count"] == 3
    for kind in ("blobs", "parquet"):
        record = json.loads((compressed(kind) / "run.json").read_text())
        run = read_run(str(compressed(kind)))
        assert run.actions == record["actions"]
        assert sum(run.actions.values()) == record["counts"]["faces"] == record["spread"]["photo_faces"]["sum"]
        assert run.bytes[0] == record["bytes"]["in"]
        stages = {"read", "decode", "detect", "decide", "align", "code", "background", "write"}
        assert all(photo.milliseconds and set(photo.milliseconds) == stages for photo in run.photos.values())
        assert record["spread"]["face_bytes"]["max"] <= 320


def test_the_page_needs_nothing_and_escapes_everything(html: Path) -> None:
    page = html.read_text()
    assert "onerror=hacked()" in page
    assert "<img src=x" not in page
    assert "<script>hacked" not in page
    assert all(address.startswith("data:image/webp;") for address in re.findall(r'(?:src|href)="([^"]+)', page))
    assert "default-src 'none'" in markup.unescape(page)
    assert len(pictures(page)) == 5
    assert all(max(picture.size) <= 400 and not picture.getexif() for picture in pictures(page))


def test_pictures_show_no_face_that_was_found(compressed: Callable[[str], Path]) -> None:
    seen = 0
    for path in compressed("blobs").rglob("*.avif"):
        data = path.read_bytes()
        boxes = [face.box for face in extract(data).faces if face.action == "keep"]
        before = np.asarray(Image.fromarray(decode_image(data)).resize((400, 267), Image.Resampling.LANCZOS))
        painted, shown = (decode_image(safe_picture(data, some)) for some in (boxes, []))
        inside, far = places(boxes, before.shape, 400 / 600)
        assert likeness(before, painted, far) > 0.9
        for place in inside:
            if place.sum() < 200:  # too few pixels for a correlation
                continue
            assert likeness(before, shown, place) > 0.8, "small and coded as it is, the face would be seen"
            assert abs(likeness(before, painted, place)) < 0.3
            seen += 1
    assert seen >= 4


def test_a_file_that_is_not_the_one_written_is_not_shown(safe: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(safe, tmp_path / "safe")
    (output,) = (tmp_path / "safe").glob("*.jpg.jpg")
    shutil.copy(photos / "a/x.jpg", output)
    assert report(tmp_path / "safe", "--output", tmp_path / "page.html") == 0
    assert not pictures((tmp_path / "page.html").read_text())


def test_an_older_output_is_shown_as_far_as_it_goes(compressed: Callable[[str], Path], tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(compressed("blobs"), old)
    (index,) = old.glob("index-*.jsonl")
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    for row in rows:
        for name in ("bytes", "actions", "milliseconds"):
            del row[name]
    index.write_text("no row\n" + "".join(f"{json.dumps(row)}\n" for row in rows))
    for path in (old / "run.json", *old.glob("run-*.json")):
        record = json.loads(path.read_text())
        del record["spread"]
        for of in record["milliseconds"].values():
            del of["count"], of["min"]
        path.write_text(json.dumps(record))
    assert report(old, "--output", tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text()
    assert page.count('data-state="done"') == 2
    assert "<b>\N{EN DASH}</b>faces" in page
    assert len(pictures(page)) == 2


def test_what_cannot_be_reported(safe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(tmp_path, "--output", tmp_path / "page.html") == 2
    assert "no run.json" in capsys.readouterr().err
    (tmp_path / "mine.html").write_text("mine")
    assert report(safe, "--output", tmp_path / "mine.html") == 2
    assert (tmp_path / "mine.html").read_text() == "mine"
    (tmp_path / "run.json").write_text("{}")
    assert report(tmp_path, "--output", tmp_path / "page.html") == 2
    assert report(safe, "--output", tmp_path / "page.html") == report(safe, "--output", tmp_path / "page.html") == 0


def test_records_that_somebody_else_has_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    Image.new("RGB", (64, 48), (9, 99, 9)).save(tmp_path / "victim.jpg")
    victim = (tmp_path / "victim.jpg").read_bytes()
    record: dict[str, Any] = {name: {} for name in ("settings", "versions", "counts", "milliseconds")}
    record |= {"run": "1", "command": "redact", "started": "now", "seconds": 1, "engine": {"workers": 1}}
    row = {"uri": "/in/x.jpg", "size": 9, "modified": 1.5, "fingerprint": "", "faces": []}
    row["sha256"] = hashlib.sha256(victim).hexdigest()
    (folder / "x.jpg.jpg").write_bytes(victim)
    for name, shown in (("x.jpg.jpg", 1), ("../victim.jpg", 0), (str(tmp_path / "victim.jpg"), 0), (7, 0)):
        (folder / "run.json").write_text(json.dumps(record))
        (folder / "run-0.json").write_text("[" * 100_000)
        (folder / "index-1.jsonl").write_text(json.dumps(row | {"output": name}) + "\n{}\n" + "[" * 100_000)
        (folder / "failures-1.jsonl").write_text('{"uri": 7}\n{"uri": "u", "stage": 7}\n')
        assert report(folder, "--output", tmp_path / "page.html") == 0
        assert len(pictures((tmp_path / "page.html").read_text())) == shown
    for values in ({"counts": []}, {"seconds": "1"}, {"milliseconds": {"read": 7}}, {"run": 7}, {"engine": 1}):
        (folder / "run.json").write_text(json.dumps(record | values))
        assert report(folder, "--output", tmp_path / "page.html") == 2
        assert "no record of a run" in capsys.readouterr().err


@needs_chromium
@pytest.mark.slow
def test_the_page_is_filtered_sorted_and_looked_at(html: Path) -> None:
    shown = "[...document.querySelectorAll('#photos tbody tr')].filter(row => !row.hidden)"
    with Browser(html.as_uri()) as page:
        assert page.evaluate("getComputedStyle(document.body).maxWidth") == "1216px"  # the style is let in
        assert page.evaluate("typeof hacked") == "undefined"
        assert page.evaluate("document.querySelectorAll('img:not([src^=\"data:\"]), script[src], link').length") == 0
        assert page.evaluate(f"{shown}.length") == 7
        # an inline handler and a request to elsewhere are refused by the policy
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = 1\">')")

        page.evaluate("document.getElementById('words').focus()")
        page.type("cut withheld")
        assert page.evaluate(f"{shown}.map(row => row.cells[1].textContent.split('/').pop())") == ["cut.jpg"]
        assert page.evaluate("document.getElementById('shown').textContent") == "1 of 7 photos"
        page.evaluate("document.getElementById('filter').reset()")
        page.evaluate("document.getElementById('state').value = 'done'")
        page.evaluate("document.getElementById('state').dispatchEvent(new Event('input', {bubbles: true}))")
        assert page.evaluate(f"{shown}.length") == 5

        heads = "document.querySelectorAll('#photos th[aria-sort]')"
        bytes_after = f"{shown}.map(row => Number(row.cells[5].dataset.value))"
        page.evaluate(f"{heads}[4].querySelector('button').focus()")
        page.press("Enter")
        sizes = page.evaluate(bytes_after)
        assert sizes == sorted(sizes, reverse=True)
        assert page.evaluate(f"{heads}[4].getAttribute('aria-sort')") == "descending"
        page.press("Enter")
        assert page.evaluate(bytes_after) == sorted(sizes)
        page.evaluate(f"{heads}[0].querySelector('button').click()")
        names = page.evaluate(f"{shown}.map(row => row.cells[1].textContent)")
        assert names == page.evaluate(
            f"{shown}.map(row => row.cells[1].textContent).sort((a, b) => a.localeCompare(b))"
        )

        page.evaluate(f"{shown}[0].querySelector('button').focus()")
        page.press("Enter")
        box = "document.getElementById('lightbox')"
        assert page.evaluate(f"{box}.open")
        page.wait(f"{box}.querySelector('img').naturalWidth === 400")
        assert page.evaluate(f"{box}.querySelector('dd').textContent") == names[0]
        page.press("ArrowRight")
        assert page.evaluate(f"{box}.querySelector('dd').textContent") == names[1]
        page.press("ArrowLeft")
        assert page.evaluate(f"{box}.querySelector('dd').textContent") == names[0]
        page.press("Escape")
        assert not page.evaluate(f"{box}.open")
        assert page.evaluate(f"document.activeElement === {shown}[0].querySelector('button')")
        assert page.evaluate("typeof window.hacked") == "undefined"
