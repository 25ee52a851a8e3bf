import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mien.pipelines import JobError
from mien.pipelines.runs import lock as module
from mien.pipelines.runs.lock import NAME, Lock
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
    path.write_text("{")
    with Lock(str(tmp_path), "fourth"):
        assert json.loads(path.read_text())["run"] == "fourth"
