"""The index and failures files of an output, line by line: what is written, and what of them is believed.

A row of the index says which file, of which size and time, was done with which settings, which files were made of it
and, of a safe photo, what was done with each face and what a reviewer corrected. Each run adds the file
index-RUN.jsonl; of several rows about one file the latest run's counts. Whoever may write in the output may write such
a row: a name in it is only ever used if it stays below the output, and a row that is not as it should be is counted and
passed over.
"""

import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from mien.pipelines.failures import PREFIX
from mien.transforms.elements import HandledFace, ListedFile, OutputFile, Written
from mien.transforms.formats import HIDDEN_PREFIX, MANIFEST, is_part
from mien.transforms.stores import is_safe_name, key_of, lines_of, parse_json
from mien.transforms.workers import NAMESPACE

INDEX, FAILED_FILES = "index-", PREFIX
MAX_LINE = 4_000_000  # bytes
_FILES_A_ROW = 200  # so that the names of all that was restored from a table make no line that is too long
_RUN = r"-\d{8}T[\d.]+-[\da-f]{4}"
_OWN = re.compile(
    rf"(index|failures){_RUN}\.jsonl|corrections({_RUN})?\.jsonl|run({_RUN})?\.json"
    rf"|dry-run(-\d+|-photos)?\.(jsonl?|html)|{MANIFEST}"
)
_MEASURES = tuple(part.name for part in dataclasses.fields(HandledFace) if part.type == (float | None))
_LATER = {"count"}  # measures that rows of earlier versions lack
# what a run holds of each row
_USED = ("uri", "size", "modified", "output", "sha256", "fingerprint", "base", "faces", "files", "count", "more")

Row = dict[str, Any]


def index_rows(written: Sequence[Written], file: ListedFile, fingerprint: str, base: str) -> list[str]:
    """The lines of the index about the photos of one file that are written: one, unless they are very many files."""
    first = written[0]
    made = [dataclasses.asdict(one) for photo in written for one in photo.files]
    about: Row = {"uri": file.uri, "size": file.size, "modified": file.modified, "output": first.output}
    row = dict(about)
    if first.sha256:
        row["sha256"] = first.sha256
    row["fingerprint"] = fingerprint if len(written) >= file.photos else ""
    if base:
        row |= {"base": base, "faces": [dataclasses.asdict(face) for face in first.faces]}
    if file.corrections:
        row["corrections"] = json.loads(file.corrections)["lines"]
    row |= {"count": len(made), "files": made[:_FILES_A_ROW], **figures(written)}
    more = [
        {**about, "fingerprint": "", "more": True, "files": made[i : i + _FILES_A_ROW]}
        for i in range(_FILES_A_ROW, len(made), _FILES_A_ROW)
    ]
    return [json.dumps(one) for one in (row, *more)]


def figures(written: Sequence[Written]) -> Row:
    """What the index tells about the photos of a file beside what resuming needs: bytes, faces by action, time."""
    actions, spent = Counter[str](), Counter[str]()
    for one in written:
        actions.update(one.actions)
        spent.update(one.spent)
    return {"bytes": sum(one.bytes for one in written), "actions": dict(actions), "milliseconds": dict(spent)}


def run_of(path: str, suffix: str = ".jsonl") -> str:
    """The run that an index or failures file or a record is of; of two runs the later one sorts last."""
    return path.rpartition("/")[2].removesuffix(suffix).partition("-")[2]


def index_row_of(line: bytes) -> Row:
    """A line of an index. ValueError for one in which a field is missing or is not what it should be."""
    row = _object(line)
    size, modified, files = row.get("size"), row.get("modified"), row.setdefault("files", [])
    if not _is_count(size) or not _is_number(modified) or not _is_output(row.get("output")):
        raise ValueError("no size, time or output that can be")
    if not all(isinstance(row.setdefault(name, ""), str) for name in ("fingerprint", "base", "sha256")):
        raise ValueError("a text is none")
    if not isinstance(row.setdefault("more", False), bool) or not _is_count(row.setdefault("count", -1), -1):
        raise ValueError("no count of files")
    if not isinstance(files, list) or not all(map(_is_output_file, files)):
        raise ValueError("a file is none")
    faces = row.get("faces")
    if faces is not None and not (isinstance(faces, list) and all(map(_is_face, faces))):
        raise ValueError("a face is none")
    return row


