"""What an output already holds: an index of small rows beside it, so that a second run does only what is left to do.

A row says which file, of which size and time, was done with which settings, where its output lies and, of a safe
photo, what was done with each face and the output's sha256. Each run adds the file index-RUN.jsonl; of several rows
about one file the latest run's counts.
"""

import dataclasses
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from mien.pipelines.progress import SKIPPED, Tell
from mien.transforms.elements import ListedFile, Written
from mien.transforms.files import create, files_named, replacing
from mien.transforms.names import join
from mien.transforms.stage import NAMESPACE

INDEX = "index-"
# A photo that was read but not understood is withheld; one that could not be read or written has failed.
NOT_READ = ("list", "read", "write")
_SKIPPED = "skipped"


def fingerprint(settings: dict[str, Any]) -> str:
    """A short hash of everything but the photo that decides what its output is."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Wanted:
    """How an output must have been made to be done.

    settings: the fingerprint of all settings. base: of those beside the policy. same: whether the policy decides on the
    faces of an index row as it was decided then; None where that cannot be told.
    """

    settings: str
    base: str = ""
    same: Callable[[list[dict[str, Any]]], bool] | None = None

    def met_by(self, row: dict[str, Any]) -> bool:
        """Whether the photo of this row would come out the same."""
        if row["fingerprint"] == self.settings:
            return True
        if self.same is None or not self.base or row.get("base") != self.base:
            return False
        return self.same(row["faces"])


def is_done(file: ListedFile, row: dict[str, Any] | None, wanted: Wanted, output: str) -> bool:
    """Whether the row says that this very file was done as wanted, and what it made is still there."""
    if row is None or (row["size"], row["modified"]) != (file.size, file.modified) or not wanted.met_by(row):
        return False
    return _exists(join(output, row["output"]))


@functools.lru_cache(maxsize=1024)  # many photos share a part of a table
def _exists(path: str) -> bool:
    return bool(FileSystems.exists(path))


class _Rows(beam.DoFn):
    def process(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            for line in stream:
                try:
                    row = json.loads(line)
                    yield row["uri"], {**row, "run": path}
                except (ValueError, KeyError, TypeError):
                    continue  # without its row a photo is done again, no more


class _Left(beam.DoFn):
    def __init__(self, wanted: Wanted, output: str, overwrite: bool) -> None:
        self._wanted = wanted
        self._output = output
        self._overwrite = overwrite

    def process(self, group: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[ListedFile]:
        files, rows = group[1]["files"], group[1]["rows"]
        row = _latest(rows)
        for file in files:
            if not self._overwrite and is_done(file, row, self._wanted, self._output):
                Metrics.counter(NAMESPACE, "photos_skipped").inc()
                yield TaggedOutput(_SKIPPED, file)  # type: ignore[misc]  # Beam reads the main output's type alone
            else:
                yield dataclasses.replace(file, ours=row is not None)


def _latest(rows: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    return max(rows, key=lambda row: str(row["run"]), default=None)


class OnlyLeft(beam.PTransform):
    """ListedFile -> those that are new, changed, failed before, or were done in another way."""

    def __init__(self, output: str, wanted: Wanted, overwrite: bool, address: tuple[str, int] | None) -> None:
        super().__init__()
        self._left = _Left(wanted, output, overwrite)
        self._address = address
        self._paths = files_named(output, INDEX, ".jsonl")

    def expand(self, files: beam.PCollection) -> beam.PCollection:
        if not self._paths:
            # as the grouping below does, this lets the whole list be counted before the first photo is worked on
            return files | beam.Reshuffle()
        rows = files.pipeline | ReadRows(self._paths)
        keyed = files | "ByUri" >> beam.Map(lambda file: (file.uri, file)).with_output_types(tuple[str, ListedFile])
        grouped = {"files": keyed, "rows": rows} | beam.CoGroupByKey()
        split = grouped | "Left" >> beam.ParDo(self._left).with_outputs(_SKIPPED, main="left")
        split.left.element_type = split.skipped.element_type = ListedFile
        _ = split.skipped | "TellSkipped" >> beam.ParDo(Tell(self._address, SKIPPED)).with_output_types(ListedFile)
        return split.left


class ReadRows(beam.PTransform):
    """The rows of index files, by the uri of the file that each is about."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__()
        self._paths = paths

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return (
            pipeline
            | "IndexFiles" >> beam.Create(self._paths, reshuffle=False)
            | beam.ParDo(_Rows()).with_output_types(tuple[str, dict[str, Any]])
        )


