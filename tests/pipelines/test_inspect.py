import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mien.models.images.container import StoredFace, StoredPhoto, embed
from mien.models.images.files import encode_image
from mien.pipelines import JobError
from mien.pipelines.cli import main
from mien.pipelines.jobs.inspect_file import inspect
from mien.transforms.elements import ListedFile
from mien.transforms.formats import parquet
from mien.transforms.sources.read_coded import photos_of_table

Compressed = Callable[[str], Path]


@pytest.mark.slow
def test_a_coded_photo(compressed: Compressed, capsys: pytest.CaptureFixture[str]) -> None:
    path = compressed("blobs") / "a" / "x.jpg.avif"
    found = inspect(path)
    assert (found["kind"], found["bytes"], found["width"], found["height"]) == ("photo", path.stat().st_size, 600, 400)
    assert found["chunk_bytes"] >= sum(face["bytes"] for face in found["faces"]) > 0
    coded = next(face for face in found["faces"] if face["bytes"])
    assert sum(field["length"] for field in coded["payload"]) >= coded["bytes"] - 8
    assert main(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "preserve by 'otherwise'" in shown
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found))


@pytest.mark.slow
def test_a_table(compressed: Compressed, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = compressed("parquet").glob("*.parquet")
    found = inspect(path)
    assert (found["kind"], found["rows"], found["root"]) == ("table", 2, str(photos))
    assert sum(size["bytes"] for size in found["columns"].values()) < found["bytes"]
    assert sorted(photo["uri"] for photo in found["photos"]) == [str(photos / n / "x.jpg") for n in ("a", "b")]
    assert main(["inspect", str(path)]) == 0
    assert "column faces: list<" in capsys.readouterr().out


def test_a_coded_face(compressed: Compressed, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mien.models.images.container import extract

    photo = extract((compressed("blobs") / "a" / "x.jpg.avif").read_bytes())
    payload = next(face.payload for face in photo.faces if face.payload)
    (tmp_path / "face.mien").write_bytes(payload)
    assert inspect(tmp_path / "face.mien")["bytes"] == len(payload)
    assert main(["inspect", str(tmp_path / "face.mien")]) == 0
    assert capsys.readouterr().out


def test_other_files(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(photos / "a" / "x.jpg")["kind"] == "picture"
    for name, data in {
        "text": b"hello",
        "empty": b"",
        "table": b"PAR1 and no more",
        "half.avif": b"\0\0\0\x1cftypavif",
    }.items():
        (tmp_path / name).write_bytes(data)
        assert main(["inspect", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("mien: ")
        assert error.count("\n") == 1


ESCAPES = "\x1b]0;title\x07\x1b[2J\u202e"


def test_a_table_with_a_row_group_that_is_too_large_is_not_read(
    compressed: Compressed, monkeypatch: pytest.MonkeyPatch
) -> None:
    (table,) = compressed("parquet").glob("*.parquet")
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 1000)
    with pytest.raises(JobError, match=r"a row group of \d+ bytes, over the limit of 1000"):
        inspect(table)
    with pytest.raises(ValueError, match="over the limit of 1000"):
        list(photos_of_table(ListedFile(str(table), table.name, 9, 1.0)))


def test_names_with_escape_codes_do_not_reach_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    face = StoredFace((1, 2, 30, 30), (), "fill", f"rule\n{ESCAPES}", f"model{ESCAPES}", b"", 0.5)
    stored = StoredPhoto(64, 48, (face,), f"policy{ESCAPES}", f"version\n{ESCAPES}")
    picture = embed(encode_image(np.zeros((48, 64, 3), np.uint8), "webp"), stored)
    (tmp_path / "photo.webp").write_bytes(picture)
    about = json.dumps({"uri": ESCAPES, "width": 1, "height": 1, "source_bytes": 1, "faces": [], ESCAPES: 1}).encode()
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, data in ((f"a{ESCAPES}.webp", picture), (f"a{ESCAPES}.json", about)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (tmp_path / f"no{ESCAPES}").write_bytes(b"neither")
    statuses = [main(["inspect", str(path), *words]) for path in tmp_path.iterdir() for words in ([], ["--json"])]
    assert sorted(statuses) == [0, 0, 0, 0, 2, 2]
    assert main(["inspect", "a", f"--{ESCAPES}"]) == 2
    out, err = capsys.readouterr()
    assert all(line.isprintable() for line in f"{out}{err}".split("\n"))
    assert r"rule\n\x1b]0;title" in out.replace("\\\\", "\\")
    assert err.count(r"\x1b[2J") == 3
