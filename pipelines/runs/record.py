"""run.json: the run's settings and what became of the photos. No names of photos, no pixels, no secret.

The command writes it when the job is through. Nobody waits for a job that is launched from a Dataflow template: there
the job's own last step writes it.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from mien.models.weights import weights_digests
from mien.pipelines.failures import failures_file
from mien.pipelines.runs.index import FAILED_FILES, INDEX
from mien.pipelines.runs.stale import remove_from_parts
from mien.transforms.elements import Failure, ListedFile, Written
from mien.transforms.formats import commit, hidden_folder, live_until
from mien.transforms.stores import delete, exists, files_named, join, sha256_of, write_whole
from mien.transforms.workers import NOT_READ, NOT_THE_SAME

Counts = dict[str, int]
Digests = dict[str, str]
_UNKNOWN = (
    "escalated",
    "in_doubt",
    "corrected",
    "replaced",
    "orphans",
    "pruned",
    "damaged",
)  # to a job that counts what goes through it
_MAGNIFIED = ("magnified", "flagged", "identity_not_preserved")
# faces that are no longer the same person, faces that look better in their own pixels, photos that need no more bytes
_COMPRESSED = (NOT_THE_SAME, "pixels", "below_budget")
_LEFT_OUT = ("pages_left_out", "floats_stretched")  # of TIFFs, see mien.transforms.steps.decode
_SPREAD = ("photo_bytes", "photo_faces", "face_bytes")  # of the outputs; Beam adds figures of its own


def complete(
    about: dict[str, Any], counters: Counts, spread: dict[str, dict[str, int]], output: str, kind: str
) -> dict[str, Any]:
    """The record of a run that is through.

    about: what was known before it: run, command, started (Unix seconds) and so on. counters, spread: counters and
    distributions (count, sum, min, max) by name. kind: run or dry-run.

    It is an audit record: the digests of the weights, of the index (which has those of all outputs) and of the
    failures, of the corrections, and of the run.json before it.
    """
    failed = {name.removeprefix("failed_"): n for name, n in counters.items() if name.startswith("failed_")}
    not_understood = sum(n for stage, n in failed.items() if stage not in NOT_READ)
    failures = failures_file(about["run"])
    return {
        **about,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(about["started"])),
        "seconds": round(time.time() - about["started"], 3),
        "counts": {
            "in": counters.get("photos_in", 0),
            "out": counters.get("photos_out", 0),
            "withheld": not_understood,
            "failed": sum(failed.values()) - not_understood,
            "skipped": counters.get("photos_skipped", 0),
            "withdrawn": counters.get("withdrawn", 0),
            "replaced": counters.get("replaced", 0),
            "orphans": counters.get("orphans", 0),
            "pruned": counters.get("pruned", 0),
            "damaged": counters.get("rows_damaged", 0) + counters.get("parts_damaged", 0),
            "escalated": counters.get("escalated", 0),
            "faces": counters.get("faces", 0),
            "in_doubt": counters.get("in_doubt", 0),
            **({"corrected": counters.get("corrected", 0)} if "corrections" in about else {}),
            **{name: counters[name] for name in _LEFT_OUT if counters.get(name)},
            **({name: counters.get(name, 0) for name in _MAGNIFIED} if about["command"] == "magnify" else {}),
            **({name: counters.get(name, 0) for name in _COMPRESSED} if about["command"] == "compress" else {}),
        },
        "actions": {name.removeprefix("action_"): n for name, n in counters.items() if name.startswith("action_")},
        "failed_in": failed,
        "bytes": {"in": counters.get("bytes_in", 0), "out": counters.get("bytes_out", 0)},
        "milliseconds": {name.removesuffix("_ms"): of for name, of in spread.items() if name.endswith("_ms")},
        "spread": {name: of for name, of in spread.items() if name in _SPREAD},
        "failures": failures if failed else None,
        "sha256": {
            "weights": weights_digests() | about["settings"].get("weights", {}),
            "index": _digest(output, f"{INDEX}{about['run']}.jsonl"),
            "failures": _digest(output, failures),
            "recovered": _recovered(output, about.get("recovered", ())),
            **({"corrections": _digest(output, corrections_file(about["run"]))} if "corrections" in about else {}),
        },
        "previous": _previous(output, about["run"]) if kind == "run" else None,
    }


def _recovered(output: str, runs: Iterable[str]) -> Digests:
    """The sha256 of the index and failures files of runs that were killed, and have no record of their own."""
    names = [f"{kind}{run}.jsonl" for run in runs for kind in (INDEX, FAILED_FILES)]
    return {name: digest for name in names if (digest := _digest(output, name))}


def corrections_file(run_id: str) -> str:
    """The name of the copy of a reviewer's corrections that the run carried out."""
    return f"corrections-{run_id}.jsonl"


