"""What an output already holds: an index of small rows beside it, so that a second run does only what is left to do.

A row says which file, of which size and time, was done with which settings, where its output lies and, of a safe
photo, what was done with each face and the output's sha256. Each run adds the file index-RUN.jsonl; of several rows
about one file the latest run's counts.
"""

import dataclasses
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

from mien.pipelines.runs.progress import SKIPPED, Tell
from mien.transforms.elements import ListedFile, Written
from mien.transforms.formats import Manifest, is_part, parts_in, parts_of
from mien.transforms.stores import create, files_named, join, parse_json, patience, replacing
from mien.transforms.workers import NAMESPACE, NOT_READ

INDEX, FAILED_FILES = "index-", "failures-"
_SKIPPED = "skipped"
_USED = ("size", "modified", "output", "fingerprint", "base", "faces")  # of a row; a run holds it for each photo


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


@dataclass(frozen=True)
class Held:
    """What an output holds at the start of a run. tables: which of its parts, tables or shards, count."""

    output: str
    tables: Manifest

    @classmethod
    def of(cls, output: str) -> "Held":
        """Looks. ValueError for a manifest that cannot be read."""
        tables = parts_of(output)
        return cls(output, Manifest(tables.run, tuple(set(parts_in(output)) & set(tables.parts))))

    def has(self, name: str) -> bool:
        """Whether what an index row names is there: a file, or a part of a table or a copy of it."""
        if "/" not in name and is_part(name):
            return self.tables.holds(name)
        return bool(FileSystems.exists(join(self.output, name)))


def is_done(file: ListedFile, row: dict[str, Any] | None, wanted: Wanted, held: Held) -> bool:
    """Whether the row says that this very file was done as wanted, and what it made is still there."""
    if row is None or (row["size"], row["modified"]) != (file.size, file.modified) or not wanted.met_by(row):
        return False
    return held.has(row["output"])


