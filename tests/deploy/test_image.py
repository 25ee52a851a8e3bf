"""The image's Dockerfile, the compose file and the commands of the guides: linted, and consistent with the project."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mien.pipelines import template
from mien.pipelines.beam_options import split
from mien.pipelines.parser import option_names, parser
from tests.deploy import dockerfile
from tests.test_project import pins

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
GUIDES = [DEPLOY / "README.md", DEPLOY / "flink" / "README.md"]


def tool(name: str) -> str:
    path = shutil.which(name, path=str(Path(sys.executable).parent))
    if path is None:
        pytest.skip(f"{name} is not installed (extra dev)")
    return path


def blocks(guide: Path) -> list[str]:
    """The guide's commands, block by block, out of their lists."""
    found = re.findall(r"^( *)```sh\n(.*?)^\1```$", guide.read_text(), re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def test_hadolint_finds_nothing() -> None:
    result = subprocess.run([tool("hadolint"), DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("path", [*GUIDES, *DEPLOY.rglob("*.sh")], ids=lambda path: path.relative_to(DEPLOY).as_posix())
def test_shellcheck_finds_nothing(path: Path) -> None:
    script = path.read_text() if path.suffix == ".sh" else "\n".join(["#!/bin/bash", *blocks(path)])
    # the guides' cd and variables are a person's, who sees what happens
    words = [tool("shellcheck"), "--exclude=SC2164,SC2155", "-"]
    result = subprocess.run(words, input=script, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_versions_are_those_that_mien_is_tested_with() -> None:
    images = dockerfile.images()
    assert images["sdk"] == f"apache/beam_python3.11_sdk:{pins()['apache-beam']}"
    assert all(re.search(r":[0-9][^:]*$", image) for image in images.values() if "/" in image or ":" in image), images
    assert images["wheel"] == images["installed"] == "python:3.11.14-slim-bookworm"
    compose = yaml.safe_load((DEPLOY / "flink" / "compose.yaml").read_text())
    flink = re.fullmatch(r"flink:(\d+\.\d+)-.*", compose["services"]["taskmanager"]["image"])
    assert flink
    assert compose["services"]["jobserver"]["image"] == (
        f"apache/beam_flink{flink[1]}_job_server:{pins()['apache-beam']}"
    )
    variables = (DEPLOY / "dataflow" / "terraform" / "variables.tf").read_text()
    assert (
        f'"{re.search(r"""^version = "(.*)"$""", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]}"' in variables
    )  # type: ignore[index]


def test_the_image_has_what_it_starts() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    (launched,) = re.findall(r"FLEX_TEMPLATE_PYTHON_PY_FILE=(\S+)", text)
    assert f"COPY deploy/dataflow/launch.py {launched}\n" in text
    launcher = (DEPLOY / "dataflow" / "launch.py").read_text()
    assert f"from {template.__name__} import main" in launcher
    (entry,) = re.findall(r'ENTRYPOINT \["(/opt[^"]*)"\]', text)
    assert re.search(rf"COPY --from=sdk {Path(entry).parent} {Path(entry).parent}\n", text)
    assert text.rstrip().rpartition("FROM ")[2].splitlines()[0] == "installed AS worker", "the default target"
    mien = text.partition("FROM installed AS mien")[2].partition("FROM ")[0]
    assert re.search(r"^USER [1-9]\d*$", mien, re.MULTILINE), "not as root"


def test_torch_is_the_only_package_from_another_index_than_pypi() -> None:
    torch, mien = dockerfile.pip_installs("constraints.txt", "mien.whl")
    assert torch[-1] == "torch"
    assert "--no-deps" in torch, "what torch needs would come from torch's index"
    assert torch[torch.index("--index-url") + 1] == dockerfile.arguments()["TORCH_INDEX"]
    assert [word for word in mien if "index" in word or "find-links" in word] == []
    assert mien[-1] == "mien.whl"
    for words in (torch, mien):
        assert words[words.index("--constraint") + 1] == "constraints.txt"
    assert "extra-index-url" not in "".join(rest for _, rest in dockerfile.instructions())


def test_the_command_is_not_process_1() -> None:
    assert "tini" in dockerfile.system_packages("mien")
    (entry,) = [rest for word, rest in dockerfile.stage("mien") if word == "ENTRYPOINT"]
    assert entry == '["/usr/bin/tini", "--", "mien"]'


def test_the_build_sees_what_it_copies() -> None:
    seen = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {word for words in dockerfile.copied() for word in words}
    assert copied == seen
    assert not [path for path in copied if not (ROOT / path).exists()]
    # every folder that setup.py installs, and every file that pyproject.toml names
    assert {"models", "transforms", "pipelines", "README.md", "LICENSE", "NOTICE"} <= copied


def test_the_system_libraries_are_those_that_the_readme_names() -> None:
    (readme,) = re.findall(r"`apt-get install (.*?)`", (ROOT / "README.md").read_text())
    assert set(readme.split()) == set(dockerfile.system_packages())


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.parent.name)
def test_the_guides_commands_are_commands(guide: Path) -> None:
    text = "\n".join(blocks(guide)).replace("\\\n", " ")
    # after mien as a program of its own, and as a service of compose or an image
    lines = re.findall(r"(?:^|run --rm |^\s*)mien ((?:compress|redact|restore|magnify) [^\n]*)", text, re.MULTILINE)
    assert lines
    for line in lines:
        words, beam = split(line.replace('"', "").split(), option_names(parser()))
        assert parser().parse_args(words).beam
        assert len(beam) == len([word for word in line.split() if word.lstrip('"').startswith("--")]) - len(
            [word for word in words if word.startswith("--")]
        )


def test_files_that_the_guides_name_are_there() -> None:
    for guide in GUIDES:
        links = re.findall(r"\]\((?!http)([^)]+)\)", guide.read_text())
        assert [link for link in links if not (guide.parent / link).exists()] == []
        for name in re.findall(r"--file (\S+)|--config (\S+)|-chdir=(\S+)", guide.read_text()):
            assert (ROOT / "".join(name)).exists(), name


@pytest.mark.slow
def test_what_dataflow_would_stage_for_a_setup_file_has_the_weights(tmp_path: Path) -> None:
    import tarfile

    source = tmp_path / "mien"
    source.mkdir()
    for name in sorted({word for words in dockerfile.copied() for word in words} - {"deploy/dataflow/launch.py"}):
        path = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(path, source / name, ignore=ignore) if path.is_dir() else shutil.copy(path, source)
    words = [sys.executable, "setup.py", "-q", "sdist", "--formats", "tar", "--dist-dir", str(tmp_path)]
    built = subprocess.run(words, cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    with tarfile.open(next(tmp_path.glob("*.tar"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    weights = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "models/weights").rglob("*.*") if path.suffix != ".pyc"
    }
    files = [path for path in (ROOT / "pipelines").rglob("*") if path.suffix in (".html", ".js")]
    pages = {path.relative_to(ROOT).as_posix() for path in files}
    assert pages
    assert weights | pages | {"setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"} <= names
