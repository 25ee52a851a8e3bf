"""mien redact --keep-blocks: what no hidden face touches is the file's own, coefficient by coefficient."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.models.images import decode_image, jpeg_segments
from tests.pipelines.conftest import failures, mien, record

jpeglib = pytest.importorskip("jpeglib")
pytestmark = pytest.mark.slow
QUICK = ("--detector", "mediapipe", "--keep-blocks")


def test_the_blocks_of_the_rest_are_kept(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    exif = Image.Exif()
    exif[274], exif[270], exif[33432] = 6, "CANARY", "kept"
    with Image.open(photos / "a" / "x.jpg") as image:
        image.transpose(Image.Transpose.ROTATE_90).save(source / "x.jpg", quality=93, exif=exif, comment=b"CANARY")
        image.save(source / "y.png")
    words = ("redact", source, "--output", output, *QUICK, "--keep", "copyright")
    assert mien(*words) == 3
    assert "--keep-blocks" in failures(output)["y.png"]["message"]
    made = (output / "x.jpg.jpg").read_bytes()
    assert b"CANARY" not in made
    assert sum(part.kind == b"\xe1" for part in jpeg_segments(made)) == 1
    with Image.open(io.BytesIO(made)) as image:
        assert (image.getexif()[274], image.getexif()[33432]) == (6, "kept")
    assert record(output)["actions"]["fill"] > 0
    before, after = jpeglib.read_dct(str(source / "x.jpg")), jpeglib.read_dct(str(output / "x.jpg.jpg"))
    same = [(getattr(before, name) == getattr(after, name)).all((2, 3)) for name in ("Y", "Cb", "Cr")]
    assert all(0.6 < part.mean() < 1 for part in same)
    assert np.array_equal(before.qt, after.qt)
    assert decode_image(made).shape == (400, 600, 3)
    assert mien(*words, "--image-format", "webp") == 2
    assert "--keep-blocks is of --image-format jpeg" in capsys.readouterr().err
