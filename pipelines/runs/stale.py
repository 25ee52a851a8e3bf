"""What runs have left in an output that is of use no more: it goes, so that nobody is shown by it.

Every file that any earlier row of a photo names goes once the photo has another output, or is withheld now. Outputs of
photos that are no more are counted, and go where that is asked for. A file that another photo's newest row names stays.
Names come from the index, which may be anybody's: see mien.pipelines.runs.index and delete_inside.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.typehints import KV

from mien.pipelines.runs.index import MAX_LINE, Row
from mien.pipelines.runs.resume import Earlier, OutputState, WriteLines, latest, names_of
from mien.transforms.elements import Failure, Written
from mien.transforms.formats import hidden_folder, is_part
from mien.transforms.sinks import remove_photos
from mien.transforms.stores import delete, delete_inside, exists, is_intact, join, key_of, lines_of, stat_file
from mien.transforms.workers import NAMESPACE, NOT_READ

_KEEP, _REPLACED, _WITHHELD, _ORPHAN = "keep", "replaced", "withheld", "orphan"
_COUNTERS = {_REPLACED: "replaced", _WITHHELD: "withdrawn", _ORPHAN: "pruned"}
_IN_PARTS = "in_parts"

Claim = tuple[str, str, Row]  # file, what a photo says of it, the file as the index has it


class _Claims(beam.DoFn):
    """What is said of each file by the photo it was made of; and the uris of photos that are to go from parts."""

    def __init__(self, state: OutputState, withdrawn_already: bool, prune: bool) -> None:
        self._state = state
        self._withdrawn_already = withdrawn_already
        self._prune = prune

    def process(self, group: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[Any]:
        rows, written = list(group[1]["rows"]), list(group[1]["written"])
        withheld, orphan = any(group[1]["withheld"]), any(group[1]["orphans"])
        newest = latest(rows)
        why, current = _REPLACED, set[str]()
        in_part = False
        if written:
            current = {file.name for one in written for file in one.files}
            in_part = any(is_part(one.output) for one in written)
            if written[0].origin and len(written) < written[0].origin.photos and newest:
                current.update(names_of(newest))  # of a table some photos could not be restored this time
        elif withheld or orphan:
            why = _WITHHELD if withheld else _ORPHAN
        elif newest:
            current = set(names_of(newest))
            in_part = is_part(newest["output"])
        for name in current:
            yield name, (_KEEP, {})
        for name in {name for row in rows for name in names_of(row)} - current:
            known = [file for row in rows for file in row["files"] if file["name"] == name]
            yield name, (why, known[-1] if known else {})
        if in_part or (why == _WITHHELD and self._withdrawn_already):
            return
        members = list(group[1]["members"])
        parts = {row["output"] for row in rows if is_part(row["output"])}
        if any(self._state.lies_in_part(part, members) for part in parts):
            if why == _ORPHAN:
                Metrics.counter(NAMESPACE, "orphans").inc()
            if why != _ORPHAN or self._prune:
                yield TaggedOutput(_IN_PARTS, json.dumps([rows[0]["uri"], _COUNTERS[why]]))


class _Delete(beam.DoFn):
    def __init__(self, output: str, prune: bool) -> None:
        self._output = output
        self._prune = prune

    def process(self, group: tuple[str, Iterable[tuple[str, Row]]]) -> Iterator[str]:
        name, claims = group[0], list(group[1])
        why = {claim for claim, _ in claims}
        if _KEEP in why:
            return
        path = join(self._output, name)
        if why == {_ORPHAN}:
            if stat_file(path) is None:
                return
            Metrics.counter(NAMESPACE, "orphans").inc()
            if not self._prune or not any(_is_ours(path, file) for _, file in claims):
                return
        if delete_inside(self._output, name):
            kind = next(_COUNTERS[kind] for kind in (_WITHHELD, _REPLACED, _ORPHAN) if kind in why)
            Metrics.counter(NAMESPACE, kind).inc()
            yield path


def _is_ours(path: str, file: Row) -> bool:
    """Whether a file is the very one that was written: what somebody else has put there is not pruned."""
    return bool(file) and is_intact(path, file["size"], file["modified"], file["sha256"], check=True)


class _Confirm(beam.DoFn):
    """Photos that are no more. One that could not be listed may be there, and one that is passed over is."""

    def process(self, orphan: tuple[str, str], unlisted: list[str]) -> Iterator[tuple[str, bool]]:
        key, uri = orphan
        if not any(uri == place or uri.startswith(f"{place}/") for place in unlisted) and stat_file(uri) is None:
            yield key, True


class RemoveStale(beam.PTransform):
    """Takes written (Written), failures and unlisted (Failure: those of all stages, and of listing), and orphans
    ((key, uri), see PendingFiles) by name -> paths of what was deleted, and of the list of photos that are to go from
    parts (remove_from_parts) once the run's own are committed.

    withdraw: whether what was made of a photo that is withheld now goes; tables: whether that is done in parts by the
    transform that writes them; prune: whether outputs of photos that are no more go.
    """

    def __init__(self, earlier: Earlier, output: str, run_id: str, withdraw: bool, tables: bool, prune: bool) -> None:
        super().__init__()
        self._earlier = earlier
        self._claims = _Claims(earlier.state, tables, prune)
        self._delete = _Delete(output, prune)
        self._withdraw = withdraw
        self._list = _list_path(output, run_id)

    def expand(self, parts: dict[str, beam.PCollection]) -> beam.PCollection:
        withdraw = self._withdraw
        withheld = (
            parts["failures"]
            | "Withheld" >> beam.Filter(lambda failure: withdraw and failure.stage not in NOT_READ)
            | "WithheldByKey" >> beam.Map(_of_failure).with_output_types(tuple[str, bool])
        )
        unlisted = parts["unlisted"] | "Unlisted" >> beam.Map(lambda failure: failure.uri).with_output_types(str)
        orphans = parts["orphans"] | "Confirm" >> beam.ParDo(_Confirm(), beam.pvalue.AsList(unlisted))
        orphans.element_type = KV[str, bool]
        claims = (
            {
                "written": parts["written"]
                | "WrittenByKey" >> beam.Map(_of_written).with_output_types(tuple[str, Written]),
                "withheld": withheld,
                "orphans": orphans,
                "rows": self._earlier.rows,
                "members": self._earlier.members,
            }
            | beam.CoGroupByKey()
            | "Claims" >> beam.ParDo(self._claims).with_outputs(_IN_PARTS, main="claims")
        )
        claims.claims.element_type = KV[str, tuple[str, Row]]
        claims[_IN_PARTS].element_type = str
        gone = claims.claims | beam.GroupByKey() | "Delete" >> beam.ParDo(self._delete).with_output_types(str)
        listed = claims[_IN_PARTS] | "InParts" >> WriteLines(self._list)
        return (gone, listed) | beam.Flatten()


def _of_failure(failure: Failure) -> tuple[str, bool]:
    return key_of(failure.uri), True


def _of_written(written: Written) -> tuple[str, Written]:
    return key_of(written.origin.uri if written.origin else written.uri), written


def _list_path(output: str, run_id: str) -> str:
    return join(join(output, hidden_folder(run_id)), "gone.jsonl")


def remove_from_parts(output: str, run_id: str) -> dict[str, int]:
    """Takes the photos that RemoveStale has listed out of the output's parts; how many, by what is counted of them."""
    path = _list_path(output, run_id)
    if not exists(path):
        return {}
    gone: dict[str, str] = {}
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        for line in lines_of(stream, MAX_LINE):
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                uri, why = json.loads(line)
                gone[str(uri)] = str(why)
    found = remove_photos(output, f"{run_id}-gone", gone.keys())
    delete(path)
    return dict(Counter(gone[uri] for uri in found))
