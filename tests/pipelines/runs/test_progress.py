import fcntl
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from mien.pipelines.runs.progress import DONE, FAILED, LISTED, SKIPPED, Progress, SendProgress
from mien.transforms.elements import CodedPhoto
from mien.transforms.workers.stage import photo_id

PHOTO = CodedPhoto("u", 1, 2, 3, b"", "avif", ("face", "face"), "p", "v")  # type: ignore[arg-type]


def tell(progress: Progress | None, kind: bytes, count: int, element: object = "x") -> None:
    stage = SendProgress(progress.address if progress else None, kind)
    stage.setup()
    for _ in range(count):
        assert list(stage.process(element)) == [element]
    stage.teardown()


def test_what_workers_tell_adds_up() -> None:
    progress = Progress(quiet=False)
    tell(progress, LISTED, 10)
    tell(progress, SKIPPED, 3)
    tell(progress, DONE, 4, PHOTO)
    tell(progress, FAILED, 1)
    for _ in range(50):
        if progress.line().startswith("5 of 7 photos") and "8 faces, 1 failed" in progress.line():
            break
        time.sleep(0.1)
    else:
        pytest.fail(progress.line())
    progress.close()


def test_a_job_elsewhere_tells_nobody() -> None:
    tell(None, DONE, 1, PHOTO)


@pytest.mark.slow
def test_a_bar_where_a_person_looks_on(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(b"no picture")
    words = ["compress", str(tmp_path), "--output", str(tmp_path / "out"), "--policy", "redact", "--workers", "1"]
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        os.execv(sys.executable, [sys.executable, "-m", "mien.pipelines", *words])
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert b"1/1" in shown
    assert b"faces=0, failed=1" in shown
    assert b"0 of 1 photos" in shown


@pytest.mark.slow
def test_a_line_a_photo_without_its_name(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(photos / "a/x.jpg", tmp_path / "in/secret name.jpg")
    (tmp_path / "in/secret text.jpg").write_text("no picture")
    words = ["redact", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--detector", "mediapipe"]
    command = [sys.executable, "-m", "mien.pipelines", *words, "--workers", "2", "-v"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300).stderr
    lines = [line.removeprefix("mien.photo: ") for line in said.splitlines() if line.startswith("mien.photo: ")]
    rows = {row["photo"]: row for row in map(json.loads, lines)}
    good, bad = (rows[photo_id(str(tmp_path / "in" / name))] for name in ("secret name.jpg", "secret text.jpg"))
    (index,) = (tmp_path / "out").glob("index-*.jsonl")
    row = json.loads(index.read_text())
    assert (good["bytes"], good["milliseconds"]) == (row["bytes"], row["milliseconds"])
    assert good["faces"] == sum(row["actions"].values()) > 0
    assert bad == {"photo": photo_id(str(tmp_path / "in/secret text.jpg")), "stage": "decode", "error": "ImageError"}
    assert "secret" not in "".join(lines)
