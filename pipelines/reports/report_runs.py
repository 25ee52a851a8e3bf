"""What an output folder says of the runs that made it: run.json, the index and the failures. No photo is opened."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from apache_beam.io.filesystems import FileSystems

from mien.pipelines import JobError
from mien.pipelines.runs import FAILED_FILES, INDEX, failure_row_of, index_row_of, rows_of
from mien.transforms.stores import files_named, join, parse_json, read_bytes
from mien.transforms.workers import NOT_READ, photo_id

Json = dict[str, Any]

_MOST = 16_000_000  # bytes of a record
_KEYS = {"run", "command", "started", "seconds", "settings", "versions", "engine", "counts", "milliseconds"}
DONE, WITHHELD, FAILED = "done", "withheld", "failed"


@dataclass(frozen=True)
class Seen:
    """What became of a photo, or of a file of photos, when it was last tried.

    source, output: bytes; modified: when the original was last changed (Unix seconds). name, sha256: of the file in the
    output that holds it. faces: of a safe photo, as its index row has them. What an older version of mien did not write
    is None. stage, error, message: of one that was lost.
    """

    uri: str
    state: str
    source: int | None = None
    output: int | None = None
    name: str = ""
    sha256: str = ""
    actions: dict[str, int] | None = None
    milliseconds: dict[str, int] | None = None
    faces: tuple[Json, ...] | None = None
    stage: str = ""
    error: str = ""
    message: str = ""
    modified: float | None = None

    @property
    def id(self) -> str:
        """What logs call it."""
        return photo_id(self.uri)

    @property
    def spent(self) -> int | None:
        """Milliseconds in all stages."""
        return None if self.milliseconds is None else sum(self.milliseconds.values())


@dataclass
class Run:
    """An output folder: its last run's record, those of all its runs, the oldest first, and its photos by uri."""

    folder: str
    record: Json
    records: list[Json]
    photos: dict[str, Seen] = field(default_factory=dict)

    def count(self, state: str) -> int:
        """How many photos ended so."""
        return sum(photo.state == state for photo in self.photos.values())

    @property
    def bytes(self) -> tuple[int | None, int | None]:
        """Of the photos that are done, before and after; None where an older version did not write it."""
        done = [photo for photo in self.photos.values() if photo.state == DONE]
        return total(photo.source for photo in done), total(photo.output for photo in done)

    @property
    def actions(self) -> dict[str, int]:
        """Faces by what was done with them, the most frequent first."""
        found = Counter[str]()
        for photo in self.photos.values():
            found.update(photo.actions or {})
        return dict(found.most_common())

    @property
    def faces(self) -> int | None:
        """Of the photos that are done; None where an older version did not write it."""
        done = (photo.actions for photo in self.photos.values() if photo.state == DONE)
        return total(None if actions is None else sum(actions.values()) for actions in done)

    @property
    def stages(self) -> dict[str, Json]:
        """Milliseconds by stage, over all runs of the folder: sum, max and, where known, count; the longest first."""
        found: dict[str, Json] = {}
        for record in self.records:
            for stage, of in record.get("milliseconds", {}).items():
                so_far = found.setdefault(stage, {"sum": 0, "max": 0, "count": 0})
                so_far["sum"] += of["sum"]
                so_far["max"] = max(so_far["max"], of["max"])
                so_far["count"] = None if None in (so_far["count"], of.get("count")) else so_far["count"] + of["count"]
        return dict(sorted(found.items(), key=lambda stage: -stage[1]["sum"]))

    @property
    def failures(self) -> list[Json]:
        """Photos that were lost, by stage and error, the most frequent first, with a few messages of each."""
        groups: dict[tuple[str, str, str], list[Seen]] = {}
        for photo in self.photos.values():
            if photo.state != DONE:
                groups.setdefault((photo.state, photo.stage, photo.error), []).append(photo)
        return [
            {
                "state": state,
                "stage": stage,
                "error": error,
                "count": len(some),
                "messages": list(dict.fromkeys(photo.message for photo in some))[:3],
            }
            for (state, stage, error), some in sorted(groups.items(), key=lambda group: -len(group[1]))
        ]


def total(values: Iterable[int | None]) -> int | None:
    """The sum; None where one is not known."""
    found = 0
    for value in values:
        if value is None:
            return None
        found += value
    return found


def read_run(folder: str) -> Run:
    """What an output folder says. Raises JobError for one without a run.json that can be read."""
    try:
        if not FileSystems.exists(join(folder, "run.json")):
            raise JobError(f"{folder}: no output of a run: there is no run.json in it")
        record = _record(join(folder, "run.json"))
        records = list(_records(files_named(folder, "run-", ".json")))
        found = Run(folder, record, records or [record])
        for kind, path in _by_run(folder):
            for row in rows_of(path, index_row_of if kind == INDEX else failure_row_of):
                if row is not None and not row.get("more"):  # one that is not as it should be is passed over
                    seen = _done(row) if kind == INDEX else _lost(row)
                    found.photos[seen.uri] = seen
    except JobError:
        raise
    except Exception as error:
        raise JobError(f"{folder}: its files cannot be read: {type(error).__name__}: {error}") from error
    return found


def _record(path: str) -> Json:
    try:
        record = parse_json(read_bytes(path, _MOST))
    except ValueError:
        record = None
    if not _is_record(record):
        raise JobError(f"{path}: no record of a run")
    return dict(record)


def _is_record(record: Any) -> bool:
    """Whether all that the page shows of a record is there, and is what it should be."""
    if not isinstance(record, dict) or not record.keys() >= _KEYS:
        return False
    texts = all(isinstance(record[name], str) for name in ("run", "command", "started"))
    tables = all(isinstance(record[name], dict) for name in ("settings", "versions", "engine", "counts"))
    stages = record["milliseconds"]
    return (
        texts
        and tables
        and isinstance(record["seconds"], int | float)
        and isinstance(stages, dict)
        and all(
            isinstance(of, dict) and {"sum", "max"} <= of.keys() and _counts(of) is not None for of in stages.values()
        )
    )


def _records(paths: list[str]) -> Iterator[Json]:
    """Those of earlier runs; what is none is passed over, as a row of an index is."""
    for path in paths:
        with contextlib.suppress(JobError):
            yield _record(path)


def _by_run(folder: str) -> list[tuple[str, str]]:
    """(kind, path) of the index and failures files, the oldest run's first: what a later run says counts."""
    found = []
    for kind in (INDEX, FAILED_FILES):
        for path in files_named(folder, kind, ".jsonl"):
            found.append((path.rpartition("/")[2].removeprefix(kind), kind, path))
    return [(kind, path) for _, kind, path in sorted(found)]


def _done(row: Json) -> Seen:
    faces = row.get("faces")
    actions = _counts(row.get("actions"))
    if actions is None and faces is not None:
        actions = dict(Counter(face["action"] for face in faces))
    return Seen(
        row["uri"],
        DONE,
        row["size"],
        _count(row.get("bytes")),
        row["output"],
        row["sha256"],
        actions,
        _counts(row.get("milliseconds")),
        None if faces is None else tuple(faces),
        modified=row["modified"],
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _counts(values: Any) -> dict[str, int] | None:
    known = isinstance(values, dict) and all(isinstance(value, int) for value in values.values())
    return values if known else None


def _lost(row: Json) -> Seen:
    stage, error, message = (row[name] for name in ("stage", "error", "message"))
    return Seen(row["uri"], FAILED if stage in NOT_READ else WITHHELD, stage=stage, error=error, message=message)
