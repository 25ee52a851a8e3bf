"""mien policy; and jobs with withholding rules, detectors of one's own, and boxes in and out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.pipelines.cli import main
from tests.pipelines.conftest import DATA, failures, mien, record

SEVERAL = "{version: 1, rules: [{name: crowd, when: {count: {min: 2}}, do: withhold}], otherwise: fill}"
SIGNS = "{version: 1, rules: [{name: signs, when: {kind: sign}, do: pixelate}], otherwise: fill}"
DETECTOR = """
import itertools, time
class Odd:
    kind = "sign"
    def detect(self, pixels):
        which = int(pixels[0, 0, 0]) // 20
        if which == 1:
            raise RuntimeError("no luck")
        if which == 2:
            time.sleep(600)
        if which == 3:
            return [(1, 2, float("nan"), 4, 0.5)]
        if which == 4:
            return [(1, 2, 3, 4, 0.5)] * 10_000
        if which == 5:
            return [(900, 2, 3, 4, 0.5)]
        return [(10, 10, 20, 12, 0.9)]
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(SEVERAL)
    return path


def test_a_policy_is_explained(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", str(policy)]) == 0
    assert "1. crowd: a face that is in a photo with at least 2 faces keeps its whole" in capsys.readouterr().out
    policy.write_text("{version: 1, otherwise: hide}")
    assert main(["policy", str(policy)]) == 2
    assert capsys.readouterr().err.startswith(f"mien: {policy}:1: otherwise: 'hide' is none of")
    policy.write_text(SIGNS)
    assert main(["policy", str(policy), str(DATA / "team.jpg")]) == 2
    assert "the rule 'signs' is for sign, which no detector" in capsys.readouterr().err


@pytest.mark.slow
def test_a_policy_is_tried(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in"
    source.mkdir()
    with Image.open(DATA / "allhands.jpg") as image:
        image.crop((110, 430, 410, 750)).save(source / "one.jpg")
    with Image.open(DATA / "usds.jpg") as image:
        image.crop((150, 100, 750, 500)).save(source / "many.jpg")
    (source / "bad.jpg").write_bytes(b"no photo")
    before = sorted(tmp_path.rglob("*"))
    assert main(["policy", str(policy), str(source), "--detector", "mediapipe", "-q"]) == 3
    told = capsys.readouterr()
    assert "3 photos, 1 withheld by the policy, 1 not understood; " in told.out
    assert "       1  otherwise  fill\n" in told.out
    assert "  crowd      withhold\n" in told.out
    assert "bad.jpg: decode: " in told.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_rule_withholds_what_an_earlier_policy_let_through(policy: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    with Image.open(DATA / "usds.jpg") as image:
        image.crop((150, 100, 750, 500)).save(source / "many.jpg")
    words = ("redact", source, "--output", output, "--detector", "mediapipe")
    assert mien(*words) == 0
    assert (output / "many.jpg.jpg").exists()
    assert mien(*words, "--policy", policy) == 3
    assert not (output / "many.jpg.jpg").exists()
    found = record(output)
    assert (found["counts"]["withheld"], found["counts"]["withdrawn"]) == (1, 1)
    assert found["actions"] == {"withhold": found["counts"]["faces"]}
    (failure,) = failures(output).values()
    assert (failure["stage"], failure["error"]) == ("decide", "WithheldByRuleError")
    assert failure["message"].startswith("withheld by the rule 'crowd' for face 1 (")


@pytest.mark.slow
def test_detectors_that_fail_cost_their_photo_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output, policy = tmp_path / "in", tmp_path / "out", tmp_path / "p.yaml"
    source.mkdir()
    for which in range(6):
        Image.new("RGB", (64, 48), (20 * which, 200, 200)).save(source / f"{which}.png")
    with Image.open(source / "0.png") as image:
        image.paste((0, 0, 0), (15, 12, 25, 20))
        image.save(source / "0.png")
    (tmp_path / "odd_detector.py").write_text(DETECTOR)
    monkeypatch.syspath_prepend(tmp_path)
    policy.write_text(SIGNS)
    words = ("redact", source, "--output", output, "--policy", policy, "--image-format", "png")
    own = ("--detector", "odd_detector:Odd", "--photo-seconds", 3)
    assert mien(*words, *own) == 3
    told = {name: failure["message"] for name, failure in failures(output).items()}
    assert told["1.png"] == "detector 'odd_detector:Odd' failed: RuntimeError: no luck"
    assert "in detect (--photo-seconds)" in told["2.png"]
    assert told["3.png"] == "detector 'odd_detector:Odd' gave a box that is not finite"
    assert told["4.png"] == "detector 'odd_detector:Odd' gave over 1000 boxes"
    assert told["5.png"] == "detector 'odd_detector:Odd' gave a box outside the frame of 64 x 48: 3 x 4 at 900, 2"
    assert sorted(path.name for path in output.glob("*.png")) == ["0.png.png"]
    (row,) = map(json.loads, next(iter(output.glob("index-*"))).read_text().splitlines())
    assert [(face["kind"], face["action"], face["rule"]) for face in row["faces"]] == [("sign", "pixelate", "signs")]
    after, before = (np.asarray(Image.open(path)) for path in (output / "0.png.png", source / "0.png"))
    assert not (after[10:22, 10:30] == before[10:22, 10:30]).all(-1).any()  # to its very corners
    assert (after[:8] == before[:8]).all()


@pytest.mark.slow
def test_boxes_in_and_boxes_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    (source / "a").mkdir(parents=True)
    shutil.copy(DATA.parent / "samples" / "1.jpg", source / "a" / "x.jpg")
    width, height = Image.open(source / "a" / "x.jpg").size
    Image.new("RGB", (64, 48), (9, 99, 9)).save(source / "none.png")
    Image.new("RGB", (64, 48), (9, 99, 9)).save(source / "unknown.png")
    boxes = tmp_path / "b.csv"
    boxes.write_text("image,x,y,w,h\na/x.jpg,10,20,30,40\nnone.png,,,,\ngone.jpg,1,2,3,4\n")
    words = ("redact", source, "--output", output, "--detector", "none", "--boxes", boxes, "--image-format", "png")
    assert mien(*words, "--write-boxes", "coco") == 3
    assert f"warning: {boxes}: no photo of this name: gone.jpg" in capsys.readouterr().err
    assert {name: failure["error"] for name, failure in failures(output).items()} == {"unknown.png": "BoxesError"}
    written = json.loads((output / "a" / "x.jpg.png.coco.json").read_text())
    (image,), (one,) = written["images"], written["annotations"]
    assert (image["file_name"], image["width"], image["height"]) == ("x.jpg.png", width, height)
    assert (one["bbox"], one["action"]) == ([10.0, 20.0, 30.0, 40.0], "fill")
    assert json.loads((output / "none.png.png.coco.json").read_text())["annotations"] == []
    # what was written is taken in again, another margin is another fingerprint, and masks show what was painted over
    shutil.move(output / "a" / "x.jpg.png.coco.json", tmp_path / "again.json")
    (tmp_path / "again.json").write_text((tmp_path / "again.json").read_text().replace("x.jpg.png", "x.jpg"))
    words = ("redact", source / "a", "--detector", "none", "--boxes", tmp_path / "again.json", "--image-format", "png")
    sizes = {}
    for margin in (0, 0.5):
        out = tmp_path / f"out{margin}"
        assert mien(*words, "--output", out, "--write-boxes", "masks", "--margin", margin) == 0
        mask = np.asarray(Image.open(out / "x.jpg.png.mask.png"))
        after, before = (np.asarray(Image.open(p).convert("RGB")) for p in (out / "x.jpg.png", source / "a" / "x.jpg"))
        assert not ((after != before).any(-1) & (mask == 0)).any()
        sizes[margin] = int((mask > 0).sum())
    assert sizes[0.5] > 2 * sizes[0]  # the photo's border cuts the larger one
    assert mien(*words, "--output", tmp_path / "out0", "--write-boxes", "yolo") == 0
    assert not (tmp_path / "out0" / "x.jpg.png.mask.png").exists()
    label = (tmp_path / "out0" / "x.jpg.png.txt").read_text().split()
    assert [float(part) for part in label] == pytest.approx(
        [0, 25 / width, 40 / height, 30 / width, 40 / height], abs=1e-5
    )
