"""After a run that was killed: what it had finished counts, and what it had not is put away.

While a run goes on, each photo that is written as a file of its own gets its index row at once, in the run's hidden
folder, a file of rows every minute or so. The next run makes an index of them, so that it need not do those photos
again.
"""

import contextlib
import math
import os
import shutil
import time
import uuid
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from mien.pipelines import JobError
from mien.pipelines.runs.index import INDEX, index_rows
from mien.pipelines.runs.resume import Wanted
from mien.pipelines.runs.stale import remove_from_parts
from mien.transforms.elements import Written
from mien.transforms.formats import (
    commit,
    hidden_folder,
    hidden_runs,
    is_part,
    lease_path,
    live_until,
    roll_back,
)
from mien.transforms.stores import PART, delete, files_named, is_local, join, stat_file, whole_file, write_whole

_ROWS, _SECONDS = 1024, 60.0  # after either a file of rows is written; sooner while the run is young


class WriteJournal(beam.DoFn):
    """Hands on what is written, and notes at once what a run that is killed later need not do again.

    Photos in tables are not noted: no part of a table counts before all of its run do.
    """

    def __init__(self, output: str, run_id: str, wanted: Wanted) -> None:
        self._folder = join(output, hidden_folder(run_id))
        self._wanted = wanted
        self._seconds = 0.5

    def start_bundle(self) -> None:
        self._lines: list[str] = []
        self._since = time.monotonic()

    def process(self, written: Written) -> Iterator[Written]:
        if written.origin is not None and written.origin.photos == 1 and not is_part(written.output):
            wanted = self._wanted.of(written.origin)
            self._lines += index_rows([written], written.origin, wanted.settings, wanted.base)
        if len(self._lines) >= _ROWS or time.monotonic() - self._since >= self._seconds:
            self._write()
            self._seconds = min(2 * self._seconds, _SECONDS)
        yield written

    def finish_bundle(self) -> None:
        self._write()

    def _write(self) -> None:
        if self._lines:
            with contextlib.suppress(Exception):  # a store that fails here fails where it matters, and is told there
                data = "".join(f"{line}\n" for line in self._lines).encode()
                write_whole(join(self._folder, f"{INDEX}{uuid.uuid4().hex}.jsonl"), data)
        self._lines, self._since = [], time.monotonic()


def refuse_leased(output: str) -> None:
    """JobError where a run that no process holds the lock for may be at work on the output."""
    for run_id in hidden_runs(output):
        until = live_until(output, run_id)
        if until is not None:
            when = "" if math.isinf(until) else f" or wait {max(1, math.ceil((until - time.time()) / 60))} minutes"
            path = lease_path(output, run_id)
            raise JobError(f"{output}: another job works on it (run {run_id}); if it is no more, delete {path}{when}")


def recover(output: str, killed: bool) -> list[str]:
    """Sets right what runs that were killed have left in the output; their ids.

    The caller holds the output's lock, so that no other run of a command is alive; what belongs to a run that has a
    lease is left alone (mien.transforms.formats.lease). killed: the last run is known to have been; then half-written
    files below a local output are deleted too.
    """
    dead = [run_id for run_id in hidden_runs(output) if live_until(output, run_id) is None]
    for run_id in dead:
        index = join(output, f"{INDEX}{run_id}.jsonl")
        if FileSystems.exists(index):  # the run's last step but one: all it names is in place
            with contextlib.suppress(ValueError):  # a damaged manifest: none of its parts counts, all are done again
                commit(output, run_id)
            remove_from_parts(output, run_id)
        else:
            roll_back(output, run_id)
            _gather(files_named(join(output, hidden_folder(run_id)), INDEX, ".jsonl"), index)
        delete(join(join(output, hidden_folder(run_id)), ""))
    if killed and is_local(output) and not set(hidden_runs(output)) - set(dead):
        for parent, _, names in os.walk(output):
            for name in names:
                if name.startswith(PART):
                    delete(join(parent, name))
    return dead


def _gather(journals: list[str], index: str) -> None:
    """One index file of a run's journals; none where there are none."""
    journals = [path for path in journals if (stat_file(path) or (0, 0.0))[0]]
    if not journals:  # on S3 Beam cannot write an empty file
        return
    with whole_file(index) as stream:
        for journal in journals:
            with FileSystems.open(journal, compression_type=CompressionTypes.UNCOMPRESSED) as lines:
                shutil.copyfileobj(lines, stream)
