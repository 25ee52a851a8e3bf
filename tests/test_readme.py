"""What the README says is so: its commands exist, its examples run, its files are there."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mien.pipelines import cli
from mien.transforms.formats.parquet import SCHEMA
from mien.transforms.policy.rules import parse_policy

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
TO_COME = "## What it does not do, yet"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The words after mien of every command in a block of the shell."""
    steps = [step.strip() for block in blocks("sh") for line in block.splitlines() for step in line.split("&&")]
    found = [shlex.split(step.removeprefix(".venv/bin/")) for step in steps]
    return [words[1:] for words in found if words[0] == "mien"]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_is_one(words: list[str]) -> None:
    args = cli.parser().parse_args(words)
    assert args.module


def test_the_commands_named_are_those_that_there_are() -> None:
    there = {name for action in cli.parser()._actions if isinstance(action.choices, dict) for name in action.choices}
    named = set(re.findall(r"`mien ([a-z]+)", README.partition(TO_COME)[0]))
    assert named | {words[0] for words in commands()} == there


def test_files_and_links_are_there() -> None:
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert "tests/data/readme.webp" in links
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert (ROOT / "tests/data/readme.webp").stat().st_size < 300_000


def test_the_first_block_has_the_two_commands() -> None:
    run, check = blocks("sh")[0].splitlines()
    assert run.startswith("python3.11 -m venv .venv && ")
    assert "-c constraints.txt . " in run
    assert check.endswith("pytest")


@pytest.mark.parametrize("code", blocks("python"), ids=["face", "magnify", "beam"])
def test_a_python_example_runs(code: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("portrait.jpg", "photos/a.jpg"):
        shutil.copy(ROOT / "tests/data/samples/2.jpg", tmp_path / name)
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob("portrait-back.png")) or list(tmp_path.glob("tables/photos-*.parquet"))


def test_the_policy_is_one_and_the_pipeline_is_the_one_that_is_tested() -> None:
    policy, pipeline = blocks("yaml")
    assert [rule.do for rule in parse_policy(policy, "readme").rules] == ["preserve", "realistic"]
    assert (ROOT / "pipelines/compress.yaml").read_text().endswith(pipeline)


def test_the_table_is_as_described() -> None:
    (text,) = blocks("text")
    columns = ", ".join(f"{field.name} {field.type}" for field in SCHEMA)
    assert " ".join(text.split()) == columns.replace("item: ", "").replace(": ", " ")
