"""What stays in an output, and what goes: whole commands, on pictures without faces, which are quick."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from mien.pipelines.cli import main
from mien.transforms.formats.lease import lease_path, renew
from mien.transforms.formats.manifest import hidden_folder
from tests.pipelines.conftest import mien, record

pytestmark = pytest.mark.slow

QUICK = ("--detector", "mediapipe")
SHARDS = ("--format", "webdataset")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    Image.new("RGB", (64, 48), (9, 99, 9)).save(folder / "deep" / "a.png")
    Image.new("RGB", (320, 240), (9, 9, 99)).save(folder / "b.png")
    return folder


def images(output: Path) -> set[str]:
    """The pictures of an output, those in parts that count too, by their names there."""
    from mien.pipelines.jobs.inspect_file import inspect

    found = {path.relative_to(output).as_posix() for path in output.rglob("*.*") if path.suffix in (".jpg", ".webp")}
    manifest = output / "_manifest.json"
    for name in json.loads(manifest.read_text())["parts"] if manifest.exists() else []:
        found |= {f"in shard: {sample['name']}" for sample in inspect(output / name)["samples"]}
    return found


def counts(output: Path, *names: str) -> list[int]:
    return [record(output)["counts"][name] for name in names]


def test_no_output_of_a_laxer_run_stays_beside_the_new(source: Path, tmp_path: Path) -> None:
    output, policy = tmp_path / "out", tmp_path / "keep.yaml"
    policy.write_text("version: 1\nrules: []\notherwise: keep\n")
    words = ("redact", source, "--output", output, *QUICK)
    assert mien(*words, "--policy", policy) == 0
    assert images(output) == {"deep/a.png.jpg", "b.png.jpg"}
    assert mien(*words, "--image-format", "webp") == 0
    assert images(output) == {"deep/a.png.webp", "b.png.webp"}
    assert counts(output, "out", "replaced") == [2, 2]
    assert mien("redact", source / "deep", "--output", output, *QUICK) == 0  # another root
    assert images(output) == {"a.png.jpg", "b.png.webp"}
    assert mien(*words, *SHARDS) == 0
    assert images(output) == {"in shard: deep/a.png", "in shard: b.png"}
    assert mien(*words) == 0
    assert images(output) == {"deep/a.png.jpg", "b.png.jpg"}
    assert not list(output.glob("photos-*"))


def test_what_was_coded_under_a_laxer_policy_goes_with_a_photo_that_is_withheld(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = ("compress", source, "--output", output, *QUICK, "--format", "blobs", "--background", "webp")
    assert mien(*words) == 0
    assert images(output) == {"deep/a.png.webp", "b.png.webp"}
    assert mien(*words, "--policy", "redact", "--max-pixels", 9999) == 3
    assert images(output) == {"deep/a.png.webp"}


def test_a_photo_that_was_withheld_from_a_shard_is_not_done(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = ("redact", source, "--output", output, *QUICK, *SHARDS)
    assert mien(*words) == 0
    (first,) = output.glob("photos-*")
    assert mien("redact", source / "b.png", "--output", output, *QUICK, *SHARDS, "--max-pixels", 9999) == 3
    assert images(output) == {"in shard: deep/a.png"}
    for path in output.glob("failures-*"):  # what is in the part decides, whatever else is told
        path.unlink()
    assert mien(*words) == 0
    assert counts(output, "out", "skipped") == [1, 1]
    assert images(output) == {"in shard: deep/a.png", "in shard: b.png"}
    assert mien(*words) == 0
    assert counts(output, "out", "skipped") == [0, 2]

    cut = next(path for path in output.glob("photos-*") if path.name.startswith(first.name[:-4]))  # that of a.png
    cut.write_bytes(cut.read_bytes()[:700])
    assert mien(*words) == 0
    assert counts(output, "out", "skipped") == [1, 1]
    assert images(output) == {"in shard: deep/a.png", "in shard: b.png"}


def test_an_output_that_was_changed_is_done_again_and_one_without_an_original_can_go(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    words = ("redact", source, "--output", output, *QUICK)
    assert mien(*words) == 0
    path = output / "b.png.jpg"
    before, times = path.read_bytes(), path.stat()
    path.write_bytes(before[:100])
    assert mien(*words) == 0
    assert (path.read_bytes(), counts(output, "out", "skipped")) == (before, [1, 1])
    times = path.stat()
    path.write_bytes(before[:-1] + b"?")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert mien(*words, "--check") == 0
    assert (path.read_bytes(), counts(output, "out", "skipped")) == (before, [1, 1])

    mine = output / "mine.jpg"
    mine.write_bytes(b"mine")
    (source / "deep" / "a.png").unlink()
    (source / "b.png").rename(source / "c.png")
    assert mien(*words) == 0
    assert counts(output, "orphans", "pruned") == [2, 0]
    (output / "deep" / "a.png.jpg").write_bytes(b"changed by somebody")
    assert main([str(word) for word in (*words, "--workers", 1, "--prune")]) == 0
    assert "1 outputs without an original deleted" in capsys.readouterr().err
    assert images(output) == {"c.png.jpg", "deep/a.png.jpg", "mine.jpg"}
    assert mien(*words, "--prune", "--dry-run") == 2


def test_a_row_that_somebody_has_added_deletes_nothing_elsewhere(source: Path, tmp_path: Path) -> None:
    output, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_bytes(b"mine")
    words = ("redact", source, "--output", output, *QUICK)
    assert mien(*words) == 0
    (index,) = output.glob("index-*")
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    with index.open("a") as stream:
        for row in rows:
            for name in ("../victim", str(victim), "a/../../victim"):
                stream.write(json.dumps(row | {"output": name}) + "\n")
        stream.write(json.dumps({"uri": rows[0]["uri"]}) + "\n{\n")
    (source / "b.png").write_bytes(b"no picture")
    os.unlink(source / "deep" / "a.png")
    assert mien(*words, "--prune") == 3
    assert victim.read_bytes() == b"mine"
    assert images(output) == set()
    assert counts(output, "withheld", "withdrawn", "pruned", "damaged") == [1, 1, 1, 8]


def test_a_run_that_is_at_work_is_left_alone(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As of a job that was launched from a template: its workers renew a lease, and no process holds a lock."""
    output = tmp_path / "out"
    words = ("redact", source, "--output", output, *QUICK)
    renew(str(output), "20261127T000000.000000-aaaa")
    folder = output / hidden_folder("20261127T000000.000000-aaaa")
    (folder / "photos-1-0123456789ab.tar").write_bytes(b"half of it")
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    for more in ((), ("--overwrite",), ("--dry-run",)):
        assert mien(*words, *more) == 2
        assert "another job works on it (run 20261127T000000.000000-aaaa)" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    Path(lease_path(str(output), folder.name.removeprefix(".mien-"))).write_text("{")  # it may well be at work
    assert mien(*words) == 2
    renew(str(output), folder.name.removeprefix(".mien-"), seconds=-9)
    (folder / "index-1.jsonl").write_text("{}\n")
    assert mien(*words) == 0
    assert not folder.exists()
    # what a run that was killed has left is told by the next one's record
    said = record(output)
    assert said["recovered"] == ["20261127T000000.000000-aaaa"]
    assert list(said["sha256"]["recovered"]) == ["index-20261127T000000.000000-aaaa.jsonl"]
    assert mien(*words) == 0
    assert record(output)["sha256"]["recovered"] == {}
