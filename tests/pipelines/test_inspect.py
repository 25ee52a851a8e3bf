import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mien.pipelines.cli import main
from mien.pipelines.jobs.inspect_file import inspect

Compressed = Callable[[str], Path]


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
