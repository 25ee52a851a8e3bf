"""Jobs whose policy names a gallery: what is looked at before the start, recorded, done again and counted."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mien.pipelines.cli import main
from mien.pipelines.settings import CompressJob, RedactJob
from mien.transforms.policy.rules import load_policy
from tests.pipelines.conftest import DATA

SAMPLES = [DATA.parent / f"samples/{number}.jpg" for number in (1, 2)]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Who is not in the gallery `people`, which has one photo, is filled in."""
    (tmp_path / "people").mkdir()
    shutil.copy(SAMPLES[0], tmp_path / "people/reference.jpg")
    path = tmp_path / "p.yaml"
    rule = f"{{name: others, when: {{person_not_in: {tmp_path / 'people'}}}, do: fill}}"
    path.write_text(f"version: 1\nrules: [{rule}]\notherwise: keep\n")
    return path


@pytest.mark.parametrize("command", ["compress", "redact"])
def test_a_bad_reference_is_said_before_the_start(
    policy: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (300, 300)).save(tmp_path / "people/black.png")
    assert main([command, str(SAMPLES[0]), "--output", str(tmp_path / "out"), "--policy", str(policy)]) == 2
    error = capsys.readouterr().err
    assert "people/black.png: no face was found" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [CompressJob, RedactJob])
def test_what_is_done_with_another_reference_is_done_in_another_way(
    policy: Path, kind: type[CompressJob] | type[RedactJob]
) -> None:
    first = kind(policy=load_policy(str(policy))).recorded()
    assert kind(policy=load_policy(str(policy))).recorded() == first
    shutil.copy(SAMPLES[1], policy.parent / "people/reference.jpg")
    second = kind(policy=load_policy(str(policy))).recorded()
    assert {name for name in first if first[name] != second[name]} == {"galleries"}


@pytest.mark.slow
def test_a_face_too_small_to_be_told_is_filled_in_and_counted(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(SAMPLES[0]) as image:
        small = Image.new("RGB", (200, 200), (90, 120, 90))
        small.paste(image.resize((60, 60), Image.Resampling.LANCZOS), (70, 70))
        small.save(tmp_path / "small.jpg", quality=95)
    words = ["redact", str(tmp_path / "small.jpg"), "--output", str(tmp_path / "out"), "--policy", str(policy)]
    assert main([*words, "--dry-run", "--workers", "1"]) == 0
    (row,) = map(json.loads, (tmp_path / "out/dry-run.jsonl").read_text().splitlines())
    assert (row["action"], row["doubted"]) == ("fill", True)
    assert json.loads((tmp_path / "out/dry-run.json").read_text())["counts"]["in_doubt"] == 1
    assert "1 faces (1 in doubt)" in capsys.readouterr().err
