"""The files that list what failed: failures-NAME.jsonl, a line of JSON each. Without Beam, for single faces."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

PREFIX = "failures-"


def failures_file(name: str) -> str:
    """The file's name. name: a run's id, or a command's where it is no job of Beam's."""
    return f"{PREFIX}{name}.jsonl"


def write_failures(output: Path, name: str, failures: Sequence[Mapping[str, str]]) -> None:
    """Writes the file in a local folder; deletes an earlier one where nothing failed.

    failures: each with uri, stage, error (the exception's class) and message.
    """
    path = output / failures_file(name)
    path.unlink(missing_ok=True)
    if failures:
        path.write_text("".join(f"{json.dumps(failure)}\n" for failure in failures))
