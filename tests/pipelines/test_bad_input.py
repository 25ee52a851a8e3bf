"""Bad files through the real job: each gets its line, and the rest of the photos come out whole."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mien.models.images.container import StoredPhoto, embed
from mien.pipelines.cli import main
from mien.transforms.formats.parquet import SCHEMA
from tests.pipelines.conftest import failures, mien, record

pytestmark = pytest.mark.slow

QUICK = ("--policy", "redact", "--detector", "mediapipe", "--format", "blobs")


def picture(kind: str, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (200, 120, 40)).save(stream, kind, **options)
    return stream.getvalue()


def animation() -> bytes:
    stream = io.BytesIO()
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green")]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def floats() -> bytes:
    stream = io.BytesIO()
    Image.new("F", (64, 48), 0.5).save(stream, "TIFF")
    return stream.getvalue()


def test_bad_files_get_their_line_and_the_rest_comes_out(photos: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    good = {
        "no face.jpg": picture("JPEG"),
        "ü ñ 100%\n#?.png": picture("PNG"),
        "moving.gif": animation(),
        "one/same.jpg": (photos / "a" / "x.jpg").read_bytes(),
        "two/same.jpg": (photos / "b" / "x.jpg").read_bytes(),
        "two/same.png": picture("PNG"),
        "a[b]*.webp": picture("WEBP"),
        "plain.bmp": picture("BMP"),
        "pages.tif": picture("TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))] * 2),
        "floats.tif": floats(),
    }
    photo = (photos / "a" / "x.jpg").read_bytes()
    middle = len(photo) // 2
    bad = {
        "empty.jpg": b"",
        "cut.jpg": photo[:20_000],
        "hole.jpg": photo[:middle] + bytes(500) + photo[middle + 500 :],
        "coded.avif": embed(picture("AVIF"), StoredPhoto(64, 48, (), "compress", "0")),
        "text.jpg": b"this is no picture\n" * 100,
        "page.png": b"<html></html>",
        "large.png": picture("PNG", (1000, 1001)),
        "heavy.bmp": picture("BMP", (600, 600)),
    }
    for name, data in {**good, **bad}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    os.mkfifo(source / "pipe.jpg")
    (source / "gone.jpg").symlink_to("nowhere")
    limits = ("--max-pixels", 1_000_000, "--max-bytes", 1_000_000)
    assert mien("compress", source, "--output", output, *QUICK, *limits) == 3
    assert {str(p.relative_to(output)).removesuffix(".avif") for p in output.rglob("*.avif")} == set(good)
    found = failures(output)
    assert set(found) == {*bad, "pipe.jpg", "gone.jpg"}
    assert {name: row["stage"] for name, row in found.items()} == {
        **dict.fromkeys(
            ("empty.jpg", "cut.jpg", "hole.jpg", "coded.avif", "text.jpg", "page.png", "large.png"), "decode"
        ),
        **dict.fromkeys(("heavy.bmp", "pipe.jpg", "gone.jpg"), "read"),
    }
    assert {name for name, row in found.items() if row["error"] == "ImageTooLargeError"} == {"large.png", "heavy.bmp"}
    assert all(row["message"] and "\n" not in row["message"] for row in found.values())
    counts = record(output)["counts"]
    assert (counts["in"], counts["out"], counts["withheld"], counts["failed"]) == (20, 10, 7, 3)
    assert (counts["pages_left_out"], counts["floats_stretched"]) == (2, 1)


def test_a_redacted_photo_shows_nothing_of_its_faces(photos: Path, tmp_path: Path) -> None:
    assert mien("compress", photos / "a" / "x.jpg", "--output", tmp_path, *QUICK) == 0
    assert set(record(tmp_path)["actions"]) == {"fill"}
    assert mien("restore", tmp_path, "--output", tmp_path / "back") == 0
    with Image.open(tmp_path / "x.jpg.avif") as blob, Image.open(tmp_path / "back" / "x.jpg.png") as restored:
        assert np.array_equal(np.asarray(blob.convert("RGB")), np.asarray(restored))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compress", "nothing.jpg", "--output", "out"], "nothing.jpg: no such file or folder"),
        (["compress", "no*.jpg", "--output", "out"], "no file to work on was found there"),
        (["compress", "x.jpg", "--output", "x.jpg"], "both input and output"),
        (["compress", "x.jpg", "--output", "file/out"], "cannot be written: Not a directory"),
        (["compress", "x.jpg", "--output", "/proc/mien"], "cannot be written: No such file or directory"),
        (["compress", "x.jpg", "--output", ""], "--output is empty"),
        (["compress", "x.jpg", "--output", "nosuch://b/out"], "cannot be written: Unable to get filesystem"),
        (["compress", "nosuch://b/x.jpg", "--output", "out"], "Unable to get filesystem"),
        (["compress", "x.jpg", "--output", "out", "--policy", "nosuch"], "nosuch: No such file or directory; built in"),
        (["compress", "x.jpg", "--output", "out", "--policy", "p.yaml"], "p.yaml:2: rules: a list is wanted here"),
        (["compress", "x.jpg", "--output", "out", "--runner", "DaskRunner"], "DaskRunner reports no metrics"),
        (["compress", "x.jpg", "--output", "out", "--runner", "NoRunner"], "Unexpected pipeline runner"),
        (["compress", "x.jpg", "--output", "out", "--runner", "DirectRunner", "--workers", "2"], "--workers is for"),
        (["restore", "x.jpg", "--output", ""], "--output is empty"),
        (["compress", "", "--output", "out"], "an INPUT is empty"),
        (["compress", "x.jpg", "--output", ".mien-x/out"], "names that begin with .mien- are mien's own"),
        (["redact", "*.jpg", "--output", "."], "the results would lie among the photos of"),
        (["redact", "x.jpg", "--output", "out", "--key-file", ""], "--key-file is empty"),
        (["compress", "x.jpg", "--output", "out", "--weights", "nothing"], "nothing/decoder.safetensors: No such file"),
        (["magnify", "x.jpg", "--output", "out", "--size", "128"], "--size is of --aligned pictures"),
    ],
)
def test_a_job_that_cannot_start_says_so_in_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.jpg").write_bytes(picture("JPEG"))
    Path("file").write_text("")
    Path("p.yaml").write_text("version: 1\nrules: 3\notherwise: fill\n")
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("mien: ")
    assert error.count("\n") == 1


def test_hostile_tables_cannot_write_elsewhere(tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "deep" / "down" / "out"
    folder.mkdir()
    row = {
        "source_bytes": 1, "width": 64, "height": 48, "background": picture("WEBP"), "background_codec": "webp",
        "faces": [], "policy": "p", "version": "v",
    }  # fmt: skip
    uris = ["../../../evil", "/etc/evil", "gs://../../evil", "a/../../evil", str(tmp_path / "evil"), "..", "", "x\0y"]
    rows = [{**row, "uri": uri} for uri in uris]
    rows += [{**row, "uri": "wrong size", "width": 65}, {**row, "uri": None}, {**row, "uri": "no", "background": b"no"}]
    face = dict.fromkeys(("x", "y", "w", "h", "score"), 1.0) | {"action": "preserve", "rule": "r", "model": "m"}
    rows.append({**row, "uri": "bad face", "faces": [{**face, "transform": [1, 0, 0, 0, 1, 0], "payload": b"bad"}]})
    rows.append({**row, "uri": "bad place", "faces": [{**face, "transform": [float("nan")] * 6, "payload": b"bad"}]})
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / "t.parquet")
    pq.write_table(pa.table({"uri": ["x"]}), folder / "other.parquet")
    (folder / "broken.parquet").write_bytes(b"PAR1")
    (folder / "plain.webp").write_bytes(picture("WEBP"))
    assert mien("restore", folder, "--output", output) == 3
    outside = [path for path in tmp_path.rglob("*evil*") if output not in path.parents]
    assert outside == []
    assert not Path("/etc/evil.png").exists()
    assert record(output)["counts"]["out"] == len(list(output.rglob("*.png"))) == len(uris)
    stages = [json.loads(line)["stage"] for line in (output / record(output)["failures"]).read_text().splitlines()]
    assert sorted(stages) == ["read"] * 5 + ["restore"] * 3


HARD = Path(__file__).parents[2].parent / "shared" / "hard"


@pytest.mark.skipif(not HARD.is_dir(), reason="shared/hard is not here")
def test_bytes_behind_a_coded_photo_and_a_packed_shard_go_the_whole_way(tmp_path: Path) -> None:
    coded = HARD / "18-coded-with-bytes-behind.avif"
    assert mien("restore", coded, "--output", tmp_path / "pictures") == 0
    (picture,) = (tmp_path / "pictures").glob("*.png")
    assert record(tmp_path / "pictures")["counts"]["out"] == 1
    with Image.open(picture) as restored, Image.open(coded) as background:
        assert restored.size == background.size
        difference = np.abs(np.asarray(restored.convert("RGB"), int) - np.asarray(background.convert("RGB"), int))
    assert difference.max() > 30  # its faces are there
    assert mien("redact", HARD / "19-gzipped.tar", "--output", tmp_path / "safe") == 3
    assert "it is compressed (gzip)" in failures(tmp_path / "safe")["19-gzipped.tar"]["message"]
    assert not list((tmp_path / "safe").glob("*.jp*g"))
