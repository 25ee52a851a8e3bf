import argparse
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mien.pipelines import JobError
from mien.pipelines.beam_options import beam_actions, split
from mien.pipelines.cli import main
from mien.pipelines.jobs.redact import _to_be_read_again
from mien.pipelines.parser.commands import parser
from mien.pipelines.parser.options import option_names
from mien.transforms.policy.pseudonyms import read_key
from mien.transforms.policy.rules import load_policy


def test_help_loads_neither_beam_nor_torch() -> None:
    code = (
        "import sys; from mien.pipelines.cli import main; "
        "assert main(['--help']) == main(['compress', '--help']) == 0; "
        "assert not {'apache_beam', 'torch', 'numpy', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def _mien(code: str, shell: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python code behind a shell's redirections; its own status is printed to stderr by the shell."""
    words = ["bash", "-c", f'"$0" -c "$1" --version {shell}', sys.executable, code]
    environment = {**os.environ, **environment}
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60)


def test_streams_that_are_full_closed_or_not_read() -> None:
    code = "import sys; from mien.pipelines.cli import main; sys.exit(main())"
    full = _mien(code, "> /dev/full")
    assert (full.returncode, full.stderr) == (3, "mien: stopped: No space left on device\n")
    for closed in (">&-", "2>&-", "<&-", "<&- >&- 2>&-"):
        assert (_mien(code, closed).returncode, _mien(code, closed).stderr) == (0, "")
    gone = _mien(f"import time; time.sleep(0.5); {code}", "| true; echo ${PIPESTATUS[0]}")
    assert (gone.stdout, gone.stderr) == ("141\n", "")


def test_files_do_not_get_the_numbers_of_closed_streams() -> None:
    code = "from mien.pipelines.cli import _open_streams; _open_streams(); print(open('/dev/null').fileno() > 2)"
    assert _mien(code, "<&- 2>&-").stdout == "True\n"


def test_what_a_terminal_cannot_show_is_escaped() -> None:
    code = "from mien.pipelines.cli import _open_streams; _open_streams(); print('\\u20ac')"
    assert _mien(code, "", PYTHONIOENCODING="latin-1").stdout == "\\u20ac\n"


def test_ctrl_c_says_stopped() -> None:
    code = (
        "import signal, sys; from mien.pipelines import cli; "
        "cli._split_beam = lambda *words: signal.raise_signal(signal.SIGINT); sys.exit(cli.main())"
    )
    assert _mien(code, "").returncode == 130


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "mien 0.1.0\n"


def commands(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """All commands that run something, those of `mien face` too."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for part in action.choices.values():
                inner = list(commands(part))
                yield from inner or [part]


@pytest.mark.parametrize("command", list(commands(parser())), ids=lambda command: command.prog)
def test_help_is_a_page(command: argparse.ArgumentParser) -> None:
    page = command.format_help()
    usage, described, *_, examples, status = page.split("\n\n")
    assert usage.startswith(f"usage: {command.prog} ")
    assert len(described) > 40
    assert status.startswith("Exit status: 0 ")
    lines = examples.splitlines()
    assert lines[0] == "examples:"
    for line in lines[1:]:
        name, *words = shlex.split(line)
        assert name == "mien"
        assert parser().parse_args(words).module == command.get_default("module")
    assert all(action.help for action in command._actions)
    assert max(map(len, page.splitlines())) <= 100


def test_compress_goes_on_until_people_are_known() -> None:
    compress = parser().parse_args(["compress", "x.jpg", "--output", "o"])
    assert (compress.effort, parser().parse_args(["face", "encode", "x.jpg", "--output", "o"]).effort) == (
        "auto",
        "auto",
    )
    assert parser().parse_args(["redact", "x.jpg", "--output", "o"]).effort == "fast"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["compress"],
        ["compress", "x.jpg"],
        ["expand", "x.jpg"],
        ["compress", "x.jpg", "--output", "o", "--outptu", "p"],
        ["compress", "x.jpg", "--output", "o", "--qual", "3"],  # no abbreviations
        ["compress", "x.jpg", "--output", "o", "--runer=DirectRunner"],
        ["compress", "x.jpg", "--output", "o", "--quality", "0"],
        ["compress", "x.jpg", "--output", "o", "--quality", "good"],
        ["compress", "x.jpg", "--output", "o", "--format", "zip"],
        ["compress", "x.jpg", "--output", "o", "--detector", "eyes"],
        ["compress", "x.jpg", "--output", "o", "--workers", "0"],
        ["compress", "x.jpg", "--output", "o", "-q", "-v"],
        ["face"],
        ["face", "encode", "x.jpg", "--output", "o", "--runner", "DirectRunner"],
        ["inspect"],
        ["inspect", "/no/such.avif"],
        ["inspect", "/dev/zero"],
        ["magnify", "x.jpg", "--output", "o", "--aligned", "--factor", "2"],
    ],
)
def test_a_bad_command_line_is_exit_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "mien" in error
    assert error.count("\n") == 1


def test_beams_options_are_told_from_words_and_from_mistakes() -> None:
    own = option_names(parser())
    words = [
        "compress",
        "--runner",
        "DirectRunner",
        "a.jpg",
        "--no_auth",
        "--output=o",
        "--project=p",
        "--jobname",
        "x",
    ]
    assert split(words, own) == (
        ["compress", "a.jpg", "--output=o", "--jobname", "x"],
        ["--runner", "DirectRunner", "--no_auth", "--project=p"],
    )
    assert not own & set(beam_actions())


@pytest.mark.slow
def test_a_disk_that_fills_up(photos: Path, tmp_path: Path) -> None:
    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))  # a file at most, as a full disk would say

    quick = ["--policy", "redact", "--detector", "mediapipe", "--workers", "1"]
    commands = [
        ["compress", str(photos), "--output", str(tmp_path / kind), "--format", kind, *quick]
        for kind in ("blobs", "parquet", "webdataset")
    ]
    code = "import json, sys; from mien.pipelines.cli import main; print([main(w) for w in json.loads(sys.argv[1])])"
    words = [sys.executable, "-c", code, json.dumps(commands)]
    result = subprocess.run(words, capture_output=True, text=True, preexec_fn=small_disk, timeout=300)
    assert result.stdout == "[3, 3, 3]\n", result.stderr
    assert len(re.findall(r"0 of 2 photos, \d+ faces", result.stderr)) == 3  # beside lines of progress
    for kind in ("blobs", "parquet", "webdataset"):
        left = [path for path in (tmp_path / kind).rglob("*") if path.is_file()]
        # run-RUN.json is the run's record as it is kept
        assert {path.name.split("-")[0] for path in left} == {"failures", "run", "run.json"}


def test_a_key_from_a_pipe_is_read_once_and_can_be_read_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    secret = b"0123456789abcdefghijklmnopqrstuvwxyz-by-heart"
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(secret,))
    writer.start()
    again = _to_be_read_again(str(tmp_path / "pipe"), [])
    writer.join()
    (tmp_path / "key").write_bytes(secret)
    assert read_key(again).id == read_key(again).id == read_key(str(tmp_path / "key")).id
    assert _to_be_read_again(str(tmp_path / "key"), []) == str(tmp_path / "key")
    with pytest.raises(JobError, match="a pipe is read but once"):
        _to_be_read_again(str(tmp_path / "pipe"), ["--runner=DataflowRunner"])


def test_a_policy_from_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("version: 1\notherwise: pixelate\n",))
    writer.start()
    assert load_policy(str(tmp_path / "pipe")).actions == {"pixelate"}
    writer.join()
