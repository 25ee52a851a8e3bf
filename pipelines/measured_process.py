"""What a command and all processes that it starts need: seconds, processor time, memory."""

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Measured:
    """What a command needed.

    status: its exit status. seconds: from start to end; first: to its first output file. cpu: processor seconds of it
    and its children. peak: bytes of resident memory of all of them together, at most; a page that two share counts
    twice. first and peak are None where they are not known. said: the end of what it wrote on stderr.
    """

    status: int
    seconds: float
    first: float | None
    cpu: float
    peak: int | None
    said: str


def measured(words: Sequence[str], output: Path, is_result: Callable[[Path], bool]) -> Measured:
    """Runs a command to its end. output: the folder in which its results appear."""
    with tempfile.TemporaryFile() as errors:
        started = time.monotonic()
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=errors)
        first: float | None = None
        peak = 0
        while True:
            # wait4 tells the processor time of the process and of its children, psutil only while the process runs
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            peak = max(peak, resident(process.pid))
            if first is None and any(is_result(path) for path in output.rglob("*")):
                first = time.monotonic() - started
            time.sleep(_POLL_SECONDS)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()[-500:]
    return Measured(process.returncode, seconds, first, used.ru_utime + used.ru_stime, peak or None, said)


def resident(pid: int) -> int:
    """Bytes of resident memory of a process and all below it; one that has ended has none."""
    found = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                found += one.memory_info().rss
    return found
