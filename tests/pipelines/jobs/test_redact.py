"""mien redact: what is written, what is done again, what is kept back, and that nothing else is in the files."""

import contextlib
import hashlib
import io
import json
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from mien.models.benchmark_detection import true_boxes
from mien.pipelines.cli import main
from tests.pipelines.conftest import DATA, failures, mien, record

CANARY = b"CANARY"
QUICK = ("--detector", "mediapipe")


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 x 320 with one face."""
    path = tmp_path_factory.mktemp("face") / "x.jpg"
    with Image.open(DATA / "allhands.jpg") as image:
        image.crop((110, 430, 410, 750)).save(path, quality=95)
    return path


def rows(output: Path) -> dict[str, dict]:
    """The last run's index by file name."""
    name = sorted(output.glob("index-*.jsonl"))[-1]
    return {Path(row["uri"]).name: row for row in map(json.loads, name.read_text().splitlines())}


@pytest.mark.slow
def test_a_scheduled_batch(face: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    shutil.copy(face, source / "deep" / "a.jpg")
    Image.new("RGB", (64, 48), (9, 99, 9)).save(source / "b.png")
    (source / "c.jpg").write_bytes(b"no photo")
    words = ("redact", source, "--output", output, *QUICK)
    assert mien(*words) == 3
    first = record(output)
    assert {p.relative_to(output).as_posix() for p in output.rglob("*.jpg")} == {"deep/a.jpg.jpg", "b.png.jpg"}
    assert (first["counts"]["withheld"], first["actions"], first["previous"]) == (1, {"fill": 1}, None)
    assert first["sha256"]["failures"] == hashlib.sha256((output / first["failures"]).read_bytes()).hexdigest()
    assert set(failures(output)) == {"c.jpg"}
    row = rows(output)["a.jpg"]
    assert row["sha256"] == hashlib.sha256((output / "deep" / "a.jpg.jpg").read_bytes()).hexdigest()
    assert [(f["action"], f["rule"], f["decided"]) for f in row["faces"]] == [("fill", "otherwise", "fill")]
    (index,) = output.glob("index-*")
    assert first["sha256"]["index"] == hashlib.sha256(index.read_bytes()).hexdigest()

    # another policy that decides the same on these faces: nothing is done again but what failed
    policy = tmp_path / "p.yaml"
    text = "version: 1\nrules: [{name: crowd, when: {rank: {min: %d}}, do: keep}]\notherwise: redact\n"
    policy.write_text(text % 5)
    before = (output / "run.json").read_bytes()
    assert mien(*words, "--policy", policy) == 3
    assert record(output)["counts"]["skipped"] == 2
    assert record(output)["previous"] == hashlib.sha256(before).hexdigest()
    assert (output / f"run-{first['run']}.json").read_bytes() == before

    # one that decides otherwise: the photo with the face is done again, the other is not
    policy.write_text(text % 1)
    assert mien(*words, "--policy", policy) == 3
    assert (record(output)["counts"]["out"], record(output)["actions"]) == (1, {"keep": 1})
    assert mien(*words, "--policy", policy, "--mask", "head") == 3
    assert record(output)["counts"]["skipped"] == 0  # another mask is another output

    # a photo that was changed and can no longer be understood: what was made of it goes
    (source / "deep" / "a.jpg").write_bytes(b"broken")
    assert mien(*words, "--policy", policy, "--mask", "head") == 3
    assert (record(output)["counts"]["withheld"], record(output)["counts"]["withdrawn"]) == (2, 1)
    assert not (output / "deep" / "a.jpg.jpg").exists()


@pytest.mark.slow
def test_a_dry_run_writes_no_photo(face: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert mien("redact", face, "--output", output, "--dry-run", "--policy", "background-people", *QUICK) == 0
    assert {p.name for p in output.iterdir()} == {
        "dry-run.jsonl", "dry-run-photos.jsonl", "dry-run-0001.html", "dry-run.json",
    }  # fmt: skip
    (row,) = map(json.loads, (output / "dry-run.jsonl").read_text().splitlines())
    assert set(row) == {"uri", "box", "action", "rule", "measures"}
    assert (row["uri"], row["action"], row["rule"]) == (str(face), "preserve", "subjects")
    assert json.loads((output / "dry-run.json").read_text())["counts"]["out"] == 1
    assert "data:image/jpeg" in (output / "dry-run-0001.html").read_text()


def profile() -> bytes:
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    name = "sRGB".encode("utf-16-be")
    assert name in data
    return data.replace(name, "CANA".encode("utf-16-be")) + CANARY


def marked_jpeg(source: Path) -> bytes:
    """A photo as phones write them, and worse: every place beside the pixels says CANARY."""
    with Image.open(source) as image:
        thumbnail = io.BytesIO()
        image.resize((160, 160)).save(thumbnail, "JPEG", comment=CANARY)
        exif = image.getexif()
        for tag in (270, 271, 305, 315, 33432, 37510):
            exif[tag] = CANARY.decode()
        exif.get_ifd(34665)[37500] = CANARY  # maker note
        exif.get_ifd(34853)[27] = CANARY  # GPS
        block = bytearray(exif.tobytes())
        block += thumbnail.getvalue()
        second = io.BytesIO()
        image.resize((300, 320)).save(second, "JPEG", comment=CANARY)
        out = io.BytesIO()
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><xmpGImg:image>CANARY</xmpGImg:image></x:xmpmeta>'
        image.save(out, "JPEG", quality=95, exif=bytes(block), xmp=xmp, comment=CANARY, icc_profile=profile())
    body = b"MPF\0" + CANARY
    mpf = b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body
    return out.getvalue()[:2] + mpf + out.getvalue()[2:] + second.getvalue() + b"trailer " + CANARY


def marked_png(source: Path) -> bytes:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "CANARY")
    texts.add_text("Description", "CANARY" * 100, zip=True)
    texts.add_itxt("XML:com.adobe.xmp", "CANARY" * 100, zip=True)
    out = io.BytesIO()
    with Image.open(source) as image:
        exif = image.getexif()
        exif[270] = "CANARY"
        image.save(out, "PNG", pnginfo=texts, icc_profile=profile(), exif=exif)
    return out.getvalue() + CANARY


def everything(path: Path) -> Iterator[bytes]:
    """A file's bytes, and what is packed in them: zlib streams, and the cells of tables."""
    data = path.read_bytes()
    yield data
    if path.suffix == ".parquet":
        for row in pq.read_table(path).to_pylist():
            yield repr({name: value for name, value in row.items() if name != "uri"}).encode()
            yield row["background"]
    at = data.find(b"\x78")
    while at >= 0:
        with contextlib.suppress(zlib.error):
            yield zlib.decompressobj().decompress(data[at:], 1 << 24)
        at = data.find(b"\x78", at + 1)


def survives(path: Path) -> bool:
    wide = "CANARY".encode("utf-16-be")
    return any(CANARY in part or wide in part for part in everything(path))


@pytest.mark.slow
def test_no_mark_beside_the_pixels_survives(face: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.jpg").write_bytes(marked_jpeg(face))
    (source / "b.png").write_bytes(marked_png(face))
    assert (source / "a.jpg").read_bytes().count(CANARY) > 10
    assert all(survives(path) for path in source.iterdir())
    outputs = []
    for words in (
        ("redact", "--image-format", "jpeg", "--keep", "date"),
        ("redact", "--image-format", "png"),
        ("compress", "--format", "parquet", "--policy", "redact"),
        ("compress", "--format", "blobs", "--policy", "redact", "--background", "webp"),
    ):
        output = tmp_path / f"out{len(outputs)}"
        assert mien(words[0], source, "--output", output, *words[1:], *QUICK) == 0
        outputs.append(output)
    written = [path for output in outputs for path in output.rglob("*") if path.is_file()]
    assert len([path for path in written if path.suffix in (".jpg", ".png", ".parquet", ".webp")]) == 7
    assert [path for path in written if survives(path)] == []


@pytest.mark.slow
def test_what_is_asked_for_is_kept(face: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(marked_jpeg(face))
    words = ("redact", tmp_path / "a.jpg", "--output", tmp_path / "out", "--keep", "copyright", *QUICK)
    assert mien(*words) == 0
    with Image.open(tmp_path / "out" / "a.jpg.jpg") as image:
        assert dict(image.getexif()) == {33432: "CANARY"}
    assert (tmp_path / "out" / "a.jpg.jpg").read_bytes().count(CANARY) == 1


@pytest.mark.slow
def test_new_faces_are_marked(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("redact", small, "--policy", "deidentify", "--image-format", "webp", *QUICK, "--output")
    key = tmp_path / "key"
    key.write_text(hashlib.sha256(b"a key of this test").hexdigest())
    assert mien(*words, tmp_path / "a", "--key-file", key) == 0
    (written,) = (tmp_path / "a").glob("*.webp")
    said = record(tmp_path / "a")
    assert said["actions"]["deidentify"] == 1  # a detector may take something small for a face, which is then filled
    assert b"compositeWithTrainedAlgorithmicMedia" in written.read_bytes()
    assert len(said["settings"]["key_id"]) == 8
    secret = key.read_bytes()
    assert not any(secret in path.read_bytes() for path in (tmp_path / "a").iterdir())
    with Image.open(small) as before, Image.open(written) as after:
        change = np.abs(np.asarray(before, float) - np.asarray(after.convert("RGB"), float))
    assert change[:18].mean() < 8 < change[72:150, 48:120].mean()

    assert main([str(w) for w in (*words, tmp_path / "b", "--workers", 1, "--no-synthesis-mark", "-q")]) == 0
    assert "warning: nothing in the pictures will say" in capsys.readouterr().err
    (other,) = (tmp_path / "b").glob("*.webp")
    assert b"compositeWithTrained" not in other.read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "p.yaml"], "p.yaml:2: rules.0.when.area: min is over 1"),
        (["--policy", "g.yaml"], "empty: the gallery is empty"),
        (["--key-file", "weak"], "weak: the key is too weak"),
        (["--key-file", "nosuch"], "nosuch: the key cannot be read"),
    ],
)
def test_a_job_that_cannot_start(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32)).save("x.jpg")
    Path("p.yaml").write_text("version: 1\nrules: [{name: r, when: {area: {min: 2}}, do: keep}]\notherwise: fill\n")
    Path("g.yaml").write_text("version: 1\nrules: [{name: r, when: {person_in: empty}, do: keep}]\notherwise: fill\n")
    Path("empty").mkdir()
    Path("weak").write_text("passwordpassword")
    assert main(["redact", "x.jpg", "--output", "out", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_unknown_metadata_is_a_bad_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["redact", "x.jpg", "--output", "out", "--keep", "date,name"]) == 2
    assert "unknown field 'name'; known are date, copyright, artist" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("turn", [1, 2])
def test_a_photo_on_its_side_or_its_head_has_all_its_faces_filled(turn: int, tmp_path: Path) -> None:
    source = tmp_path / "x.png"
    with Image.open(DATA / "usds.jpg") as image:
        Image.fromarray(np.rot90(np.asarray(image), turn)).save(source)
    assert mien("redact", source, "--output", tmp_path / "out", "--workers", "1") == 0
    faces = rows(tmp_path / "out")["x.png"]["faces"]
    assert {face["action"] for face in faces} == {"fill"}
    with Image.open(tmp_path / "out" / "x.png.jpg") as image:
        safe = np.ascontiguousarray(np.rot90(np.asarray(image.convert("L")), -turn))
    truth = json.loads((DATA.parent / "faces.json").read_text())
    boxes, _ = true_boxes(truth, "usds.jpg", safe.shape[1])
    for x, y, width, height in boxes.round().astype(int):  # a fill is smooth: the faces have 5.7 to 21
        middle = safe[y + height // 4 : y + 3 * height // 4, x + width // 4 : x + 3 * width // 4]
        assert cv2.Laplacian(middle, cv2.CV_32F).std() < 3