def dry_row_of(line: bytes) -> Row:
    """A line about a photo of a dry run. ValueError for one in which a field is missing or is not what it should be."""
    row = _object(line)
    faces = row.get("faces")
    if not _is_count(row.get("size")) or not _is_number(row.get("modified")):
        raise ValueError("no size or time that can be")
    if not isinstance(faces, list) or not all(map(_is_face, faces)):
        raise ValueError("a face is none")
    return row


def failure_row_of(line: bytes) -> Row:
    """A line of a failures file. ValueError for one in which a field is missing or is not what it should be."""
    row = _object(line)
    if not all(isinstance(row.get(name), str) for name in ("stage", "error", "message")):
        raise ValueError("a text is missing or none")
    return row


def rows_of(path: str, parse: Callable[[bytes], Row]) -> Iterator[Row | None]:
    """The rows of a file, one in memory at a time; None in place of one that is not as it should be."""
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        for line in lines_of(stream, MAX_LINE):
            try:
                yield parse(line)
            except ValueError:
                yield None


def _object(line: bytes) -> Row:
    row = parse_json(line)
    if not isinstance(row, dict) or not isinstance(row.get("uri"), str) or not row["uri"].encode():
        raise ValueError("no row about a file")
    return row


def _is_count(value: object, least: int = 0) -> bool:
    return type(value) is int and least <= value < 1 << 63


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 1 << 63


def _is_output(name: object) -> bool:
    """Whether a name may be that of a photo's output: it stays below the folder, and is no record nor hidden."""
    if not isinstance(name, str) or not is_safe_name(name):
        return False
    return not _OWN.fullmatch(name) and not any(part.startswith(HIDDEN_PREFIX) for part in name.split("/"))


def _is_output_file(file: object) -> bool:
    if not isinstance(file, dict) or file.keys() != {part.name for part in dataclasses.fields(OutputFile)}:
        return False
    known = _is_output(file["name"]) and not is_part(file["name"]) and isinstance(file["sha256"], str)
    return known and _is_count(file["size"]) and _is_number(file["modified"])


def _is_face(face: object) -> bool:
    if not isinstance(face, dict) or not all(isinstance(face.get(name), str) for name in ("action", "rule", "decided")):
        return False
    if not isinstance(face.get("doubted", False), bool):
        return False
    box = face.get("box")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return False
    if not isinstance(face.get("kind", ""), str) or not face.keys() >= set(_MEASURES) - _LATER:
        return False
    return all(face.get(name) is None or _is_number(face[name]) for name in _MEASURES)


class _Rows(beam.DoFn):
    def __init__(self, parse: Callable[[bytes], Row]) -> None:
        self._parse = parse

    def process(self, path: str) -> Iterator[tuple[str, Row]]:
        run = run_of(path)
        for row in rows_of(path, self._parse):
            if row is None:  # without its row a photo is done again, no more
                Metrics.counter(NAMESPACE, "rows_damaged").inc()
                continue
            kept = {name: row[name] for name in (*_USED, "stage") if name in row}
            yield key_of(row["uri"]), {**kept, "run": run}


class ReadRows(beam.PTransform):
    """The rows of index or failures files, by the key (key_of) of the uri of the file that each is about."""

    def __init__(self, paths: list[str], parse: Callable[[bytes], Row] = index_row_of) -> None:
        super().__init__()
        self._paths = paths
        self._parse = parse

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return (
            pipeline
            | "IndexFiles" >> beam.Create(self._paths, reshuffle=False)
            | beam.ParDo(_Rows(self._parse)).with_output_types(tuple[str, Row])
        )
