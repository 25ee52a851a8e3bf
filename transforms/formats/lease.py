"""Who is at work in a hidden folder whose run no process holds the output's lock for: a lease, renewed by the workers.

Jobs that are launched from a template, and pipelines of others that write tables or shards, have no process that lasts
as long as they do. Each of their workers writes, while it has work, how long the run is to be left alone; a job that
starts on the same output is refused until then. The run's last step ends it, with the hidden folder.
"""

import contextlib
import json
import math
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from mien.transforms.formats.manifest import HIDDEN_PREFIX, hidden_folder
from mien.transforms.stores import circuit_breaker, exists, is_local, join, parse_json, read_bytes, write_whole

LEASE_SECONDS = 6 * 3600.0  # a template's job may wait long for its first worker, and for its last photo
RENEWED = 300.0  # seconds after which a worker that has work writes the lease again
_NAME = "lease.json"
_MOST = 10_000  # bytes


def lease_path(output: str, run_id: str) -> str:
    """Where a run's lease lies."""
    return join(join(output, hidden_folder(run_id)), _NAME)


def renew(output: str, run_id: str, seconds: float = LEASE_SECONDS) -> None:
    """Says that a run is at work for so long from now on."""
    about = {"run": run_id, "host": socket.gethostname(), "until": round(time.time() + seconds)}
    write_whole(lease_path(output, run_id), f"{json.dumps(about)}\n".encode())


def live_until(output: str, run_id: str) -> float | None:
    """Until when a run may be at work (Unix seconds); None where it has no lease, or had one.

    Infinite for a lease that cannot be read: that run may well be at work.
    """
    path = lease_path(output, run_id)
    try:
        if not exists(path):
            return None
        about: Any = parse_json(read_bytes(path, _MOST))
        until = float(about["until"])
    except FileNotFoundError:  # it has just ended
        return None
    except (ValueError, KeyError, TypeError, OverflowError):
        return math.inf
    return until if math.isnan(until) or until > time.time() else None


def hidden_runs(output: str) -> list[str]:
    """The runs that have a hidden folder below the output."""
    if is_local(output):
        entries = list(os.scandir(output)) if os.path.isdir(output) else []
        names = {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
        return sorted(name.removeprefix(HIDDEN_PREFIX) for name in names if name.startswith(HIDDEN_PREFIX))
    start = join(output, HIDDEN_PREFIX)
    with circuit_breaker(output):
        found = [file.path[len(start) :] for file in FileSystems.get_filesystem(output)._list(start)]
    return sorted({path.partition("/")[0] for path in found if "/" in path})


class KeepLease(beam.DoFn):
    """Hands on what comes, and renews a run's lease before it, not more often than every few minutes.

    Fails where the lease, which the job's launcher has written, has ended: another job may work on the output by now.
    """

    def __init__(self, output: str, run_id: str, seconds: float = LEASE_SECONDS) -> None:
        self._output = output
        self._run_id = run_id
        self._seconds = seconds
        self._since = -math.inf

    def process(self, element: Any) -> Iterator[Any]:
        if time.monotonic() - self._since > RENEWED:
            until = live_until(self._output, self._run_id)
            if until is None:
                raise RuntimeError(
                    f"{self._output}: the lease of run {self._run_id} has ended: another job may work there"
                )
            # of many workers one writes it: a store takes few writes of one object
            if until - time.time() < self._seconds - RENEWED:
                with contextlib.suppress(Exception):  # of a store that is away for a while
                    renew(self._output, self._run_id, self._seconds)
            self._since = time.monotonic()
        yield element
