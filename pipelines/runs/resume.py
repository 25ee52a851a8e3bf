"""What an output already holds: an index of small rows beside it, so that a second run does only what is left to do.

A photo is done where its newest row is about this very file and these settings, no failure of it is newer, and what the
row names is in the output as it was written.
"""

import dataclasses
import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.typehints import KV

from mien.models.errors import ImageError
from mien.pipelines.runs.index import FAILED_FILES, INDEX, ReadRows, Row, failure_row_of, index_row_of, index_rows
from mien.pipelines.runs.progress import SKIPPED, SendProgress
from mien.transforms.elements import ListedFile, Written
from mien.transforms.formats import (
    Manifest,
    is_copy,
    is_part,
    is_shard,
    members_of_shard,
    members_of_table,
    parts_of,
)
from mien.transforms.policy import PhotoCorrections
from mien.transforms.stores import files_named, is_intact, join, key_of, stat_file, whole_file
from mien.transforms.workers import NAMESPACE

_SKIPPED, _ORPHANS = "skipped", "orphans"


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

    def of(self, file: ListedFile) -> "Wanted":
        """The same for one photo: what a reviewer corrects in it decides too, and no other photo's corrections do."""
        if not (digest := PhotoCorrections.of_text(file.corrections).digest):
            return self
        settings, base = (
            fingerprint({"settings": one, "corrections": digest}) if one else "" for one in (self.settings, self.base)
        )
        return dataclasses.replace(self, settings=settings, base=base)

    def met_by(self, row: Row) -> bool:
        """Whether the photo of this row would come out the same."""
        if row["fingerprint"] == self.settings:
            return True
        if self.same is None or not self.base or row["base"] != self.base or row.get("faces") is None:
            return False
        return self.same(row["faces"])


@dataclass(frozen=True)
class OutputState:
    """What an output holds at the start of a run.

    tables: its parts (tables or shards) that the manifest lists and whose size has not changed since. looked: the parts
    whose photos are looked up one by one, because the part is a copy without some of them or its time has changed.
    hashed: the parts whose photos are compared by their digests. check: compare the digests of all parts and files.
    """

    output: str
    tables: Manifest
    looked: frozenset[str] = frozenset()
    hashed: frozenset[str] = frozenset()
    check: bool = False

    @classmethod
    def of(cls, output: str, check: bool = False) -> "OutputState":
        """Looks. ValueError for a manifest that cannot be read."""
        tables = parts_of(output)
        parts, looked, hashed = [], set(), set()
        for name in tables.parts:
            found, known = stat_file(join(output, name)), tables.files.get(name)
            if found is None or (known and found[0] != known[0]):
                continue
            parts.append(name)
            if check or (known and found[1] != known[1]):
                hashed.add(name)
            if is_copy(name) or name in hashed:
                looked.add(name)
        return cls(output, Manifest(tables.run, tuple(parts)), frozenset(looked), frozenset(hashed), check)

    def holds(self, row: Row, members: Iterable[Row]) -> bool:
        """Whether all that an index row names is in the output as it was written. members: where the photo was found
        in the parts that are looked into."""
        if is_part(row["output"]):
            return self._has_part(row, members)
        return len(row["files"]) == row["count"] > 0 and all(
            is_intact(join(self.output, file["name"]), file["size"], file["modified"], file["sha256"], self.check)
            for file in row["files"]
        )

    def has_some(self, row: Row, members: Iterable[Row]) -> bool:
        """Whether anything that an index row names is there, in whatever state."""
        if is_part(row["output"]):
            return self.lies_in_part(row["output"], members)
        return any(stat_file(join(self.output, name)) for name in names_of(row))

    def lies_in_part(self, name: str, members: Iterable[Row]) -> bool:
        """Whether the photo is in the part of that name or a copy of it."""
        part = self.tables.find(name)
        return bool(part) and (part not in self.looked or any(member["part"] == part for member in members))

    def _has_part(self, row: Row, members: Iterable[Row]) -> bool:
        part = self.tables.find(row["output"])
        if part not in self.looked:
            return bool(part)
        digests = [member["sha256"] for member in members if member["part"] == part]
        return len(digests) == 1 and (part not in self.hashed or digests[0] == row["sha256"])


def names_of(row: Row) -> list[str]:
    """The files below the output that an index row names; none of a row about a part."""
    return [] if is_part(row["output"]) else list(dict.fromkeys([row["output"], *(f["name"] for f in row["files"])]))


