"""What the READMEs say is so: their commands exist, their examples run, their files are there."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mien.pipelines.parser import parser
from mien.transforms.formats.parquet import SCHEMA
from mien.transforms.policy.rules import parse_policy

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / name for name in ("README.md", *(f"{folder}/README.md" for folder in ("pipelines", "transforms", "models")))
]


def blocks(language: str, *pages: Path) -> list[str]:
    texts = [page.read_text() for page in pages or PAGES]
    return [
        block for text in texts for block in re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def commands() -> list[list[str]]:
    """The words after mien of every command in a block of the shell."""
    steps = [step.strip() for block in blocks("sh") for line in block.splitlines() for step in line.split("&&")]
    found = [shlex.split(step.removeprefix(".venv/bin/")) for step in steps if step]
    return [words[1:] for words in found if words[0] == "mien"]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_is_one(words: list[str]) -> None:
    args = parser().parse_args(words)
    assert args.module


def test_the_commands_named_are_those_that_there_are() -> None:
    there = {name for action in parser()._actions if isinstance(action.choices, dict) for name in action.choices}
    named = {name for page in PAGES for name in re.findall(r"`mien\s([a-z]+)", page.read_text())}
    assert named | {words[0] for words in commands()} == there


@pytest.mark.parametrize("page", [*PAGES, ROOT / "tests/README.md"], ids=lambda page: page.parent.name)
def test_files_and_links_are_there(page: Path) -> None:
    links = re.findall(r"\]\((?!http)([^)]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_first_page_is_short_and_has_a_picture() -> None:
    text = PAGES[0].read_text()
    assert len(text.splitlines()) <= 150
    assert "](tests/data/readme.webp)" in text
    assert (ROOT / "tests/data/readme.webp").stat().st_size < 300_000


def test_the_first_block_has_the_two_commands() -> None:
    run, check = blocks("sh", PAGES[0])[0].splitlines()
    assert run.startswith("python3.11 -m venv .venv && ")
    assert "-c constraints.txt . " in run
    assert check.endswith(" && .venv/bin/pytest -n 2 --dist loadfile")


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.strip().rpartition("import ")[2].split()[0])
def test_a_python_example_runs(code: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("portrait.jpg", "photos/a.jpg"):
        shutil.copy(ROOT / "tests/data/samples/2.jpg", tmp_path / name)
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob("portrait-back.png")) or list(tmp_path.glob("tables/photos-*.parquet"))


def test_the_policies_are_some_and_the_pipeline_is_the_one_that_is_tested() -> None:
    (pipeline,), (policy, withholds) = blocks("yaml", PAGES[1]), blocks("yaml", PAGES[2])
    assert parse_policy(withholds, "readme").rules[0].do == "withhold"
    assert [rule.do for rule in parse_policy(policy, "readme").rules] == ["preserve", "realistic"]
    assert (ROOT / "pipelines/compress.yaml").read_text().endswith(pipeline)


def test_the_detector_is_the_one_that_is_tested() -> None:
    assert blocks("python", ROOT / "tests/README.md") == [(ROOT / "tests/data/plates.py").read_text()]


def test_the_table_is_as_described() -> None:
    (text, _) = blocks("text", PAGES[1], PAGES[2])
    columns = ", ".join(f"{field.name} {field.type}" for field in SCHEMA)
    assert " ".join(text.split()) == columns.replace("item: ", "").replace(": ", " ")
