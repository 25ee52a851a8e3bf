"""One photo by one call: the pixels of the job, of whatever kind it is given, from several threads at a time."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mien
from mien.models.errors import ContainerError, ImageError, PolicyError, PrivacyError, WithheldError
from mien.models.images import decode_image, encode_image
from mien.transforms import Redacted
from mien.transforms.elements import Failure
from mien.transforms.one_call import _error_of, _file_of
from tests.pipelines.conftest import DATA
from tests.pipelines.conftest import mien as command

QUICK = {"detectors": ("mediapipe",)}


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few people, 600 x 400, JPEG."""
    path = tmp_path_factory.mktemp("one") / "x.jpg"
    with Image.open(DATA / "allhands.jpg") as image:
        image.crop((60, 330, 660, 730)).save(path, quality=95)
    return path


def test_a_pil_image_is_seen_as_it_is_shown() -> None:
    pixels = np.random.default_rng(7).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    assert np.array_equal(decode_image(_file_of(image)), pixels)
    image.getexif()[0x0112] = 6  # turned by a quarter
    assert np.array_equal(decode_image(_file_of(image)), np.rot90(pixels, -1))
    clear = Image.fromarray(pixels).convert("RGBA")
    clear.putalpha(0)
    assert (decode_image(_file_of(clear)) == 255).all()
    for mode in ("L", "P", "1", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"):
        assert decode_image(_file_of(Image.new(mode, (20, 10)))).shape == (10, 20, 3)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8), 3, None, [1]],
)
def test_what_is_no_image_is_refused(wrong: object) -> None:
    with pytest.raises(ImageError):
        mien.redact(wrong)  # type: ignore[arg-type]


def test_bad_options_are_refused() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(TypeError, match="key_file"):
        mien.redact(image, key_file="k")
    with pytest.raises(TypeError):
        mien.redact(image, strenght=3)
    with pytest.raises(PolicyError):
        mien.redact(image, policy="no such policy")
    with pytest.raises(FileNotFoundError):
        mien.redact("no such file.jpg")
    with pytest.raises(ImageError, match="http"):
        mien.redact("https://example.org/photo.jpg")
    with pytest.raises(ValueError, match="image format"):
        mien.restore(b"", image_format="bmp")
    with pytest.raises(ContainerError):
        mien.restore(encode_image(image, "jpeg"))


def test_a_failure_is_the_error_that_it_was() -> None:
    told = _error_of(Failure("image", "redact", "PrivacyError", "withheld: a face is still seen"))
    assert type(told) is PrivacyError
    assert str(told) == "withheld: a face is still seen"
    other = _error_of(Failure("image", "detect", "RuntimeError", "odd"))
    assert type(other) is WithheldError
    assert str(other) == "detect: RuntimeError: odd"
    assert type(_error_of(Failure("image", "detect", "Exception", "odd"))) is WithheldError


@pytest.mark.slow
def test_the_pixels_are_the_jobs(photo: Path, tmp_path: Path) -> None:
    words = ("--detector", "mediapipe", "--record-uris")
    assert command("redact", photo, "--output", tmp_path / "safe", *words[:2]) == 0
    wanted = (tmp_path / "safe" / "x.jpg.jpg").read_bytes()
    data = photo.read_bytes()
    pixels = decode_image(data)
    with ThreadPoolExecutor(3) as threads:  # on fewer children
        by_path, by_bytes, by_pixels = threads.map(lambda image: mien.redact(image, **QUICK), (photo, data, pixels))
    assert by_path.image == by_bytes.image == wanted
    assert isinstance(by_path, Redacted)
    assert by_path.faces == by_pixels.faces
    assert {face.action for face in by_path.faces} == {"fill"}
    assert by_pixels.image.shape == pixels.shape
    changed = (by_pixels.image != pixels).any(2)
    assert 0.01 < changed.mean() < 0.5  # nothing is lost elsewhere
    assert command("redact", photo, "--output", tmp_path / "png", *words[:2], "--image-format", "png") == 0
    assert np.array_equal(by_pixels.image, decode_image((tmp_path / "png" / "x.jpg.png").read_bytes()))
    with Image.open(io.BytesIO(data)) as image:
        again = mien.redact(image, **QUICK).image
    assert isinstance(again, Image.Image)
    assert again.size == (600, 400)
    with pytest.raises(ImageError):
        mien.redact(data[:3000], **QUICK)


@pytest.mark.slow
def test_a_blob_and_back_are_the_jobs(photo: Path, tmp_path: Path) -> None:
    words = ("--detector", "mediapipe", "--effort", "fast")
    assert command("compress", photo, "--output", tmp_path / "c", "--format", "blobs", *words) == 0
    wanted = (tmp_path / "c" / "x.jpg.avif").read_bytes()
    blob = mien.compress(photo, effort="fast", **QUICK)
    assert blob == wanted
    assert command("restore", tmp_path / "c", "--output", tmp_path / "back") == 0
    (back,) = (tmp_path / "back").glob("*.png")
    assert mien.restore(blob, image_format="png") == back.read_bytes()
    assert np.array_equal(mien.restore(tmp_path / "c" / "x.jpg.avif"), decode_image(back.read_bytes()))
    with pytest.raises(ContainerError, match="coded already"):
        mien.compress(blob, **QUICK)
    assert json.loads((tmp_path / "back" / "run.json").read_text())["counts"]["out"] == 1