def latest(rows: Iterable[Row]) -> Row | None:
    """The newest run's row, with the files of the rows that go on with it."""
    rows = list(rows)
    whole = [row for row in rows if not row.get("more")]
    if not whole:
        return None
    row = max(whole, key=lambda row: str(row["run"]))
    more = [file for one in rows if one.get("more") and one["run"] == row["run"] for file in one["files"]]
    return {**row, "files": [*row["files"], *more]} if more else row


def is_done(
    file: ListedFile,
    row: Row | None,
    failed: Row | None,
    members: Iterable[Row],
    wanted: Wanted,
    state: OutputState,
) -> bool:
    """Whether the row says that this very file was done as wanted, it has not failed since, and what was made of it is
    still there as it was written."""
    if row is None or (failed is not None and failed["run"] > row["run"]):
        return False
    if (row["size"], row["modified"]) != (file.size, file.modified) or not wanted.of(file).met_by(row):
        return False
    return state.holds(row, members)


@dataclass(frozen=True)
class Earlier:
    """What runs before this one have left, each as a PCollection by the key (key_of) of a photo's uri. rows: of the
    index; failed: of failures files; members: where it is in the parts that are looked into."""

    state: OutputState
    rows: beam.PCollection
    failed: beam.PCollection
    members: beam.PCollection

    @classmethod
    def read(cls, pipeline: beam.Pipeline, output: str, check: bool) -> "Earlier | None":
        """None where no run was there. ValueError for a manifest that cannot be read."""
        index, failed = (files_named(output, kind, ".jsonl") for kind in (INDEX, FAILED_FILES))
        if not index and not failed:
            return None
        state = OutputState.of(output, check)
        members = pipeline | "PartsLookedInto" >> beam.Create(sorted(state.looked), reshuffle=False)
        return cls(
            state,
            pipeline | "Before" >> ReadRows(index, index_row_of),
            pipeline | "FailedBefore" >> ReadRows(failed, failure_row_of),
            members | beam.ParDo(_Members(state)).with_output_types(tuple[str, Row]),
        )


class _Members(beam.DoFn):
    """The photos of a part. Of one that is damaged those before the damage: the others are done again."""

    def __init__(self, state: OutputState) -> None:
        self._state = state

    def process(self, name: str) -> Iterator[tuple[str, Row]]:
        members = members_of_shard if is_shard(name) else members_of_table
        try:
            for key, digest in members(join(self._state.output, name), name in self._state.hashed):
                yield key, {"part": name, "sha256": digest}
        except (ValueError, ImageError, tarfile.TarError, OSError):
            Metrics.counter(NAMESPACE, "parts_damaged").inc()


class _Pending(beam.DoFn):
    def __init__(
        self, wanted: Wanted, state: OutputState, overwrite: bool, only_failed: bool, covers: Callable[[str], bool]
    ) -> None:
        self._wanted = wanted
        self._state = state
        self._overwrite = overwrite
        self._only_failed = only_failed
        self._covers = covers

    def process(self, group: tuple[str, dict[str, Iterable[Any]]], tables: list[str]) -> Iterator[ListedFile]:
        row, failed = latest(group[1]["rows"]), max(group[1]["failed"], key=lambda row: str(row["run"]), default=None)
        members = list(group[1]["members"])
        passed = self._only_failed and not (failed and (row is None or failed["run"] >= row["run"]))
        files = list(group[1]["files"])
        for file in files:
            if passed or (not self._overwrite and is_done(file, row, failed, members, self._wanted, self._state)):
                Metrics.counter(NAMESPACE, "photos_skipped").inc()
                yield TaggedOutput(_SKIPPED, file)  # type: ignore[misc]  # Beam reads the main output's type alone
            else:
                # each run may make other parts of a table: a photo of one part replaces what was made of it in another
                yield dataclasses.replace(file, ours=row is not None or _table(file.uri) in tables)
        if not files and row is not None and self._covers(row["uri"]) and self._state.has_some(row, members):
            yield TaggedOutput(_ORPHANS, (group[0], row["uri"]))  # type: ignore[misc]


def _table(uri: str) -> str:
    """The folder of a part of a table; empty for any other file."""
    folder, _, name = uri.rpartition("/")
    return folder if is_part(name) else ""


