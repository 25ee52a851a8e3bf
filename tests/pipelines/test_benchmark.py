"""The benchmark measures real processes."""

import sys
from pathlib import Path

import pytest

from mien.pipelines import benchmark
from mien.pipelines.measured_process import measured

_CHILD = "import time; held = bytearray(150_000_000); time.sleep(0.5)"
_PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {_CHILD!r}])
held = bytearray(150_000_000)
open(sys.argv[1] + "/one.txt", "w").close()
sum(range(5_000_000))
child.wait()
sys.exit("so it ends")
"""


def test_a_process_and_its_children_are_measured(tmp_path: Path) -> None:
    found = measured([sys.executable, "-c", _PARENT, str(tmp_path)], tmp_path, lambda path: path.suffix == ".txt")
    assert (found.status, found.said) == (1, "so it ends")
    assert found.first is not None
    assert 0 < found.first < found.seconds
    assert 0.05 < found.cpu < 10 * found.seconds
    assert found.peak is not None
    assert 300_000_000 < found.peak < 500_000_000


@pytest.mark.slow
def test_rows_are_what_the_jobs_did(photos: Path) -> None:
    folder = photos / "a"
    truth = {"x": {"width": 300, "faces": [[0, 0, 5, 5]], "unclear": []}}  # where no face is
    row = benchmark.mien_row("redact", 1, [folder / "x.jpg"], folder, truth)
    assert (row["photos"], row["withheld"], row["workers"]) == (1, 0, 1)
    assert row["faces"] > 0
    assert row["recall"] == {"faces": 1, "found": 0, "withheld": 0, "false": row["faces"]}
    assert set(row["stages_ms"]) == {"read", "decode", "detect", "decide", "correct", "redact", "write"}
    assert row["photos_s"] == round(1 / row["seconds"], 3) or abs(row["photos_s"] * row["seconds"] - 1) < 0.05
    plain = benchmark.avif_row([folder / "x.jpg"])
    assert (plain["photos"], plain["faces"]) == (1, 0)
    assert 1000 < plain["bytes_out"] < (folder / "x.jpg").stat().st_size
    lines = benchmark.table([row, plain]).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["what", "mien", "plain"]
    assert "0 of 1" in lines[1]
    assert any(line.startswith("detect") for line in lines)


def test_withheld_faces_are_seen_by_nobody(photos: Path) -> None:
    truth = {"x": {"width": 600, "faces": [[10, 10, 50, 50], [200, 100, 40, 40]], "unclear": []}}
    path = str(photos / "a/x.jpg")
    assert benchmark.recall(truth, {path: None}) == {"faces": 2, "found": 0, "withheld": 2, "false": 0}
    boxes = [[12.0, 10.0, 50.0, 50.0], [400.0, 300.0, 20.0, 20.0]]
    assert benchmark.recall(truth, {path: boxes}) == {"faces": 2, "found": 1, "withheld": 0, "false": 1}
    assert benchmark.recall(truth, {"other.jpg": boxes})["faces"] == 0


@pytest.mark.slow
def test_deface_beside_it(photos: Path) -> None:
    program = benchmark._deface()
    if program is None:
        pytest.skip("deface is not installed")
    row = benchmark.deface_row(program, [photos / "a/x.jpg"], None)
    assert row["photos"] == 1


def test_a_folder_without_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        benchmark.main([str(tmp_path)])
    assert "no file to work on" in capsys.readouterr().err
