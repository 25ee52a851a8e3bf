"""A run that is killed in the middle, with all its processes, and the run after it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from mien.models.images.container import extract
from mien.pipelines.runs.lock import NAME as LOCK
from mien.transforms.stores.local import PART
from tests.pipelines.conftest import mien, record

pytestmark = pytest.mark.slow

QUICK = ("--policy", "redact", "--detector", "mediapipe")
PHOTOS = 8


@pytest.fixture
def source(small: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(PHOTOS):
        shutil.copy(small, folder / f"{i}.jpg")
    return folder


def add_slow_photo(folder: Path) -> Path:
    """One that takes many times as long as the others, so that the run is not over when the first of them is done."""
    path = folder / "slow.jpg"
    with Image.open(folder / f"{PHOTOS - 1}.jpg") as image:
        image.resize((7500, 5000)).save(path)
    return path


def kill_when(ready: Callable[[], bool], *words: object) -> None:
    """Starts a job in two processes, and kills it with all of them as soon as ready() holds."""
    command = [sys.executable, "-m", "mien.pipelines", *map(str, words), "--workers", "2", "-q"]
    job = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)
    until = time.monotonic() + 300
    try:
        while not ready():
            assert job.poll() is None, "the job had ended before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.wait()


def test_blobs(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = ("compress", source, "--output", output, "--format", "blobs", *QUICK)
    slow = add_slow_photo(source)
    kill_when(lambda: bool(list(output.glob(".mien-2*/index-*"))), *words)
    slow.unlink()
    killed = {path.name: path.stat().st_mtime_ns for path in output.glob("*.avif")}
    assert 0 < len(killed) <= PHOTOS, "one at least was still in work"
    assert (output / LOCK).exists()
    (output / f"{PART}0123").write_bytes(b"half a file")
    assert mien(*words) == 0
    counts = record(output)["counts"]
    assert counts["skipped"] > 0
    assert counts["out"] + counts["skipped"] == PHOTOS
    again = [name for name, time_ns in killed.items() if (output / name).stat().st_mtime_ns != time_ns]
    assert len(again) <= len(killed) - counts["skipped"]
    names = {path.name for path in output.rglob("*.avif")} - {"slow.jpg.avif"}
    assert names == {f"{i}.jpg.avif" for i in range(PHOTOS)}
    for path in output.glob("*.avif"):
        extract(path.read_bytes())
        with Image.open(path) as image:
            image.load()
    assert not list(output.rglob(".mien*"))
    assert mien(*words) == 0
    assert record(output)["counts"]["skipped"] == PHOTOS


def test_tables(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = ("compress", source, "--output", output, *QUICK)
    for name in ("0", "1"):  # a run before, so that there is something to lose
        shutil.move(source / f"{name}.jpg", tmp_path)
    assert mien(*words) == 0
    for name in ("0", "1"):
        shutil.move(tmp_path / f"{name}.jpg", source)
    anew = (*words, "--quality", 30)
    slow = add_slow_photo(source)
    kill_when(lambda: bool(list(output.glob(".mien-2*/photos-*"))), *anew)
    slow.unlink()
    assert restored(output, tmp_path / "between") == {f"{i}.jpg" for i in range(2, PHOTOS)}

    assert mien(*anew) == 0
    uris = [uri for path in output.glob("photos-*") for uri in pq.read_table(path)["uri"].to_pylist()]
    assert sorted(Path(uri).name for uri in uris) == sorted(f"{i}.jpg" for i in range(PHOTOS))
    assert record(output)["counts"]["out"] == PHOTOS
    assert not list(output.rglob(".mien*"))
    assert restored(output, tmp_path / "after") == {f"{i}.jpg" for i in range(PHOTOS)}


def restored(coded: Path, output: Path) -> set[str]:
    assert mien("restore", coded, "--output", output, "--image-format", "jpeg") == 0
    return {path.stem for path in output.glob("*.jpg")}


@pytest.mark.parametrize(
    ("index", "kind"), [(False, "parquet"), (True, "webdataset")], ids=["before its index", "after its index"]
)
def test_a_run_that_ended_as_its_tables_were_committed(photos: Path, tmp_path: Path, index: bool, kind: str) -> None:
    output = tmp_path / "out"
    words = ("compress", photos, "--output", output, "--format", kind, *QUICK)
    assert mien(*words) == 0
    (first,) = output.glob("photos-*")
    before = (output / "_manifest.json").read_bytes()
    shutil.copy(first, tmp_path / "first")
    assert mien(*words, "--quality", 30) == 0
    # what is there just before the manifest is renamed
    run = record(output)["run"]
    (output / f".mien-{run}").mkdir()
    (output / "_manifest.json").rename(output / f".mien-{run}" / "_manifest.json")
    (output / "_manifest.json").write_bytes(before)
    shutil.copy(tmp_path / "first", first)
    if not index:
        (output / f"index-{run}.jsonl").unlink()
    assert len(list(output.glob("photos-*"))) == 2
    assert mien(*words, "--quality", 30) == 0
    assert record(output)["counts"]["skipped"] == (2 if index else 0)
    assert [path.exists() for path in output.glob("photos-*")] == [True]
    assert len(json.loads((output / "_manifest.json").read_text())["parts"]) == 1