class _Rows(beam.DoFn):
    def process(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        run = run_of(path)
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            for line in stream:
                try:
                    row = parse_json(line)
                    yield row["uri"], {**{name: row[name] for name in _USED if name in row}, "run": run}
                except (ValueError, KeyError, TypeError):
                    continue  # without its row a photo is done again, no more


def run_of(path: str) -> str:
    """The run that an index or failures file is of; of two runs the later one sorts last."""
    return path.rpartition("/")[2].removesuffix(".jsonl").partition("-")[2]


class _Left(beam.DoFn):
    def __init__(self, wanted: Wanted, held: Held, overwrite: bool, only_failed: bool) -> None:
        self._wanted = wanted
        self._held = held
        self._overwrite = overwrite
        self._only_failed = only_failed

    def process(self, group: tuple[str, dict[str, Iterable[Any]]], tables: list[str]) -> Iterator[ListedFile]:
        row, failed = _latest(group[1]["rows"]), _latest(group[1].get("failed", ()))
        passed = self._only_failed and not (failed and (row is None or failed["run"] >= row["run"]))
        for file in group[1]["files"]:
            if passed or (not self._overwrite and is_done(file, row, self._wanted, self._held)):
                Metrics.counter(NAMESPACE, "photos_skipped").inc()
                yield TaggedOutput(_SKIPPED, file)  # type: ignore[misc]  # Beam reads the main output's type alone
            else:
                # of a table's parts each run may make others, and what was made of one is the other's to replace
                yield dataclasses.replace(file, ours=row is not None or _table(file.uri) in tables)


def _table(uri: str) -> str:
    """The folder of a part of a table; empty for any other file."""
    folder, _, name = uri.rpartition("/")
    return folder if is_part(name) else ""


def _latest(rows: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    return max(rows, key=lambda row: str(row["run"]), default=None)


class OnlyLeft(beam.PTransform):
    """ListedFile -> those that are new, changed, failed before, or were done in another way.

    only_failed: of these only those that failed or were withheld when they were last tried.
    """

    def __init__(
        self,
        output: str,
        wanted: Wanted,
        overwrite: bool,
        address: tuple[str, int] | None,
        only_failed: bool = False,
    ) -> None:
        super().__init__()
        self._left = _Left(wanted, Held.of(output), overwrite, only_failed)
        self._address = address
        self._paths = files_named(output, INDEX, ".jsonl")
        self._failed = files_named(output, FAILED_FILES, ".jsonl") if only_failed else []

    def expand(self, files: beam.PCollection) -> beam.PCollection:
        if not self._paths and not self._failed:
            # as the grouping below does, this lets the whole list be counted before the first photo is worked on
            return files | beam.Reshuffle()
        keyed = files | "ByUri" >> beam.Map(lambda file: (file.uri, file)).with_output_types(tuple[str, ListedFile])
        rows = files.pipeline | ReadRows(self._paths)
        grouped = {"files": keyed, "rows": rows}
        tables = rows | "Table" >> beam.Map(lambda row: _table(row[0])) | beam.Filter(bool) | beam.Distinct()
        if self._failed:
            grouped["failed"] = files.pipeline | "FailedBefore" >> ReadRows(self._failed)
        split = (
            grouped
            | beam.CoGroupByKey()
            | "Left" >> beam.ParDo(self._left, beam.pvalue.AsList(tables)).with_outputs(_SKIPPED, main="left")
        )
        split.left.element_type = split.skipped.element_type = ListedFile
        _ = split.skipped | "TellSkipped" >> beam.ParDo(Tell(self._address, SKIPPED)).with_output_types(ListedFile)
        return split.left


class ReadRows(beam.PTransform):
    """The rows of index or failures files, by the uri of the file that each is about."""

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
        # what lies in a part goes when the run's own parts are put in place
        if row is not None and any(group[1]["failures"]) and not is_part(row["output"]):
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
        self._wanted = wanted

    def process(self, group: tuple[str, Iterable[Written]]) -> Iterator[str]:
        written = list(group[1])
        file = written[0].origin
        if file is None:
            return
        Metrics.counter(NAMESPACE, "photos_out").inc(len(written))
        yield index_row(written, file, self._wanted)


def index_row(written: Sequence[Written], file: ListedFile, wanted: Wanted) -> str:
    """A line of the index: about the photos of one file that are written."""
    first = written[0]
    row: dict[str, Any] = {"uri": file.uri, "size": file.size, "modified": file.modified, "output": first.output}
    if first.sha256:
        row["sha256"] = first.sha256
    row["fingerprint"] = wanted.settings if len(written) >= file.photos else ""
    if wanted.base:
        row |= {"base": wanted.base, "faces": [dataclasses.asdict(face) for face in first.faces]}
    return json.dumps(row | figures(written))


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
        of_tables = (
            written
            | "OfTables" >> beam.Filter(lambda one: not _is_alone(one))
            | "ByFile" >> beam.Map(_by_file).with_output_types(tuple[str, Written])
            | beam.GroupByKey()
            | "TableRows" >> beam.ParDo(_Done(self._wanted)).with_output_types(str)
        )
        # most photos are files of their own, and need not be held until all are there
        rows = (
            written
            | "OfFiles" >> beam.Filter(_is_alone)
            | "Alone" >> beam.Map(lambda one: ("", [one])).with_output_types(tuple[str, list[Written]])
            | "Rows" >> beam.ParDo(_Done(self._wanted)).with_output_types(str)
        )
        return (rows, of_tables) | beam.Flatten() | WriteLines(self._path)


def _is_alone(written: Written) -> bool:
    """Whether its file holds no other photo."""
    return written.origin is not None and written.origin.photos == 1


def _by_file(written: Written) -> tuple[str, Written]:
    return (written.origin.uri if written.origin else written.uri), written


class _WriteLines(beam.DoFn):
    def __init__(self, path: str) -> None:
        self._path = path

    def process(self, group: tuple[None, Iterable[str]]) -> Iterator[str]:
        folder, _, name = self._path.rpartition("/")
        part = join(folder, f".mien-part-{name}")
        with patience(self._path), replacing(self._path, part), create(part) as stream:
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
