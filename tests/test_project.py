"""The project as a whole: linters, types across folders, pinned versions, and the wheel that is installed."""

import csv
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("models", "transforms", "pipelines")


def run(*words: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """This environment's Python, its output as text."""
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def check_types(mien: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """mypy over all folders, which mien, a folder or a link of that name, has below it."""
    packages = [word for folder in FOLDERS for word in ("-p", f"mien.{folder}")]
    config = ("--config-file", ROOT / "pyproject.toml", "--cache-dir", cache)
    return run("-m", "mypy", *config, *packages, cwd=mien.parent, MYPYPATH=str(mien.parent))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.parametrize("words", [("check",), ("format", "--check")], ids=lambda words: words[0])
def test_ruff_finds_nothing(words: tuple[str, ...]) -> None:
    result = run("-m", "ruff", *words, ".")
    assert result.returncode == 0, result.stdout


@pytest.mark.slow
def test_mypy_finds_nothing(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "mien").symlink_to(ROOT)
    result = check_types(tmp_path / "mien", cache)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_mypy_finds_an_error_across_folders(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "mien").mkdir()
    for folder in FOLDERS[:2]:
        (tmp_path / "mien" / folder).symlink_to(ROOT / folder)
    shutil.copytree(ROOT / "pipelines", tmp_path / "mien" / "pipelines")
    with (tmp_path / "mien" / "pipelines" / "jobs" / "face.py").open("a") as stream:
        stream.write("\n\nPLANTED = decode_image('a text')\n")
    result = check_types(tmp_path / "mien", cache)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "face.py" in result.stdout
    assert '"decode_image" has incompatible type "str"; expected "bytes"' in result.stdout


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    found: dict[str, str] = {}
    for line in lines:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([^=+]+)", line)
        assert match, f"{line}: not one exact version for every platform"
        found[canonicalize_name(match[1])] = match[2]
    return found


def test_every_package_that_mien_brings_is_pinned() -> None:
    known, seen = pins(), set[tuple[str, str]]()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for extra in ("", *wanted.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            needs = [Requirement(text) for text in importlib.metadata.requires(name) or ()]
            waiting += [need for need in needs if not need.marker or need.marker.evaluate({"extra": extra})]
    missing = sorted({name for name, _ in seen} - set(known))
    assert not missing, f"not in constraints.txt: {missing}"


def test_what_is_installed_is_what_is_pinned() -> None:
    known = pins()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in project["dependencies"]:
        name = canonicalize_name(Requirement(text).name)
        assert importlib.metadata.version(name).partition("+")[0] == known[name], name
    owners = set(importlib.metadata.packages_distributions()["cv2"])
    assert len({importlib.metadata.version(owner) for owner in owners}) == 1, f"{owners} overwrite each other's cv2"


@pytest.mark.slow
def test_the_wheel_works_from_another_folder(tmp_path: Path) -> None:
    source, site, away = tmp_path / "source", tmp_path / "site", tmp_path / "away"
    away.mkdir()
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    built = run("-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, cwd=source)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(tmp_path.glob("mien-*.whl"))) as wheel:
        wheel.extractall(site)
    record = next(site.glob("mien-*.dist-info")) / "RECORD"
    packed = {row[0] for row in csv.reader(record.read_text().splitlines())}
    weights = {
        f"mien/{path.relative_to(ROOT).as_posix()}"
        for path in (ROOT / "models/weights").rglob("*.*")
        if path.suffix != ".pyc"
    }
    assert (
        weights
        | {f"mien/{folder}/py.typed" for folder in FOLDERS}
        | {"mien/pipelines/reports/review.html", "mien/pipelines/reports/review.js", "mien/transforms/page.html"}
        <= packed
    )
    assert {path.split("/")[0] for path in packed} == {"mien", record.parent.name}

    where = run("-c", "import mien.models.codec as c; print(c.__file__)", cwd=away, PYTHONPATH=str(site))
    assert where.stdout.startswith(str(site))
    sample = ROOT / "tests/data/samples/1.jpg"
    coded = run(
        "-m",
        "mien.pipelines",
        "face",
        "encode",
        sample,
        "--output",
        "out",
        "--effort",
        "fast",
        cwd=away,
        PYTHONPATH=str(site),
    )
    assert coded.returncode == 0, coded.stderr
    assert 0 < (away / "out" / "1.jpg.mien").stat().st_size <= 64
    helped = run("-m", "mien.pipelines", "--help", cwd=away, PYTHONPATH=str(site))
    assert helped.returncode == 0
    assert "compress" in helped.stdout
