import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mien.models.errors import PhotoCrashedError
from mien.transforms.elements import Photo
from mien.transforms.workers.fork_server import ADDRESS, Forked, fork_server, import_path
from mien.transforms.workers.isolate import Child, Limits, packed

pytestmark = pytest.mark.slow

PHOTO = Photo("u", b"", "n", None)
# Tells what is loaded where it works, and who its parent is. In a file of its own, so that the child can load it.
STAGE = """
import os, signal, sys
from mien.transforms.workers.stage import Stage


class Tells(Stage):
    stage = "tell"

    def work(self, element):
        if element.data == b"die":
            os.kill(os.getpid(), signal.SIGSEGV)
        yield "mien.models.codec" in sys.modules, os.getppid()
"""
ASKS = """
import os, signal
from mien.transforms.elements import Photo
from mien.transforms.workers.isolate import Child, Limits, packed
from tell_stage import Tells
child = Child()
child.work(packed([Tells()]), Photo("u", b"", "n", None), Limits())
print(child.process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    with fork_server("mien.transforms.preload"):
        yield


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "tell_stage.py").write_text(STAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))))
    return packed([importlib.reload(importlib.import_module("tell_stage")).Tells()])


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_children_are_forked_from_one_process_that_has_loaded_all(server: None, stages: bytes) -> None:
    children = [Child(), Child()]
    told = [child.work(stages, PHOTO, Limits()).results[0] for child in children]
    assert all(isinstance(child.process, Forked) for child in children)
    assert told[0] == told[1]
    assert told[0][0]
    assert told[0][1] != os.getpid()
    for child in children:
        child.close()
        assert child.process.returncode in (0, -signal.SIGKILL)  # it may have seen the end coming
        assert not lives(child.process.pid)


def test_a_child_that_crashes_is_told_of_and_costs_no_other(server: None, stages: bytes) -> None:
    crashing, other = Child(), Child()
    with pytest.raises(PhotoCrashedError, match="SIGSEGV"):
        crashing.work(stages, Photo("u", b"die", "n", None), Limits())
    assert other.work(stages, PHOTO, Limits()).results
    other.close()


def test_a_child_ends_with_the_process_that_asked_for_it(server: None, stages: bytes) -> None:
    asked = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True, timeout=120)
    pid = int(asked.stdout)
    until = time.monotonic() + 20
    while lives(pid):
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("message", [b"", b"1", b"{", b"[[[", None])
def test_who_asks_and_goes_costs_no_other(server: None, stages: bytes, message: bytes | None) -> None:
    other = Child()
    (_, parent), *_ = other.work(stages, PHOTO, Limits()).results
    request = json.dumps([import_path(), 30]).encode() if message is None else message
    for _ in range(5):
        ours, theirs = socket.socketpair()
        with ours, theirs, socket.socket(socket.AF_UNIX) as control:
            control.connect(os.environ[ADDRESS])
            socket.send_fds(control, [request], [theirs.fileno()])
    again = Child()
    assert again.work(stages, PHOTO, Limits()).results[0][1] == parent
    assert other.work(stages, PHOTO, Limits()).results[0][1] == parent
    for child in (other, again):
        child.close()


def test_an_end_and_a_hang_up_at_the_same_time_cost_no_other(server: None, stages: bytes) -> None:
    ending, other = Child(), Child()
    (_, parent), *_ = ending.work(stages, PHOTO, Limits()).results
    assert other.work(stages, PHOTO, Limits()).results
    assert isinstance(ending.process, Forked)
    os.kill(parent, signal.SIGSTOP)  # so that the server finds both together
    try:
        ending.process.kill()
        pidfd = os.pidfd_open(ending.process.pid)
        assert select.select([pidfd], [], [], 20)[0]
        os.close(pidfd)
        ending.process._control.close()
    finally:
        os.kill(parent, signal.SIGCONT)
    again = Child()
    assert again.work(stages, PHOTO, Limits()).results[0][1] == parent
    assert other.work(stages, PHOTO, Limits()).results[0][1] == parent
    assert not lives(ending.process.pid)
    for child in (other, again):
        child.close()


def test_without_a_server_a_child_loads_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS, "/nowhere/forks")
    child = Child()
    assert isinstance(child.process, subprocess.Popen)
    child.close()


def test_where_no_socket_can_be_there_is_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ("long" * 40)).mkdir()
    monkeypatch.delenv(ADDRESS, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("long" * 40)))
    with fork_server("mien.transforms.preload"):
        assert ADDRESS not in os.environ
