import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.models.codec.face_codec import FaceCodec
from mien.models.images.files import decode_image
from mien.pipelines.cli import main
from tests.pipelines.conftest import DATA


@pytest.mark.slow
def test_faces_to_payloads_and_back(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "empty.png")
    words = [
        photos / "a" / "x.jpg",
        photos / "b" / "x.jpg",
        tmp_path / "empty.png",
        "--face-bytes",
        64,
        "--effort",
        "fast",
    ]
    assert main(["face", "encode", *map(str, words), "--output", str(tmp_path / "coded")]) == 3
    coded = {path.parent.name: path for path in (tmp_path / "coded").rglob("*.mien")}
    assert set(coded) == {"a", "b"}
    assert all(0 < path.stat().st_size <= 64 for path in coded.values())
    (failure,) = map(json.loads, (tmp_path / "coded" / "failures-face.jsonl").read_text().splitlines())
    assert (failure["error"], failure["message"]) == ("ImageError", "no face that can be aligned was found")

    assert main(["face", "decode", *map(str, coded.values()), "--output", str(tmp_path / "back")]) == 0
    pictures = sorted((tmp_path / "back").rglob("*.png"))
    assert [(path.parent.name, path.name) for path in pictures] == [("a", "x.jpg.png"), ("b", "x.jpg.png")]
    for path in pictures:
        with Image.open(path) as image:
            assert image.size == (512, 512)
            expected = FaceCodec.load().decode(coded[path.parent.name].read_bytes())
            assert np.array_equal(np.asarray(image), expected)

    assert main(["face", "decode", str(coded["a"]), "--output", str(tmp_path / "back2")]) == 0
    assert main(["face", "decode", str(coded["a"]), "--output", str(tmp_path / "back2")]) == 3
    assert "--overwrite" in capsys.readouterr().err
    assert main(["face", "decode", str(coded["a"]), "--output", str(tmp_path / "back2"), "--overwrite"]) == 0


def test_bad_payloads_have_their_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.mien").write_bytes(b"nonsense")
    (tmp_path / "empty.mien").write_bytes(b"")
    words = [tmp_path / "bad.mien", tmp_path / "empty.mien", tmp_path / "gone.mien"]
    assert main(["face", "decode", *map(str, words), "--output", str(tmp_path / "out")]) == 3
    assert capsys.readouterr().err.count("\n") == 3


def test_an_output_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["face", "decode", "x.mien", "--output", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_an_aligned_picture_is_taken_as_it_is(photos: Path, tmp_path: Path) -> None:
    face = decode_image((DATA.parent / "face.jpg").read_bytes())
    Image.fromarray(face).save(tmp_path / "face.png")
    assert main(["face", "encode", str(tmp_path / "face.png"), "--output", str(tmp_path / "out"), "-q"]) == 0
    assert (tmp_path / "out" / "face.png.mien").read_bytes() == FaceCodec.load().encode(face)


def test_what_is_no_face_or_not_all_of_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    face = decode_image((DATA.parent / "face.jpg").read_bytes())
    Image.new("RGB", (512, 512), (90, 120, 60)).save(tmp_path / "lawn.png")
    Image.fromarray(np.ascontiguousarray(np.rot90(face, 2))).save(tmp_path / "turned.png")
    words = [str(tmp_path / "lawn.png"), str(tmp_path / "turned.png"), "--output", str(tmp_path / "out")]
    assert main(["face", "encode", *words]) == 3
    assert capsys.readouterr().err.count("no face that can be coded: covered, turned, or none at all") == 2
    assert not list((tmp_path / "out").glob("*.mien"))
