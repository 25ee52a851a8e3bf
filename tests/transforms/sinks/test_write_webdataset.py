import dataclasses
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to
from PIL import Image

from mien.models.faces.alignment import snap_transform
from mien.models.images.files import encode_image
from mien.transforms.elements import CodedFace, CodedPhoto, Failure, HandledFace, ListedFile, SafePhoto
from mien.transforms.formats.blobs import blob_of
from mien.transforms.formats.manifest import Manifest, parts_of
from mien.transforms.formats.webdataset import Sample, sample_of, samples
from mien.transforms.sinks.write_parquet import WriteParquet
from mien.transforms.sinks.write_webdataset import WriteWebDataset
from mien.transforms.sources.read_coded import photos_of_file
from mien.transforms.stores import key_of

RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
TRANSFORM = tuple(snap_transform((0.31, 0.02, 481.3, -0.02, 0.31, 172.9)))
FACE = CodedFace((1.5, 2.25, 30.0, 40.0), TRANSFORM, "preserve", "otherwise", "m1", b"\0payload", 0.5)
FILLED = CodedFace((1.0, 2.0, 3.0, 4.0), (), "fill", "otherwise (not aligned)", "", b"", 0.0)
GREY = encode_image(np.full((48, 64, 3), 120, np.uint8), "webp")


def photo(name: str) -> CodedPhoto:
    return CodedPhoto(f"/in/{name}", 9, 64, 48, GREY, "webp", (FACE, FILLED), "p:1", "0.1.0", name)


def safe(name: str) -> SafePhoto:
    face = HandledFace((1.0, 2.0, 3.0, 4.0), "fill", "otherwise", "fill", score=0.5)
    origin = ListedFile(f"/in/{name}", name, 7, 1.0)
    return SafePhoto(origin.uri, f"{name}.webp", GREY, (face,), "p:1", "0.1.0", origin)


def write(output: Path, photos: Iterable[CodedPhoto | SafePhoto], run: str, *failed: Failure, lost: int = 0) -> None:
    with beam.Pipeline(runner=RUNNER) as pipeline:
        made = pipeline | "Photos" >> beam.Create(list(photos))
        failures = pipeline | "Failures" >> beam.Create(list(failed))
        result = {"photos": made, "failures": failures} | WriteWebDataset(str(output), run, withdraw=True)
        assert_that(result.failures | beam.combiners.Count.Globally(), equal_to([len(failed) + lost]))


