"""mien audit on real outputs: copies, safe photos, coded ones, pixelated faces, other people's faces."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mien.models.faces.alignment import align_face
from mien.models.faces.face import Face
from mien.models.faces.landmarks import FaceLandmarker
from mien.models.images.files import decode_image, encode_image
from mien.pipelines.cli import main
from mien.pipelines.reports.audit import Originals, _originals
from mien.transforms.elements import ListedFile

DATA = Path(__file__).parents[2] / "data"
Compressed = Callable[[str], Path]
Pixels = npt.NDArray[np.uint8]
CANARY = "canary of the meadow 5309"


def audit(output: Path, originals: Path, report: Path, *words: str) -> tuple[int, dict[str, Any]]:
    status = main(["audit", str(output), "--originals", str(originals), "--output", str(report), "-q", *words])
    found: dict[str, Any] = json.loads((report / "audit.json").read_text())
    return status, found


def kinds(report: dict[str, Any]) -> set[str]:
    return {one["kind"] for one in report["findings"]}


def all_keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for part in value.values() for key in all_keys(part)}
    return {key for part in value for key in all_keys(part)} if isinstance(value, list) else set()


@pytest.fixture(scope="module")
def faces() -> list[Pixels]:
    """32 aligned faces of a group photo."""
    photo = decode_image((DATA / "photos" / "team.jpg").read_bytes())
    truth = json.loads((DATA / "faces.json").read_text())["team.jpg"]
    scale = photo.shape[1] / truth["width"]
    found: list[Pixels] = []
    with FaceLandmarker() as landmarker:
        for x, y, width, height in truth["faces"]:
            box = (x * scale, y * scale, width * scale, height * scale)
            face = landmarker.locate(photo, Face(box, 1.0))
            if face.transform and len(found) < 32:
                found.append(align_face(photo, face.transform))
    assert len(found) == 32
    return found


def write(folder: Path, pictures: list[Pixels], suffix: str = ".png") -> Path:
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        (folder / f"{number:02}.png{suffix if suffix != '.png' else ''}").write_bytes(
            encode_image(picture, "png" if suffix == ".png" else "jpeg", 80)
        )
    return folder


@pytest.mark.slow
def test_the_faces_themselves_are_recognised_every_one(faces: list[Pixels], tmp_path: Path) -> None:
    originals = write(tmp_path / "originals", faces[:16])
    status, report = audit(write(tmp_path / "out", faces[:16], ".jpg"), originals, tmp_path / "report", "--aligned")
    assert status == 3
    assert {"face as it was", "linked by mobilefacenet"} <= kinds(report)
    group = report["views"]["shown"]["reidentification"][0]
    own = group["recognisers"][0]
    assert (own["rank1"][0], own["rank5"][0], own["chance1"]) == (1, 1, pytest.approx(1 / 16, rel=0.2))
    assert own["eer"][0] < 0.02
    assert all(parrot["rank1"][0] > 0.9 for parrot in group["parrots"])
    view = report["views"]["shown"]
    assert view["distortion"]["pose_within"] > 0.9
    assert view["distortion"]["yaw"]["median"] < 1
    assert view["realism"]["kid"]["mean"] < 1


@pytest.mark.slow
def test_other_people_are_not(faces: list[Pixels], tmp_path: Path) -> None:
    originals = write(tmp_path / "originals", faces[:16])
    _, report = audit(write(tmp_path / "out", faces[16:]), originals, tmp_path / "report", "--aligned")
    group = report["views"]["shown"]["reidentification"][0]
    own = group["recognisers"][0]
    assert own["rank1"][1] <= own["chance1"] <= own["rank1"][2]
    assert not own["above_chance"]
    assert report["views"]["shown"]["verdicts"]["as it was"] == 0
    assert not kinds(report) & {"linked by mobilefacenet", "linked by the parrot", "face as it was"}


@pytest.mark.slow
def test_a_parrot_reads_mosaics_that_a_recogniser_does_not(faces: list[Pixels], tmp_path: Path) -> None:
    def mosaic(face: Pixels, blocks: int) -> Pixels:
        small = cv2.resize(face, (blocks, blocks), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, (512, 512), interpolation=cv2.INTER_NEAREST), np.uint8)

    originals = write(tmp_path / "originals", faces[:16])
    output = write(tmp_path / "out", [mosaic(face, 14) for face in faces[:16]])
    _, report = audit(output, originals, tmp_path / "report", "--aligned")
    group = report["views"]["shown"]["reidentification"][0]
    plain, (_, parrot) = group["recognisers"][0], group["parrots"]
    assert parrot["level"] == "appearance"
    assert parrot["rank1"][1] > parrot["chance"]
    assert parrot["times_chance"][0] / (parrot["held_out_originals"] / 4) > 2
    assert parrot["rank1"][0] > plain["rank1"][0]
    assert report["views"]["shown"]["realism"]["kid"]["mean"] > 1


@pytest.mark.slow
def test_redacted_photos_pass_and_the_page_shows_nobody(photos: Path, tmp_path: Path) -> None:
    words = ["compress", str(photos), "--output", str(tmp_path / "safe"), "--format", "blobs", "--policy", "redact"]
    assert main([*words, "--background", "jpeg", "--workers", "1", "-q"]) == 0
    status, report = audit(tmp_path / "safe", photos, tmp_path / "report")
    assert (status, report["findings"]) == (0, [])
    assert report["counts"]["audited"] == report["counts"]["originals"] == 2
    verdicts = report["views"]["shown"]["verdicts"]
    assert verdicts["gone"] >= 5
    assert verdicts["gone"] + verdicts["changed"] == report["counts"]["original_faces"]
    text = (tmp_path / "report" / "audit.json").read_text()
    assert "x.jpg" not in text
    assert not all_keys(report) & {"embeddings", "learned", "name", "uri", "transform", "landmarks"}
    page = (tmp_path / "report" / "audit.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "data:image/jpeg" not in page
    assert "0 kinds of finding" in page


@pytest.mark.slow
def test_copies_with_metadata_are_leaks(photos: Path, tmp_path: Path) -> None:
    marked, copies = tmp_path / "marked", tmp_path / "copies"
    for name in ("a", "b"):
        for folder in (marked, copies):
            (folder / name).mkdir(parents=True)
    with Image.open(photos / "a" / "x.jpg") as image:
        exif = Image.Exif()
        exif[270], exif[0x8825] = CANARY, {1: "N", 2: (47.0, 30.0, 12.0)}
        image.save(marked / "a" / "x.jpg", exif=exif, comment="a comment in the file", quality=95)
        image.save(copies / "a" / "x.jpg.jpg", quality=80)
    with (copies / "a" / "x.jpg.jpg").open("ab") as file:
        file.write(CANARY.encode())
    shutil.copy(photos / "b" / "x.jpg", marked / "b")
    (copies / "b" / "y.jpg").write_bytes((photos / "b" / "x.jpg").read_bytes())
    status, report = audit(copies, marked, tmp_path / "report")
    assert status == 3
    assert {"face as it was", "trailer", "trace of the original", "not audited"} <= kinds(report)
    assert report["counts"]["not_audited"] == report["counts"]["originals_without_output"] == 1
    assert CANARY not in (tmp_path / "report" / "audit.json").read_text()
    assert CANARY not in (tmp_path / "report" / "audit.html").read_text()
    sizes = report["views"]["shown"]["sizes"]
    assert sum(size["agreed"]["as it was"] for size in sizes) == sum(size["agreed"]["faces"] for size in sizes) > 0


@pytest.mark.slow
def test_coded_photos_are_seen_as_shown_and_as_restored(compressed: Compressed, photos: Path, tmp_path: Path) -> None:
    """One photo as a blob and in a table, whose other photo has no original here."""
    blob = audit(compressed("blobs") / "a", photos / "a", tmp_path / "blob")[1]
    status, table = audit(compressed("parquet"), photos / "a", tmp_path / "table")
    assert (status, table["counts"]["not_audited"], kinds(table) - kinds(blob)) == (3, 1, {"not audited"})
    assert table["counts"]["audited"] == blob["counts"]["audited"] == 1
    assert {view: found["rows"] for view, found in table["views"].items()} == {
        view: found["rows"] for view, found in blob["views"].items()
    }
    shown, restored = (blob["views"][view]["rows"] for view in ("shown", "restored"))
    coded = [i for i, row in enumerate(shown) if row["action"] == "preserve"]
    assert len(shown) == len(restored) > len(coded) > 0
    assert {shown[i]["verdict"] for i in coded} <= {"gone", "changed"}
    # a detector alone may take what is filled in for a face
    assert sum(len(restored[i]["seen_by"]) for i in coded) > sum(len(shown[i]["seen_by"]) for i in coded)
    likeness = [[rows[i]["similarity"]["mobilefacenet"] for i in coded] for rows in (shown, restored)]
    assert np.mean(likeness[1]) > np.mean(likeness[0]) + 0.1
    kept = [row for row in shown if row["action"] == "keep"]
    assert {row["verdict"] for row in kept} <= {"kept by a rule"}
    # what no rule let stay is what the job's detectors did not find, and the audit's two, each alone, did
    left = [row for row in shown if row["verdict"] == "as it was"]
    assert all(row["action"] == "" for row in left)
    assert any("as it was" in kind for kind in kinds(blob)) == bool(left)


def test_a_damaged_shard_does_not_stop_the_rest(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "b.tar").write_bytes(b"\x1f\x8b and so on")
    failures: list[str] = []
    assert [file.name for file in _originals(str(tmp_path), failures)] == ["a.jpg"]
    assert [failure.partition(": ")[2] for failure in failures] == [
        "cannot be read: it is compressed (gzip): its photos can be read once it is unpacked"
    ]


def test_outputs_are_matched_by_their_names() -> None:
    names = ("a/team.jpg", "b/team.jpg", "b/team.png", "c/one.tif")
    originals = Originals([ListedFile(f"/in/{name}", name, 1, 0.0) for name in names])
    found = {
        name: file.name if (file := originals.match(name)) else None
        for name in (
            "a/team.jpg",
            "a/team.jpg.avif",
            "b/team.jpg.png.jpg",
            "b/team.webp",
            "c/one.tif.jpg",
            "c/one.webp",
        )
    }
    assert list(found.values()) == ["a/team.jpg", "a/team.jpg", "b/team.jpg", None, "c/one.tif", "c/one.tif"]
    assert originals.match("z/q.jpg", "/in/a/team.jpg") == originals.by_name["a/team.jpg"]
    assert originals.match("in/a/team.jpg.jpg") is None  # could be another team's
    assert originals.match("one.tif.jpg") == originals.by_name["c/one.tif"]
    assert originals.match("team.jpg.jpg") is None  # of two folders
    assert originals.match("other.jpg") is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "--originals", "."], "nowhere"),
        ([".", "--originals", "nowhere"], "nowhere"),
        ([".", "--originals", ".", "--dlib-models", "."], "dlib"),
    ],
)
def test_a_bad_command_line_is_told(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DATA / "samples" / "1.jpg", tmp_path)
    assert main(["audit", *words, "--output", "report"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
