"""mien magnify and mien evaluate --magnify: real photos, real files read back."""

import csv
import html
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.models import FaceCodec
from mien.models.images.metadata import has_mark
from mien.models.magnify.consistency import shrink
from mien.pipelines.cli import main
from tests.pipelines.conftest import DATA, failures, mien, record

SAMPLES = DATA.parent / "samples"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of 150 x 160 with one face, and a wall."""
    folder = tmp_path_factory.mktemp("source")
    with Image.open(DATA / "allhands.jpg") as image:
        image.crop((110, 430, 410, 750)).resize((150, 160), Image.Resampling.BOX).save(folder / "x.png")
    Image.new("RGB", (64, 48), (9, 99, 9)).save(folder / "wall.png")
    return folder


@pytest.mark.slow
def test_a_photo(source: Path, tmp_path: Path) -> None:
    words = ("magnify", source, "--output", tmp_path, "--factor", 3, "--payload", "--detector", "mediapipe")
    assert mien(*words) == 3
    assert set(failures(tmp_path)) == {"wall.png"}
    assert failures(tmp_path)["wall.png"]["error"] == "NoFaceError"
    counts = record(tmp_path)["counts"]
    assert (counts["out"], counts["magnified"]) == (1, 1)

    picture = tmp_path / "x.png.png"
    assert has_mark(picture.read_bytes())
    made, before = np.asarray(Image.open(picture)), np.asarray(Image.open(source / "x.png"))
    assert made.shape == (480, 450, 3)
    lanczos = np.asarray(Image.fromarray(before).resize((450, 480), Image.Resampling.LANCZOS))
    changed = np.abs(made.astype(int) - lanczos).max(2) > 0
    assert 0.02 < changed.mean() < 0.9
    small = made.reshape(160, 3, 150, 3, 3).mean((1, 3))
    assert np.abs(small - before).mean() < 4  # nothing but detail is new

    (row,) = map(json.loads, (tmp_path / "x.png.jsonl").read_text().splitlines())
    assert row["picture"] == "x.png.png"
    assert (row["magnified"], row["flagged"], row["rms"] < row["limit"]) == (True, False, True)
    assert "similarity" in row
    assert "identity_preserved" in row
    payload = tmp_path / row["payload"]
    assert main(["face", "decode", str(payload), "--output", str(tmp_path / "faces"), "-q"]) == 0
    decoded = np.asarray(Image.open(tmp_path / "faces/x.png.png"))
    assert np.array_equal(decoded, FaceCodec.load().decode(payload.read_bytes()))

    # again: the photo is done, the wall is tried again
    stamp = picture.stat().st_mtime_ns
    assert mien(*words) == 3
    assert record(tmp_path)["counts"]["skipped"] == 1
    assert picture.stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_aligned_faces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    face = Image.open(SAMPLES / "1.jpg").convert("RGB")
    face.resize((8, 8), Image.Resampling.BOX).save(source / "tiny.png")
    face.resize((40, 30)).save(source / "wide.png")
    words = ["magnify", source, "--output", output, "--aligned", "--size", 128, "--samples", 2, "--strength", 0.9]
    assert main([str(word) for word in (*words, "--workers", 1)]) == 3
    said = capsys.readouterr().err
    assert "identity not preserved in 2 of 2" in said
    assert "2 of 2 magnified faces are flagged" in said  # strength takes away some of the consistency
    assert failures(output)["wide.png"]["error"] == "FaceShapeError"
    for name in ("tiny.png.png", "tiny.png-2.png"):
        picture = np.asarray(Image.open(output / name))
        assert picture.shape == (128, 128, 3)
        assert has_mark((output / name).read_bytes())
        assert np.abs(shrink(picture, 8) - np.asarray(Image.open(source / "tiny.png"))).mean() < 25


@pytest.mark.parametrize("words", [("--factor", "65"), ("--strength", "2"), ("--samples", "0"), ("--size", "100")])
def test_a_bad_command_line(words: tuple[str, str], tmp_path: Path) -> None:
    assert main(["magnify", str(SAMPLES), "--output", str(tmp_path), *words]) == 2


def test_strength_is_for_magnifying(tmp_path: Path) -> None:
    assert main(["evaluate", str(SAMPLES), "--strength", "0.5", "--output", str(tmp_path)]) == 2


@pytest.mark.slow
def test_evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MIEN_LPIPS_BACKBONE", "MIEN_LPIPS_HEADS", "MIEN_DLIB"):
        monkeypatch.delenv(name, raising=False)
    for name in ("packaged_heads", "packaged_models"):
        monkeypatch.setattr(f"mien.pipelines.reports.face_set.{name}", lambda: None)
    assert main(["evaluate", str(SAMPLES), "--magnify", "--output", str(tmp_path), "-q"]) == 0
    report = json.loads((tmp_path / "evaluate.json").read_text())
    (found,) = report["sets"]
    lines = {(line["factor"], line["method"]): line for line in found["lines"]}
    assert set(lines) == {(factor, method) for factor in (16, 64) for method in ("mien", "bicubic", "Lanczos")}
    assert all(line["faces"] == 2 and line["lpips"] is None for line in lines.values())
    assert all(lines[factor, "mien"]["rms_max"] < lines[factor, "mien"]["limit"] for factor in (16, 64))
    assert lines[16, "mien"]["id"] > 0.5 > lines[64, "bicubic"]["id"]
    assert {line["by"] for line in found["drift"]} == {"tone", "age"}
    with (tmp_path / "evaluate.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 6
    page = (tmp_path / "evaluate.html").read_text()
    assert "GLEAN" in page
    assert "default-src 'none'" in html.unescape(page)
    assert page.count("data:image/jpeg;") == page.count("<img ") == len(found["pictures"]) > 0
    for name in found["pictures"]:
        assert Image.open(tmp_path / "pictures" / name).width == 516