def write_record(record: dict[str, Any], output: str, kind: str) -> None:
    """run.json, which is the last run's, and the same as run-RUN.json; of a dry run dry-run.json alone."""
    data = f"{json.dumps(record, indent=1)}\n".encode()
    if kind == "run":
        write_whole(join(output, f"run-{record['run']}.json"), data)
    write_whole(join(output, f"{kind}.json"), data)


def _digest(output: str, name: str) -> str | None:
    """The sha256 of a file in the output, None where there is none."""
    path = join(output, name)
    return sha256_of(path) if exists(path) else None


def _previous(output: str, run_id: str) -> str | None:
    """The sha256 of the last run's record, which is also kept as run-RUN.json; None for the first run."""
    names = [path.rpartition("/")[2] for path in files_named(output, "run-", ".json")]
    names = [name for name in names if name != f"run-{run_id}.json"]  # this step may be done again
    return _digest(output, names[-1] if names else "run.json")


class _Write(beam.DoFn):
    def __init__(self, output: str, kind: str) -> None:
        self._output = output
        self._kind = kind

    def process(self, about: dict[str, Any], counters: Counts, files: Iterable[str]) -> Iterator[str]:
        list(files)  # all other files of the run are there
        if live_until(self._output, about["run"]) is None and not exists(self._record_path(about["run"])):
            raise RuntimeError(f"{self._output}: the lease of run {about['run']} has ended: another job may work on it")
        commit(self._output, about["run"])
        remove_from_parts(self._output, about["run"])
        record = complete(about, counters, {}, self._output, self._kind)
        # what only the engine's counters tell
        record["bytes"]["out"] = None
        record["counts"] |= dict.fromkeys(name for name in _UNKNOWN if name in record["counts"])
        if not any(name.startswith("action_") for name in counters):
            record["counts"]["faces"] = record["actions"] = None
            record["counts"] |= {name: None for name in _COMPRESSED if name in record["counts"]}
        write_record(record, self._output, self._kind)
        delete(join(join(self._output, hidden_folder(about["run"])), ""))
        yield join(self._output, f"{self._kind}.json")

    def _record_path(self, run_id: str) -> str:
        """What is there once this step is done, if it is done again."""
        return join(self._output, f"run-{run_id}.json" if self._kind == "run" else f"{self._kind}.json")


class RecordFromWithin(beam.PTransform):
    """The job's own last step: writes its record, counted from what went through it.

    Takes the outputs of its other steps by name: listed and left (ListedFile), written (Written), failures (Failure),
    and more, the paths of the files that they wrote. Of each photo's faces only those of safe photos are known; bytes
    written and times are not. about: see complete(). tables: a file holds many photos.
    """

    def __init__(self, about: dict[str, Any], output: str, kind: str, tables: bool) -> None:
        super().__init__()
        self._about = about
        self._write = _Write(output, kind)
        self._tables = tables

    def expand(self, parts: dict[str, beam.PCollection]) -> beam.PCollection:
        steps = dict(parts)
        facts = [
            steps.pop("listed") | "Listed" >> beam.Map(lambda file: {"photos_skipped": 1}),
            steps.pop("left") | "Left" >> beam.Map(_left_facts, self._tables),
            steps.pop("written") | "Out" >> beam.Map(_written_facts, self._tables),
            steps.pop("failures") | "Failed" >> beam.Map(_failure_facts, self._tables),
        ]
        for collection in facts:
            collection.element_type = Counts
        counted = facts | beam.Flatten() | beam.CombineGlobally(_add).with_output_types(Counts)
        files = list(steps.values()) | "Files" >> beam.Flatten()
        return (
            counted.pipeline
            | "About" >> beam.Create([self._about], reshuffle=False)
            | "Write" >> beam.ParDo(self._write, beam.pvalue.AsSingleton(counted), beam.pvalue.AsIter(files))
        )


def _left_facts(file: ListedFile, tables: bool) -> Counts:
    """Who is left was not skipped; how many photos a table holds is told by those that come out of it."""
    return {"photos_skipped": -1} if tables else {"photos_skipped": -1, "photos_in": 1, "bytes_in": file.size}


def _written_facts(written: Written, tables: bool) -> Counts:
    facts = Counter({"photos_out": 1, "faces": len(written.faces)})
    facts.update(f"action_{face.action}" for face in written.faces)
    return dict(facts + Counter(photos_in=1 if tables else 0))


def _failure_facts(failure: Failure, tables: bool) -> Counts:
    return {f"failed_{failure.stage}": 1, "photos_in": 1 if tables or failure.stage == "list" else 0}


def _add(facts: Iterable[Counts]) -> Counts:
    total: Counter[str] = Counter()
    for fact in facts:
        total.update(fact)
    return dict(total)
