"""What a second run does; with the policy that codes no faces, which is quick."""

import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.pipelines.conftest import failures, mien, record

pytestmark = pytest.mark.slow

QUICK = ("--policy", "redact", "--detector", "mediapipe")


@pytest.fixture
def source(small: Path, tmp_path: Path) -> Path:
    """a/x.jpg and b/x.jpg, with one face each."""
    for name in ("a", "b"):
        (tmp_path / "source" / name).mkdir(parents=True)
        shutil.copy(small, tmp_path / "source" / name)
    return tmp_path / "source"


def uris(output: Path) -> list[str]:
    tables = [pq.read_table(path, columns=["uri"]) for path in output.glob("*.parquet")]
    return sorted(Path(uri).parent.name for table in tables for uri in table.column("uri").to_pylist())


def test_only_what_is_new_changed_or_failed_is_done(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    (source / "c").mkdir()
    (source / "c" / "x.jpg").write_bytes(b"")
    words = ("compress", source, "--output", output, *QUICK)
    assert mien(*words) == 3
    counts = record(output)["counts"]
    assert {name: counts[name] for name in ("in", "out", "withheld", "failed", "skipped")} == {
        "in": 3, "out": 2, "withheld": 1, "failed": 0, "skipped": 0
    }  # fmt: skip
    assert uris(output) == ["a", "b"]

    shutil.copy(source / "a" / "x.jpg", source / "c" / "x.jpg")  # failed before
    os.utime(source / "b" / "x.jpg", (1, 1))  # changed
    shutil.copytree(source / "a", source / "d")  # new
    assert mien(*words) == 0
    assert (record(output)["counts"]["out"], record(output)["counts"]["skipped"]) == (3, 1)
    assert uris(output) == ["a", "b", "c", "d"]  # none is there twice

    assert mien(*words, "--quality", 30) == 0  # other settings
    assert (record(output)["counts"]["out"], record(output)["counts"]["skipped"]) == (4, 0)
    assert uris(output) == ["a", "b", "c", "d"]
    assert len(list(output.glob("*.parquet"))) == 1

    next(output.glob("*.parquet")).unlink()  # what was done is gone
    assert mien(*words, "--quality", 30) == 0
    assert record(output)["counts"]["out"] == 4
    assert mien(*words, "--quality", 30, "--overwrite") == 0
    assert (record(output)["counts"]["out"], uris(output)) == (4, ["a", "b", "c", "d"])


def test_what_is_not_ours_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    (output / "a").mkdir(parents=True)
    (output / "a" / "x.jpg.avif").write_bytes(b"mine")
    words = ("compress", source, "--output", output, "--format", "blobs", *QUICK)
    assert mien(*words) == 3
    assert (output / "a" / "x.jpg.avif").read_bytes() == b"mine"
    assert failures(output)["x.jpg"]["error"] == "FileExistsError"
    assert record(output)["counts"]["failed"] == 1

    for path in output.glob("index-*"):  # a run that was killed: files of ours, and no index
        path.unlink()
    assert mien(*words, "--overwrite") == 0
    assert (output / "a" / "x.jpg.avif").stat().st_size > 1000
    for path in output.glob("index-*"):
        path.unlink()
    assert mien(*words) == 0
    assert record(output)["counts"]["out"] == 2


def test_restoring_replaces_its_own_pictures_only(source: Path, tmp_path: Path) -> None:
    coded, back = tmp_path / "coded", tmp_path / "back"
    words = ("compress", source, "--output", coded, *QUICK)
    assert mien(*words) == 0
    (back / "a").mkdir(parents=True)
    (back / "a" / "x.jpg.png").write_bytes(b"mine")
    assert mien("restore", coded, "--output", back) == 3
    assert (back / "a" / "x.jpg.png").read_bytes() == b"mine"
    assert record(back)["counts"]["out"] == 1
    assert mien("restore", coded, "--output", back, "--overwrite") == 0
    assert mien("restore", coded, "--output", back) == 0
    assert record(back)["counts"]["skipped"] == 1  # one table
    assert mien(*words, "--quality", 30) == 0
    for path in coded.glob("*.parquet"):  # the same table, written anew
        os.utime(path, (1, 1))
    shutil.move(next(coded.glob("*.parquet")), coded / "t.parquet")
    assert mien("restore", coded / "t.parquet", "--output", back) == 3  # of another table: not ours to replace
    assert {row["error"] for row in failures(back).values()} == {"FileExistsError"}


def test_the_output_may_lie_in_the_input(source: Path) -> None:
    words = ("compress", source, "--output", source / "out", "--format", "blobs", *QUICK)
    assert mien(*words) == 0
    assert mien(*words) == 0
    assert record(source / "out")["counts"]["skipped"] == 2


def test_only_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (64, 48), (9, 99, 9)).save(source / f"{name}.png")
    (source / "b.png").write_bytes(b"")
    words = ("compress", source, "--output", output, "--format", "blobs", *QUICK)
    assert mien(*words, "--only-failed") == 2
    assert "no earlier run is there" in capsys.readouterr().err
    assert mien(*words) == 3
    shutil.copy(source / "a.png", source / "b.png")
    shutil.copy(source / "a.png", source / "new.png")
    os.utime(source / "c.png", (1, 1))
    for out in (1, 0):  # the second time it has not failed any more
        assert mien(*words, "--only-failed") == 0
        assert (record(output)["counts"]["out"], record(output)["counts"]["skipped"]) == (out, 4 - out)
    assert mien(*words) == 0
    assert record(output)["counts"]["out"] == 2
    assert mien(*words, "--only-failed", "--overwrite") == 2
    assert "not allowed with" in capsys.readouterr().err
