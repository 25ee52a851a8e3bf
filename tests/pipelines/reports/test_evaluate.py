import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mien.models.evaluation import peers
from mien.pipelines.cli import main
from mien.pipelines.reports import evaluate_report

SAMPLES = Path(__file__).parents[2] / "data" / "samples"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what this machine may have beside mien."""
    for name in ("MIEN_LPIPS_BACKBONE", "MIEN_LPIPS_HEADS", "MIEN_DLIB"):
        monkeypatch.delenv(name, raising=False)
    for name in ("packaged_heads", "packaged_models"):
        monkeypatch.setattr(f"mien.pipelines.reports.face_set.{name}", lambda: None)


def run(*words: object) -> int:
    return main(["evaluate", *map(str, words)])


@pytest.mark.slow
def test_two_sets_with_what_cannot_be_read(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without = {name: peer for name, peer in peers.installed().items() if name != "JPEG XL"}
    monkeypatch.setattr(peers, "installed", lambda: without)
    shutil.copytree(SAMPLES, tmp_path / "aligned")
    (tmp_path / "aligned" / "notes.txt").write_text("not a picture, and not taken for one")
    (tmp_path / "candid").mkdir()
    shutil.copy(photos / "a" / "x.jpg", tmp_path / "candid")  # several people: the largest face is aligned
    (tmp_path / "candid" / "broken.jpg").write_bytes(b"nonsense")
    Image.new("RGB", (40, 30)).save(tmp_path / "candid" / "empty.png")
    out = tmp_path / "out"
    words = (tmp_path / "aligned", tmp_path / "candid", "--output", out, "--bytes", "600,64")
    words = (*words, "--codecs", "webp,avif,jpegxl")
    assert run(*words) == 3

    report = json.loads((out / "evaluate.json").read_text())
    assert (report["settings"]["bytes"], report["settings"]["codecs"]) == ([64, 600], ["WebP", "AVIF"])
    assert report["peak_memory"]["fast"] > 100e6
    assert any("LPIPS" in note for note in report["notes"])
    assert "No JPEG XL" in [note.partition(":")[0] for note in report["notes"]]
    aligned, candid = report["sets"]
    assert [(found["name"], found["faces"]) for found in (aligned, candid)] == [("aligned", 2), ("candid", 1)]
    failed = sorted(Path(failure["uri"]).name for failure in candid["failures"])
    assert failed == ["broken.jpg", "empty.png"]
    listed = (out / "failures-evaluate.jsonl").read_text().splitlines()
    assert sorted(Path(json.loads(line)["uri"]).name for line in listed) == failed
    assert capsys.readouterr().err.count("mien: ") == 2

    lines = {(line["codec"], line["ceiling"]): line for line in aligned["lines"]}
    for (codec, ceiling), line in lines.items():
        rows = [row for row in aligned["rows"] if (row["codec"], row["ceiling"]) == (codec, ceiling)]
        assert (line["faces"], line["lpips"], line["dlib"]) == (len(rows), None, None)
        if rows:
            assert line["bytes_max"] == max(row["bytes"] for row in rows) <= ceiling
    assert (lines["AVIF", 64]["faces"], lines["AVIF", 64]["psnr"]) == (0, None)
    assert lines["AVIF", 64]["smallest"] > 64
    assert lines["WebP", 600]["psnr"] > 20
    assert lines["mien", 64]["fell_back"] is not None
    assert {need["codec"] for need in aligned["needs"]} == {"WebP", "AVIF"}

    with (out / "evaluate.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == sum(len(found["lines"]) for found in report["sets"])
    assert float(table[0]["bytes_mean"]) == aligned["lines"][0]["bytes_mean"]
    page = (out / "evaluate.html").read_text()
    assert "No JPEG XL" in page
    assert page.count("<h2>") == 5  # the sets, plots, pictures, definitions
    assert 'src="http' not in page
    for name in (
        "plots/id.png",
        "plots/psnr.png",
        "pictures/aligned-fast-01.jpg",
        "pictures/aligned-fast-worst-score.jpg",
    ):
        with Image.open(out / name) as image:
            assert min(image.size) > 100
    assert page.count("data:image/") == len([*out.glob("plots/*"), *out.glob("pictures/*")])

    assert run(*words) == 2  # hours of work are not replaced by chance
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--bytes", "23"), "not between"),
        (("--bytes", "64,many"), "not a list of numbers"),
        (("--bytes", ""), "not a list of numbers"),
        (("--effort", "fast,slow"), "unknown effort 'slow'"),
        (("--objective", "pretty"), "pretty"),
        (("--codecs", "webp,gif"), "unknown codec 'gif'"),
        (("--lpips-backbone", "gone.bin"), "LPIPS needs both"),
        (("--lpips-backbone", "gone.bin", "--lpips-heads", "gone.pth"), "gone.bin does not hold"),
        (("--dlib", "gone"), "dlib"),
        (("--weights", "gone"), "gone"),
        (("--magnify", "--strength", "2"), "--strength"),
    ],
)
def test_a_bad_command_line(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(SAMPLES, "--output", tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err


def test_folders_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "gone", SAMPLES / "1.jpg"):
        assert run(folder, "--output", tmp_path / "out") == 2
        assert folder.name in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_a_sheets_text_is_cut_where_the_next_picture_begins() -> None:
    grid = evaluate_report._grid([[(Image.new("RGB", (512, 512), "red"), "M" * 200), (None, "")]])
    assert grid.size == (2 * evaluate_report.THUMB + evaluate_report.GAP, grid.height)
    beside = grid.crop((evaluate_report.THUMB + 1, 0, *grid.size))
    assert beside.getcolors() == [(beside.width * beside.height, (255, 255, 255))]