class PendingFiles(beam.PTransform):
    """ListedFile -> those that are new, changed, failed before, or were done in another way.

    only_failed: of these only those that failed or were withheld when they were last tried. covers: whether a file of
    that uri would have been listed. After expand() orphans has (key, uri) of photos that have an output and were not.
    """

    def __init__(
        self,
        earlier: Earlier | None,
        wanted: Wanted,
        overwrite: bool,
        address: tuple[str, int] | None,
        only_failed: bool,
        covers: Callable[[str], bool],
    ) -> None:
        super().__init__()
        self._earlier = earlier
        self._left = _Pending(wanted, earlier.state, overwrite, only_failed, covers) if earlier else None
        self._address = address
        self.orphans: beam.PCollection | None = None

    def expand(self, files: beam.PCollection) -> beam.PCollection:
        earlier = self._earlier
        if earlier is None or self._left is None:
            # as the grouping below does, this lets the whole list be counted before the first photo is worked on
            return files | beam.Reshuffle()
        keyed = files | "ByUri" >> beam.Map(_by_key).with_output_types(tuple[str, ListedFile])
        tables = earlier.rows | "Table" >> beam.Map(lambda row: _table(row[1]["uri"])) | beam.Filter(bool)
        split = (
            {"files": keyed, "rows": earlier.rows, "failed": earlier.failed, "members": earlier.members}
            | beam.CoGroupByKey()
            | "Left"
            >> beam.ParDo(self._left, beam.pvalue.AsList(tables | beam.Distinct())).with_outputs(
                _SKIPPED, _ORPHANS, main="left"
            )
        )
        split.left.element_type = split.skipped.element_type = ListedFile
        split.orphans.element_type = KV[str, str]
        self.orphans = split.orphans
        _ = split.skipped | "SendSkipped" >> beam.ParDo(SendProgress(self._address, SKIPPED)).with_output_types(
            ListedFile
        )
        return split.left


def _by_key(file: ListedFile) -> tuple[str, ListedFile]:
    return key_of(file.uri), file


class _Done(beam.DoFn):
    """The rows of one source file. One whose photos are not all written gets a row that matches no settings."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted

    def process(self, group: tuple[str, Iterable[Written]]) -> Iterator[str]:
        written = list(group[1])
        file = written[0].origin
        if file is None:
            return
        Metrics.counter(NAMESPACE, "photos_out").inc(len(written))
        wanted = self._wanted.of(file)
        yield from index_rows(written, file, wanted.settings, wanted.base)


class WriteIndex(beam.PTransform):
    """Written -> the run's index file, which appears when every photo it names is in place.

    after: a PCollection of what is there before the index is.
    """

    def __init__(self, output: str, run_id: str, wanted: Wanted, after: beam.PCollection) -> None:
        super().__init__()
        self._path = join(output, f"{INDEX}{run_id}.jsonl")
        self._wanted = wanted
        self._after = after

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
        return (rows, of_tables) | beam.Flatten() | WriteLines(self._path, self._after)


def _is_alone(written: Written) -> bool:
    """Whether its file holds no other photo."""
    return written.origin is not None and written.origin.photos == 1


def _by_file(written: Written) -> tuple[str, Written]:
    return (written.origin.uri if written.origin else written.uri), written


class _WriteLines(beam.DoFn):
    def __init__(self, path: str) -> None:
        self._path = path

    def process(self, group: tuple[None, Iterable[str]], after: Iterable[Any] = ()) -> Iterator[str]:
        list(after)
        with whole_file(self._path) as stream:
            for line in group[1]:
                stream.write(f"{line}\n".encode())
        yield self._path


class WriteLines(beam.PTransform):
    """Small texts -> the lines of one file, which appears whole; no file if there are none.

    after: a PCollection that is complete before the file is written.
    """

    def __init__(self, path: str, after: beam.PCollection | None = None) -> None:
        super().__init__()
        self._path = path
        self._after = after

    def expand(self, lines: beam.PCollection) -> beam.PCollection:
        sides = [] if self._after is None else [beam.pvalue.AsIter(self._after)]
        return (
            lines
            | "OneGroup" >> beam.Map(lambda line: (None, line)).with_output_types(tuple[None, str])
            | beam.GroupByKey()
            | beam.ParDo(_WriteLines(self._path), *sides).with_output_types(str)
        )
