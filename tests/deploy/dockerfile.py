"""What deploy/Dockerfile says, instruction by instruction."""

import re
import shlex
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "deploy" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """(instruction, the rest of it), lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], " ".join(line.split()[1:])) for line in text.splitlines() if line.strip()]


def arguments() -> dict[str, str]:
    """Build arguments with their defaults."""
    return dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG" and "=" in rest)


def images() -> dict[str, str]:
    """What each stage starts from, arguments filled in."""
    found = {}
    for word, rest in instructions():
        if word == "FROM":
            image, _, stage = rest.partition(" AS ")
            found[stage] = re.sub(r"\$\{(\w+)\}", lambda match: arguments()[match[1]], image)
    return found


def copied() -> list[list[str]]:
    """What is copied from the build's context."""
    return [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]


def stage(name: str) -> list[tuple[str, str]]:
    """The instructions of one stage, without its FROM."""
    found = instructions()
    begin = next(i for i, (word, rest) in enumerate(found) if word == "FROM" and rest.endswith(f" AS {name}")) + 1
    end = next((i for i, (word, _) in enumerate(found[begin:], begin) if word == "FROM"), len(found))
    return found[begin:end]


def system_packages(name: str = "installed") -> list[str]:
    """What apt-get installs in a stage."""
    (run,) = [rest for word, rest in stage(name) if word == "RUN" and "apt-get install" in rest]
    words = run.partition("apt-get install")[2].partition("&&")[0].split()
    return [word for word in words if not word.startswith("-")]


def pip_installs(constraints: str, wheel: str, index: str | None = None) -> list[list[str]]:
    """The words behind `python -m` of the commands that install torch and mien, with other places for their files."""
    found = []
    for run in [rest for word, rest in instructions() if word == "RUN" and "pip install" in rest]:
        command = re.sub(r"^(--mount=\S+ )+", "", run).partition("&&")[0]
        command = command.replace("${TORCH_INDEX}", index or arguments()["TORCH_INDEX"])
        found.append(
            shlex.split(command.replace("/opt/mien/constraints.txt", constraints).replace("/wheels/*.whl", wheel))
        )
        assert found[-1][:2] == ["pip", "install"]
    return found
