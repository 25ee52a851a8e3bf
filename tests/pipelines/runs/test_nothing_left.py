"""A run that finds everything done: it starts nothing, and says what a run through Beam would say."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mien.pipelines.runs.nothing_left import all_done
from mien.pipelines.runs.resume import Wanted
from mien.transforms.sources.listing import PHOTO_SUFFIXES, list_files
from tests.pipelines.conftest import mien, record

QUICK = ("--policy", "redact", "--detector", "mediapipe")
CODE = """import sys
from mien.pipelines.cli import main
status = main()
assert "torch" not in sys.modules, "torch was loaded"
sys.exit(status)"""


@pytest.mark.slow
def test_it_loads_no_model_and_starts_no_worker(small: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(small, source / name)
    (source / "notes.txt").write_text("no photo")
    words = ("redact", source, "--output", output, *QUICK)
    assert mien(*words) == 0

    again = subprocess.run([sys.executable, "-c", CODE, *map(str, words)], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "0 of 0 photos, 2 done before" in again.stderr
    assert "passed over: 1 .txt" in again.stderr
    told = record(output)
    assert (told["counts"]["skipped"], told["counts"]["in"], told["counts"]["out"]) == (2, 0, 0)
    assert told["previous"]

    wanted = Wanted(told["fingerprint"])
    done = lambda: all_done(  # noqa: E731
        list_files(str(source), str(source), PHOTO_SUFFIXES), str(output), wanted, False, lambda uri: True
    )
    assert done() == {"photos_skipped": 2}
    (source / "b.jpg").rename(tmp_path / "b.jpg")
    assert done() is None  # an output without an original is told by the whole run
    (tmp_path / "b.jpg").rename(source / "b.jpg")
    safe = next(output.glob("a.jpg*"))
    safe.write_bytes(safe.read_bytes()[:-1])
    assert done() is None
    assert mien(*words) == 0
    assert (record(output)["counts"]["skipped"], record(output)["counts"]["out"]) == (1, 1)
    (source / "c.jpg").write_bytes(b"new")
    assert done() is None


def test_an_output_without_an_index_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "failures-20260101T000000.000000-abcd.jsonl").write_text(json.dumps({"uri": "x"}))
    assert all_done(iter(()), str(tmp_path), Wanted("0"), False, lambda uri: True) is None
