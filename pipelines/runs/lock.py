"""One job at a time on an output: a lock file in it says which.

In a local folder the kernel holds the lock (flock) and lets go of it when the process ends, however it ends. An object
store has no such thing: there the file tells its age, its writer renews it every minute, and after ten minutes without
that it no longer counts. Two jobs that start within the same second can both find the store free; each writes, waits
and reads again, and goes on only if the file is still its own.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
from typing import Any

from mien.pipelines import JobError, JobStoppedError
from mien.transforms.formats import HIDDEN_PREFIX
from mien.transforms.stores import delete, exists, is_local, join, parse_json, read_bytes, write_whole

NAME = f"{HIDDEN_PREFIX}lock"
_BEAT, _STALE = 60.0, 600.0  # seconds
_SETTLE = 1.0
_MOST = 10_000  # bytes of a lock file
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # of a file system that cannot do it


class Lock:
    """Held from `with` on. JobError where another job holds it; OSError or a store's error where none can be written.

    killed: whether the file was there already, left by a job that did not end by itself. left: what that file says of
    it; with `keep` set the file says so again at the end, so that the next job knows of it too.
    """

    def __init__(self, output: str, run_id: str) -> None:
        self._output, self._path = output, join(output, NAME)
        self._run_id = run_id
        self._file = -1
        self._ended = threading.Event()
        self._renewal = threading.Thread(target=self._beat, daemon=True)
        self.killed = False
        self.left: dict[str, Any] = {}
        self.keep = False
        self._lost = False

    def __enter__(self) -> "Lock":
        if not is_local(self._output) or not self._take_file():
            self._take_object()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        before = f"{json.dumps(self.left)}\n".encode() if self.killed and self.keep else b""
        if self._file >= 0:
            if before:
                os.ftruncate(self._file, 0)
                os.pwrite(self._file, before, 0)
            else:
                delete(self._path)
            os.close(self._file)
            return
        self._renewal.join(10.0)
        with contextlib.suppress(Exception):  # a store that is away: there the lock stays until it is too old
            if _holder(self._path).get("run") == self._run_id:
                if before:
                    write_whole(self._path, before)
                else:
                    delete(self._path)

    def check(self) -> None:
        """JobStoppedError where the lock was too old at some time, and another job has taken it."""
        if self._lost:
            raise JobStoppedError(f"{self._output}: another job has begun to work on it meanwhile")

    def _take_file(self) -> bool:
        """Takes the kernel's lock; False on a file system that has none."""
        os.makedirs(self._output, exist_ok=True)
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.exists(self._path) and os.path.samestat(os.fstat(file), os.stat(self._path)):
                    break
                os.close(file)  # its holder has just ended and deleted it
            except OSError as error:
                os.close(file)
                if isinstance(error, FileNotFoundError):  # deleted between the two looks at it
                    continue
                if error.errno in _NO_LOCKS:
                    return False
                if not isinstance(error, BlockingIOError):
                    raise
                raise self._refusal(_holder(self._path)) from None
        self.killed = os.fstat(file).st_size > 0
        self.left = _holder(self._path)
        os.ftruncate(file, 0)
        os.write(file, self._text())
        self._file = file
        return True

    def _take_object(self) -> None:
        before = _holder(self._path)
        if before and not _is_stale(before.get("beat", 0)):
            raise self._refusal(before, f"; if it is no more, delete {self._path} or wait {_STALE / 60:.0f} minutes")
        self.killed, self.left = bool(before), before
        write_whole(self._path, self._text())
        time.sleep(_SETTLE)
        now = _holder(self._path)
        if now.get("run") != self._run_id:
            raise self._refusal(now)
        self._renewal.start()

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT):
            with contextlib.suppress(Exception):  # a store that is away for a while; the job finds out by itself
                if _holder(self._path).get("run", self._run_id) != self._run_id:
                    self._lost = True
                    return
                write_whole(self._path, self._text())

    def _text(self) -> bytes:
        holder = {"run": self._run_id, "host": socket.gethostname(), "pid": os.getpid(), "beat": round(time.time())}
        return f"{json.dumps(holder)}\n".encode()

    def _refusal(self, holder: dict[str, Any], hint: str = "") -> JobError:
        who = ", ".join(f"{key} {holder[key]}" for key in ("run", "host", "pid") if key in holder)
        return JobError(f"{self._output}: another job works on it ({who or 'it has just begun'}){hint}")


def _is_stale(beat: object) -> bool:
    """Whether a lock that was renewed then (Unix seconds) counts no more; one that does not say so counts."""
    try:
        return isinstance(beat, int | float) and time.time() - beat >= _STALE
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _holder(path: str) -> dict[str, Any]:
    """Who holds the lock, as far as its file says; empty where there is none."""
    try:
        found = parse_json(read_bytes(path, _MOST)) if exists(path) else {}
    except (ValueError, FileNotFoundError):  # just being written, or just deleted
        return {}
    return found if isinstance(found, dict) else {}
