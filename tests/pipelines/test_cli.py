import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from mien.pipelines.beam_options import beam_actions, split
from mien.pipelines.cli import _options as options
from mien.pipelines.cli import main, parser


def test_help_loads_neither_beam_nor_torch() -> None:
    code = (
        "import sys; from mien.pipelines.cli import main; "
        "assert main(['--help']) == main(['compress', '--help']) == 0; "
        "assert not {'apache_beam', 'torch', 'numpy', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "mien 0.1.0\n"


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
        ["magnify", "x.jpg", "--output", "o", "--aligned", "--factor", "2"],
    ],
)
def test_a_bad_command_line_is_exit_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "mien" in error
    assert error.count("\n") == 1


def test_beams_options_are_told_from_words_and_from_mistakes() -> None:
    own = options(parser())
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