class _Withdraw(beam.DoFn):
    def __init__(self, output: str) -> None:
        self._output = output

    def process(self, group: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[str]:
        row = _latest(group[1]["rows"])
        if row is not None and any(group[1]["failures"]):
            path = join(self._output, row["output"])
            if FileSystems.exists(path):
                FileSystems.delete([path])
                Metrics.counter(NAMESPACE, "withdrawn").inc()
                yield path


class WithdrawWithheld(beam.PTransform):
    """Failure -> paths deleted: what an earlier run made of a photo that is now withheld must not stay in its place.

    Only what was read and not let through counts: a file that could not be read this time keeps its output.
    """

    def __init__(self, output: str) -> None:
        super().__init__()
        self._output = output
        self._paths = files_named(output, INDEX, ".jsonl")

    def expand(self, failures: beam.PCollection) -> beam.PCollection:
        withheld = (
            failures
            | "Withheld" >> beam.Filter(lambda failure: failure.stage not in NOT_READ)
            | "FailedUri" >> beam.Map(lambda failure: (failure.uri, True)).with_output_types(tuple[str, bool])
        )
        rows = failures.pipeline | ReadRows(self._paths)
        grouped = {"failures": withheld, "rows": rows} | beam.CoGroupByKey()
        return grouped | beam.ParDo(_Withdraw(self._output)).with_output_types(str)


class _Done(beam.DoFn):
    """One row a source file. One whose photos are not all written gets a row that matches no settings."""

    def __init__(self, wanted: Wanted) -> None:
        self._settings, self._base = wanted.settings, wanted.base

    def process(self, group: tuple[str, Iterable[Written]]) -> Iterator[str]:
        written = list(group[1])
        file = written[0].origin
        if file is None:
            return
        Metrics.counter(NAMESPACE, "photos_out").inc(len(written))
        row = {"uri": file.uri, "size": file.size, "modified": file.modified, "output": written[0].output}
        if written[0].sha256:
            row["sha256"] = written[0].sha256
        complete = len(written) >= file.photos
        row["fingerprint"] = self._settings if complete else ""
        if self._base:
            row |= {"base": self._base, "faces": [dataclasses.asdict(face) for face in written[0].faces]}
        yield json.dumps(row | figures(written))


def figures(written: Sequence[Written]) -> dict[str, Any]:
    """What the index tells about the photos of a file beside what resuming needs: bytes, faces by action, time."""
    actions, spent = Counter[str](), Counter[str]()
    for one in written:
        actions.update(one.actions)
        spent.update(one.spent)
    return {"bytes": sum(one.bytes for one in written), "actions": dict(actions), "milliseconds": dict(spent)}


class WriteIndex(beam.PTransform):
    """Written -> the run's index file, which appears when every photo it names is in place."""

    def __init__(self, output: str, run_id: str, wanted: Wanted) -> None:
        super().__init__()
        self._path = join(output, f"{INDEX}{run_id}.jsonl")
        self._wanted = wanted

    def expand(self, written: beam.PCollection) -> beam.PCollection:
        return (
            written
            | "ByFile" >> beam.Map(_by_file).with_output_types(tuple[str, Written])
            | beam.GroupByKey()
            | "Rows" >> beam.ParDo(_Done(self._wanted)).with_output_types(str)
            | WriteLines(self._path)
        )


def _by_file(written: Written) -> tuple[str, Written]:
    return (written.origin.uri if written.origin else written.uri), written


class _WriteLines(beam.DoFn):
    def __init__(self, path: str) -> None:
        self._path = path

    def process(self, group: tuple[None, Iterable[str]]) -> Iterator[str]:
        folder, _, name = self._path.rpartition("/")
        part = join(folder, f".mien-part-{name}")
        with replacing(self._path, part), create(part) as stream:
            for line in group[1]:
                stream.write(f"{line}\n".encode())
        yield self._path


class WriteLines(beam.PTransform):
    """Small texts -> the lines of one file, which appears whole; no file if there are none."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def expand(self, lines: beam.PCollection) -> beam.PCollection:
        return (
            lines
            | "OneGroup" >> beam.Map(lambda line: (None, line)).with_output_types(tuple[None, str])
            | beam.GroupByKey()
            | beam.ParDo(_WriteLines(self._path)).with_output_types(str)
        )
