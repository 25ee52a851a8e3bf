"""Shards in and out: photos in a tar are files to a job, and what it writes is read as it is."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mien.pipelines.cli import main
from mien.pipelines.jobs.inspect_file import inspect
from tests.pipelines.conftest import failures, mien, record

pytestmark = pytest.mark.slow

QUICK = ("--detector", "mediapipe", "--format", "webdataset")


def shard(path: Path, **photos: bytes) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in photos.items():
            for suffix, part in ((".png", data), (".txt", b"a caption")):
                info = tarfile.TarInfo(f"{name}{suffix}")
                info.size = len(part)
                tar.addfile(info, io.BytesIO(part))


def picture(grey: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), (grey, 99, 9)).save(stream, "PNG")
    return stream.getvalue()


def whole_shard(path: Path, *members: tuple[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def written(output: Path) -> dict[str, bytes]:
    """The members of the shards that count; none twice."""
    found: dict[str, bytes] = {}
    for name in json.loads((output / "_manifest.json").read_text())["parts"]:
        with tarfile.open(output / name) as tar:
            for member in tar:
                stream = tar.extractfile(member)
                assert stream is not None
                assert found.setdefault(f"{name}/{member.name}", stream.read()) is not None
    return found


def samples(output: Path) -> dict[str, str]:
    """The parts of an output by the photos in them, of those that count."""
    found = {}
    for name in json.loads((output / "_manifest.json").read_text())["parts"]:
        told = inspect(output / name)
        assert told["counted"]
        for sample in told["samples"]:
            assert sample["name"] not in found
            found[sample["name"]] = name
    return found


def counts(output: Path) -> list[int]:
    found = record(output)["counts"]
    return [found[name] for name in ("in", "out", "withheld", "failed", "skipped", "withdrawn")]


def test_shards_are_redacted_photo_by_photo(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    shard(source / "0.tar", a=picture(1), b=picture(2), bad=b"no picture")
    shard(source / "1.tar", a=picture(3), c=picture(4))
    cut = (source / "1.tar").read_bytes()
    (source / "1.tar").write_bytes(cut[: cut.index(b"c.png") + 600])
    words = ("redact", source, "--output", output, *QUICK)
    assert mien(*words) == 3
    assert counts(output) == [6, 3, 1, 2, 0, 0]  # the photo in which the shard is cut, and what may have come after it
    assert sorted(samples(output)) == ["0.tar/a.png", "0.tar/b.png", "1.tar/a.png"]
    assert set(failures(output)) == {"bad.png", "c.png", "1.tar"}
    assert "the shard ends within it" in failures(output)["c.png"]["message"]

    (source / "1.tar").write_bytes(cut)
    assert mien(*words) == 3
    assert counts(output) == [3, 2, 1, 0, 2, 0]  # 1.tar has changed; of 0.tar only the bad one is tried again
    assert sorted(samples(output)) == ["0.tar/a.png", "0.tar/b.png", "1.tar/a.png", "1.tar/c.png"]
    before = samples(output)

    shard(source / "0.tar", a=picture(1), b=b"no picture any more")
    os.utime(source / "0.tar", (1, 1))
    assert mien(*words) == 3
    assert counts(output) == [2, 1, 1, 0, 2, 1]  # what was made of b is gone, and nothing else
    after = samples(output)
    assert sorted(after) == ["0.tar/a.png", "1.tar/a.png", "1.tar/c.png"]
    assert after["1.tar/c.png"] == before["1.tar/c.png"]
    assert main(["report", str(output), "--output", str(tmp_path / "report.html"), "-q"]) == 0
    assert (tmp_path / "report.html").read_text().count("data:image/webp") == 3


def test_samples_stay_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    caption, label, meta = "Zürich\r\n".encode(), b"7", b'{"name": "own", "id": 3}'
    first = ("a/0.png", picture(1)), ("a/0.txt", caption), ("a/0.cls", label), ("a/0.json", meta)
    whole_shard(source / "0.tar", *first, ("1.rgb.png", picture(2)), ("1.npy", b"\x93NUMPY\0"), ("2.txt", b"alone"))
    whole_shard(source / "1.tar", ("a/0.png", picture(3)), ("a/0.txt", b"the same key"), ("3.png", picture(4)))
    words = ("redact", source, "--output", output, *QUICK)
    assert mien(*words) == 3
    assert counts(output) == [5, 3, 0, 2, 0, 0]
    assert set(failures(output)) == {"1.rgb.png", "2"}
    assert "its member '1.npy' is no text in UTF-8" in failures(output)["1.rgb.png"]["message"]
    found = written(output)
    parts = {name.partition("/")[0] for name in found}
    assert len(parts) == 2  # no key is twice in one
    by_caption = {data: name.removesuffix("a/0.txt") for name, data in found.items() if name.endswith("a/0.txt")}
    one = {name.removeprefix(by_caption[caption]): data for name, data in found.items() if by_caption[caption] in name}
    assert {"a/0.jpg", "a/0.txt", "a/0.cls", "a/0.json", "a/0.mien.json"} <= set(one)
    assert (one["a/0.txt"], one["a/0.cls"], one["a/0.json"]) == (caption, label, meta)
    told = json.loads(one["a/0.mien.json"])
    assert (told["name"], told["faces"], told["width"]) == ("0.tar/a/0.png", [], 64)
    assert found[f"{by_caption[b'the same key']}a/0.mien.json"] != one["a/0.mien.json"]

    assert mien(*words) == 3
    assert counts(output) == [2, 0, 0, 2, 3, 0]  # nothing is done again, and the same two are tried again
    assert mien(*words, "--drop-members", "npy,json,2.*") == 0
    assert counts(output) == [4, 4, 0, 0, 0, 0]
    names = sorted(name.partition("/")[2] for name in written(output))
    assert [name for name in names if not name.endswith((".txt", ".cls"))] == [
        "1.mien.json", "1.rgb.jpg", "3.jpg", "3.mien.json", "a/0.jpg", "a/0.jpg", "a/0.mien.json", "a/0.mien.json",
    ]  # fmt: skip
    os.utime(source / "1.tar", (1, 1))
    assert mien(*words, "--drop-members", "npy,json,2.*") == 0
    assert counts(output) == [2, 2, 0, 0, 2, 0]  # the sample of 0.tar that has the same key is left as it is
    assert sorted(name.partition("/")[2] for name in written(output)) == names
    assert mien(*words, "--format", "files", "--drop-members", "npy") == 2
    assert "--drop-members is of --format webdataset" in capsys.readouterr().err


def test_no_shard_tells_where_the_photos_lay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "MARTHA", tmp_path / "out"
    source.mkdir()
    (source / "a.png").write_bytes(picture(1))
    words = ("redact", source, "--output", output, *QUICK)
    for more, said in ((), False), (("--record-uris",), True), ((), False):
        assert mien(*words, *more) == 0
        (path,) = output.glob("photos-*.tar")
        assert (b"MARTHA" in path.read_bytes()) == said
        told = inspect(path)["samples"][0]
        assert (told["name"], told.get("uri")) == ("a.png", f"{source}/a.png" if said else None)
        assert main(["inspect", str(path)]) == 0
        assert ("MARTHA" if said else "of a.png, 64 x 48") in capsys.readouterr().out
    assert main(["report", str(output), "--output", str(tmp_path / "report.html"), "-q"]) == 0
    assert (tmp_path / "report.html").read_text().count("data:image/webp") == 1
    assert mien(*words, "--format", "files", "--record-uris") == 2
    assert "--record-uris is of --format webdataset" in capsys.readouterr().err


def test_a_shard_holds_what_the_blob_holds(
    photos: Path, compressed: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a shard to a shard and back, beside the same photo from a file to a file."""
    source = tmp_path / "s.tar"
    with tarfile.open(source, "w") as tar:
        tar.add(photos / "a" / "x.jpg", "x.jpg")
    output = tmp_path / "shards"
    words = ("--format", "webdataset", "--record-uris", "--effort", "fast", "--faces", "neural")
    assert mien("compress", source, "--output", output, *words) == 0
    (path,) = output.glob("photos-*.tar")
    with tarfile.open(path) as made:
        blob, about = (made.extractfile(member) for member in made)
        assert blob
        assert about
        assert blob.read() == (compressed("blobs") / "a" / "x.jpg.avif").read_bytes()
        told = json.load(about)
    assert (told["uri"], told["source_bytes"]) == (f"{source}/x.jpg", (photos / "a" / "x.jpg").stat().st_size)
    assert sum(face["bytes"] > 0 for face in told["faces"]) == record(output)["actions"]["preserve"] > 0
    assert main(["inspect", str(path)]) == 0
    assert "preserve by 'otherwise'" in capsys.readouterr().out
    for expected in ([1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0]):
        assert mien("restore", output, "--output", tmp_path / "back") == 0
        assert counts(tmp_path / "back") == expected
    with Image.open(tmp_path / "back" / "s.tar" / "x.jpg.png") as back:
        assert back.size == (600, 400)