def shards(output: Path) -> dict[str, dict[str, bytes]]:
    """The members of the shards that count, by key and suffix; none may be there twice."""
    assert sorted(path.name for path in output.glob("photos-*")) == sorted(parts_of(str(output)).parts)
    found: dict[str, dict[str, bytes]] = {}
    for path in output.glob("photos-*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                stream = tar.extractfile(member)
                assert stream is not None
                assert suffix not in found.setdefault(key, {})
                found[key][suffix] = stream.read()
                assert (member.mtime, member.uid, member.uname, member.mode) == (0, 0, "", 0o644)
    return found


def about(output: Path) -> list[str]:
    return sorted(json.loads(sample["mien.json"])["name"] for sample in shards(output).values())


def test_a_sample_is_the_photo(tmp_path: Path) -> None:
    first = photo("a/ü 1.x.jpg")
    write(tmp_path, [first], "1")
    ((key, sample),) = shards(tmp_path).items()
    assert key == key_of(first.uri)
    assert sample["webp"] == blob_of(first)
    told = json.loads(sample["mien.json"])
    assert [face["bytes"] for face in told.pop("faces")] == [8, 0]
    assert told == {
        "name": first.name, "source_bytes": 9, "width": 64, "height": 48, "policy": "p:1",
        "version": "0.1.0",
    }  # fmt: skip
    (path,) = tmp_path.glob("photos-1-*.tar")
    (back,) = photos_of_file(ListedFile(str(path), path.name, 1, 1.0))
    assert isinstance(back, CodedPhoto)
    assert back.origin is not None
    assert back.origin.photos == 1
    assert dataclasses.replace(back, origin=None, background=b"") == dataclasses.replace(
        first, uri=f"{path}/{key}.webp", background=b"", faces=back.faces
    )
    for one in (first, safe("a/ü 1.x.jpg")):
        assert b"/in/" not in json.dumps(sample_of(one).about).encode()
        assert sample_of(one, record_uri=True).about == {"uri": one.uri, **sample_of(one).about}
    assert [face.payload for face in back.faces] == [b"\0payload", b""]


def test_a_photo_that_is_done_anew_or_withheld_is_not_there_twice(tmp_path: Path) -> None:
    with beam.Pipeline(runner=RUNNER) as pipeline:
        _ = pipeline | beam.Create([photo("a.jpg"), photo("b.jpg")]) | WriteParquet(str(tmp_path), "1")
    write(tmp_path, [photo("b.jpg"), photo("c.jpg"), photo("d.jpg"), photo("e.jpg")], "2")
    assert about(tmp_path) == ["b.jpg", "c.jpg", "d.jpg", "e.jpg"]
    assert len(list(tmp_path.glob("photos-1-*.2.parquet"))) == 1  # a copy of the table without b.jpg
    withheld, unread = (Failure(f"/in/{name}.jpg", stage, "E", "") for name, stage in (("d", "redact"), ("e", "read")))
    write(tmp_path, [safe("a.jpg"), safe("c.jpg")], "3", withheld, unread)
    assert about(tmp_path) == ["a.jpg", "b.jpg", "c.jpg", "e.jpg"]
    assert not list(tmp_path.glob("*.parquet"))
    write(tmp_path, [], "4", Failure("/in/b.jpg", "decode", "E", ""))
    assert about(tmp_path) == ["a.jpg", "c.jpg", "e.jpg"]
    assert not list(tmp_path.glob(".mien*"))
    told = json.loads(shards(tmp_path)[key_of("/in/a.jpg")]["mien.json"])
    assert (told["source_bytes"], told["width"], told["height"]) == (7, 64, 48)
    assert told["faces"] == [
        {"box": [1, 2, 3, 4], "action": "fill", "rule": "otherwise", "score": 0.5, "decided": "fill"}
    ]


def test_a_photo_that_makes_no_sample_costs_no_other(tmp_path: Path) -> None:
    write(tmp_path, [photo("a.jpg"), dataclasses.replace(photo("b.jpg"), background=b"none")], "1", lost=1)
    assert about(tmp_path) == ["a.jpg"]


def test_shards_that_are_cut_or_anothers(tmp_path: Path) -> None:
    write(tmp_path, [photo("a.jpg"), photo("b.jpg")], "1")
    for path in tmp_path.glob("photos-1-*.tar"):  # bundles are the runner's
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        for end, whole in ((members[-1].offset, len(members) - 2), (members[-1].offset_data + 512, len(members))):
            (tmp_path / "cut.tar").write_bytes(path.read_bytes()[:end])
            file = ListedFile(str(tmp_path / "cut.tar"), "cut.tar", 1, 1.0)
            found, caught = [], ""
            try:
                for entry in photos_of_file(file):
                    assert isinstance(entry, CodedPhoto)
                    found.append(entry)
            except tarfile.TarError as error:
                caught = str(error)
            assert "cut off" in caught
            assert len(found) == whole // 2
            assert all(entry.origin and entry.origin.photos > len(found) for entry in found)
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, data in (
            ("x/0.webp", blob_of(photo("0.jpg"))),
            ("x/1.webp", GREY),
            ("x/2.webp", blob_of(photo("2.jpg"))),
            ("x/2.json", b'{"uri": "\\ud800", "name": "../2.jpg"}'),
            ("x/3.webp", blob_of(photo("3.jpg"))),
            ("x/3.json", b'{"uri": "u", "name": "../3.jpg", "source_bytes": -1}'),
            ("x/4.json", b"{}"),
            ("x/5.webp", blob_of(photo("5.jpg"))),
            ("x/5.json", b"{"),
        ):
            (tmp_path / "member").write_bytes(data)
            tar.add(tmp_path / "member", name)
    entries = list(photos_of_file(ListedFile(str(tmp_path / "s.tar"), "s.tar", 1, 1.0)))
    kinds = [entry.name if isinstance(entry, CodedPhoto) else type(entry).__name__ for entry in entries]
    assert kinds == ["s.tar/x/0.webp", "ContainerError", "UnicodeEncodeError", "%2E%2E/3.jpg", "ImageError"]


def test_json_nested_too_deep_costs_one_sample(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, data in (("a.webp", GREY), ("a.json", b"[" * 200_000), ("b.webp", GREY), ("b.json", b"{}")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    damaged, whole = samples(str(tmp_path / "s.tar"), {".webp"}, 10_000)
    assert str(damaged) == "'a.json': JSON that is nested too deep"
    assert isinstance(whole, Sample)
    with pytest.raises(ValueError, match="no manifest of tables"):
        Manifest.from_json(b"[" * 200_000)


def test_a_safe_photo_may_have_more_pixels_than_pillow_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with --max-pixels of more than Pillow's own bound, here 2 x 10."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for codec in ("jpeg", "png", "webp", "avif"):
        data = encode_image(np.full((48, 64, 3), 120, np.uint8), codec)
        about = sample_of(dataclasses.replace(safe("a.jpg"), name=f"a.jpg.{codec}", data=data)).about
        assert (about["width"], about["height"]) == (64, 48)
