"""mien evaluate --photos: what is measured is what was written, beside what other codecs write."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from mien.pipelines.cli import main


@pytest.mark.slow
def test_photos_within_budgets(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with Image.open(photos / "a" / "x.jpg") as image:
        image.crop((60, 70, 300, 350)).save(tmp_path / "in" / "one.jpg", quality=95)
    (tmp_path / "in" / "broken.jpg").write_bytes(b"nonsense")
    out = tmp_path / "out"
    words = ("--bytes", "60,900", "--codecs", "webp,avif", "--effort", "fast", "-q")
    assert main(["evaluate", "--photos", str(tmp_path / "in"), "--output", str(out), *words]) == 3
    report = json.loads((out / "evaluate.json").read_text())
    assert report["photos"] == 1
    rows = {(row["codec"], row["ceiling"]): row for row in report["rows"]}
    assert set(rows) == {("mien", 900), ("AVIF", 900), ("WebP", 900)}  # none of them fits 60 bytes
    assert all(0.8 * 900 < row["bytes"] <= 900 and row["faces"] >= 1 for row in rows.values())
    assert all(0 < row["whole"] < 2 and 0 < row["face"] < 2 and -1 < row["cosine"] < 1 for row in rows.values())
    assert rows["mien", 900]["whole"] <= 1.05 * rows["AVIF", 900]["whole"]
    with (out / "evaluate.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert [line["photos"] for line in lines] == ["0", "0", "0", "1", "1", "1"]
    page = (out / "evaluate.html").read_text()
    assert page.count("data:image/png") == 4
    assert page.count("data:image/jpeg") == 1
    assert "://" not in page.replace("http://www.w3.org", "")
    (failure,) = (out / "failures-evaluate.jsonl").read_text().splitlines()
    assert json.loads(failure)["uri"].endswith("broken.jpg")


def test_one_kind_of_measuring_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--photos", "--magnify", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "--magnify and --photos exclude each other" in capsys.readouterr().err
