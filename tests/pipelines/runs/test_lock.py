import json
import math
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mien.pipelines import JobError, JobStoppedError
from mien.pipelines.runs import lock as module
from mien.pipelines.runs.lock import NAME, Lock
from mien.transforms.formats.lease import KeepLease, live_until, renew
from tests.pipelines.conftest import mien

HOLD = """
import sys
from mien.pipelines.runs.lock import Lock
with Lock(sys.argv[1], "first"):
    print(flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_the_second_job_is_refused_and_a_killed_one_is_not_in_the_way(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout is not None
    first.stdout.readline()
    holder = json.loads((tmp_path / NAME).read_text())
    assert (holder["run"], holder["pid"]) == ("first", first.pid)
    assert mien("restore", photos, "--output", tmp_path) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path}: another job works on it (run first, host {holder['host']}, pid {first.pid})" in error
    assert [path.name for path in tmp_path.iterdir()] == [NAME]  # the refused one has touched nothing

    first.send_signal(signal.SIGKILL)
    first.wait()
    with Lock(str(tmp_path), "second") as lock:
        assert lock.killed
        with pytest.raises(JobError, match="run second"), Lock(str(tmp_path), "third"):
            pass
    assert not (tmp_path / NAME).exists()
    with Lock(str(tmp_path), "fourth") as lock:
        assert not lock.killed


@pytest.mark.slow
def test_of_many_that_start_together_one_runs(tmp_path: Path) -> None:
    inside, most, got = 0, 0, 0
    guard = threading.Lock()

    def run(i: int) -> None:
        nonlocal inside, most, got
        for _ in range(50):
            try:
                with Lock(str(tmp_path), str(i)):
                    with guard:
                        inside, got = inside + 1, got + 1
                        most = max(most, inside)
                    time.sleep(0.0005)
                    with guard:
                        inside -= 1
            except JobError:
                pass

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, inside) == (1, 0)
    assert got > 1
    assert not (tmp_path / NAME).exists()


def test_without_the_kernels_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lock, "_take_file", lambda self: False)  # as on an object store
    monkeypatch.setattr(module, "_SETTLE", 0.01)
    monkeypatch.setattr(module, "_BEAT", 0.05)
    path = tmp_path / NAME
    with Lock(str(tmp_path), "first"):
        with pytest.raises(JobError, match="or wait 10 minutes"), Lock(str(tmp_path), "second"):
            pass
        path.unlink()
        time.sleep(0.5)
        assert json.loads(path.read_text())["run"] == "first"  # it is renewed
    assert not path.exists()
    path.write_text(json.dumps({"run": "killed", "beat": time.time() - 601}))
    with Lock(str(tmp_path), "third") as lock:
        assert lock.killed
    for strange in (10**400, math.nan, math.inf, "soon", None):
        path.write_text(json.dumps({"run": "strange", "beat": strange}))
        with pytest.raises(JobError, match="run strange"), Lock(str(tmp_path), "refused"):
            pass
    path.write_text("{")
    with Lock(str(tmp_path), "fourth"):
        assert json.loads(path.read_text())["run"] == "fourth"


def test_a_job_whose_lock_another_has_taken_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lock, "_take_file", lambda self: False)  # as on an object store
    monkeypatch.setattr(module, "_SETTLE", 0.01)
    monkeypatch.setattr(module, "_BEAT", 0.05)
    with Lock(str(tmp_path), "first") as lock:
        lock.check()
        theirs = json.dumps({"run": "second", "beat": time.time()})
        (tmp_path / NAME).write_text(theirs)  # as after ten minutes in which the first one slept
        time.sleep(0.5)
        assert (tmp_path / NAME).read_text() == theirs
        with pytest.raises(JobStoppedError, match="another job has begun"):
            lock.check()
    assert (tmp_path / NAME).read_text() == theirs


def test_who_was_killed_is_told_until_somebody_has_put_it_away(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"run": "killed"}')
    for _ in range(2):
        with Lock(str(tmp_path), "dry") as lock:
            lock.keep = True
            assert lock.left == {"run": "killed"}
    with Lock(str(tmp_path), "next"):
        pass
    assert not (tmp_path / NAME).exists()


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / NAME).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic"), Lock(str(tmp_path), "first"):
        pass
    assert (tmp_path / "victim").read_text() == "mine"


def test_workers_renew_a_lease_until_it_has_ended(tmp_path: Path) -> None:
    output = str(tmp_path)
    with pytest.raises(RuntimeError, match="has ended"):
        list(KeepLease(output, "1").process("photo"))
    renew(output, "1", 100.0)
    keep = KeepLease(output, "1", 1000.0)
    assert list(keep.process("photo")) == ["photo"]
    until = live_until(output, "1")
    assert until is not None
    assert until > time.time() + 900
    renew(output, "1", -1.0)
    assert live_until(output, "1") is None
    assert list(keep.process("photo")) == ["photo"]  # looked at a moment ago
    with pytest.raises(RuntimeError, match="has ended"):
        list(KeepLease(output, "1", 1000.0).process("photo"))
