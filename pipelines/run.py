"""What every job does around its pipeline: checks, the engine, the failures file, run.json, the exit status."""

import argparse
import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineResult, create_runner

from mien.models.runtime import cores
from mien.models.third_party import weights_digests
from mien.pipelines import JobError
from mien.pipelines.lock import Lock
from mien.pipelines.progress import DONE, FAILED, LISTED, Progress, Tell
from mien.pipelines.recover import WriteJournal, recover
from mien.pipelines.resume import (
    FAILED_FILES,
    INDEX,
    NOT_READ,
    OnlyLeft,
    Wanted,
    WithdrawWithheld,
    WriteIndex,
    WriteLines,
    fingerprint,
)
from mien.transforms.elements import CodedPhoto, Failure, ListedFile, Photo, PhotosAndFailures, SafePhoto, Written
from mien.transforms.files import delete, files_named, read_bytes, write_whole
from mien.transforms.isolate import LIMITS, Limits
from mien.transforms.manifest import commit, hidden_folder
from mien.transforms.names import common_root, is_local, join, normal_uri
from mien.transforms.read import ListFiles, folder_of, list_files
from mien.transforms.stage import NAMESPACE

LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
OK, BAD_COMMAND, SOME_FAILED = 0, 2, 3
_PACKAGES = ("mien", "apache-beam", "torch", "mediapipe", "numpy", "pillow", "opencv-contrib-python")


@dataclass(frozen=True)
class Plan:
    """What one job does.

    suffixes: of the files that it takes from folders. settings: all that decides what a photo's output is. work: the
    pipeline from the ListedFile that are left, and all of them, to the Written, failures included. decided: the names
    of settings that only decide on faces; same: whether faces of an index row are decided on as before (see
    resume.Wanted). withdraw: whether an output of a photo that is now withheld is deleted. dry: nothing is made that a
    later run could take for done.
    """

    command: str
    suffixes: frozenset[str]
    settings: dict[str, Any]
    work: Callable[[PhotosAndFailures, beam.PCollection], PhotosAndFailures]
    decided: tuple[str, ...] = ()
    same: Callable[[list[dict[str, Any]]], bool] | None = None
    withdraw: bool = False
    dry: bool = False

    @property
    def wanted(self) -> Wanted:
        """How an output must have been made to be done."""
        base = {name: value for name, value in self.settings.items() if name not in self.decided}
        return Wanted(fingerprint(self.settings), fingerprint(base) if self.decided else "", self.same)


class Job:
    """One run: where it goes, on how many processes, and what is common to its parts."""

    def __init__(self, args: argparse.Namespace, beam_words: list[str]) -> None:
        if not args.output:
            raise JobError("--output is empty")
        self.inputs = [normal_uri(uri) for uri in args.inputs]
        self.output = normal_uri(args.output)
        self.overwrite: bool = args.overwrite
        self.only_failed: bool = args.only_failed
        self.quiet: bool = args.quiet
        # of two runs the later one sorts last, however soon it follows
        self.run_id = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex[:4]}"
        self.workers: int = args.workers or cores()
        if all(is_local(uri) and os.path.isfile(uri) for uri in self.inputs):
            self.workers = min(self.workers, len(self.inputs))
        self.options = _engine(beam_words, self.workers, args.workers is not None)
        # what runs elsewhere starts one process for each core
        self.threads = max(1, cores() // self.workers) if self._local else 1
        self._seconds: int | None = args.photo_seconds
        self._megabytes: int = args.photo_memory
        self._address: tuple[str, int] | None = None

    def limits(self, seconds: float = LIMITS.seconds) -> Limits:
        """What a photo may take; seconds: if nothing is said about it."""
        threads = self._local and self.options.view_as(DirectOptions).direct_running_mode == "multi_threading"
        return Limits(self._seconds or seconds, self._megabytes, self.workers if threads else 1)

    @property
    def _local(self) -> bool:
        return str(self.options.view_as(StandardOptions).runner) == LOCAL_RUNNER

    @property
    def exclude(self) -> str:
        """The output, where it lies inside an input: its files are no photos to work on."""
        return self.output if any(self.output.startswith(f"{uri}/") for uri in self.inputs) else ""

    def tell_done(
        self, photos: beam.PCollection, element: type[CodedPhoto] | type[Photo] | type[SafePhoto]
    ) -> beam.PCollection:
        """Counts the photos in the progress display as they come through this place."""
        return photos | "TellDone" >> beam.ParDo(Tell(self._address, DONE)).with_output_types(element)

    def run(self, plan: Plan) -> int:
        """Runs the plan; the exit status. Raises JobError for what keeps it from starting or stops it."""
        FileSystems.set_options(self.options)
        self._check(plan)
        with contextlib.ExitStack() as stack:
            try:
                files_named(self.output, INDEX, "")  # says at once that there is no bucket; an upload tries for minutes
                lock = stack.enter_context(Lock(self.output, self.run_id))
                recover(self.output, lock.killed)
                earlier = any(files_named(self.output, *kind) for kind in ((INDEX, ".jsonl"), ("run-", ".json")))
                if self.only_failed and not earlier:
                    raise JobError(f"{self.output}: --only-failed, and no earlier run is there")
            except JobError:
                raise
            except Exception as error:
                raise JobError(f"{self.output}: cannot be written: {_reason(error)}") from error
            return self._run(plan)

    def _run(self, plan: Plan) -> int:
        started = time.time()
        progress = Progress(self.quiet)
        self._address = progress.address if self._local else None
        try:
            result = self._execute(plan)
            commit(self.output, self.run_id)
            delete(join(join(self.output, hidden_folder(self.run_id)), ""))
        except Exception as error:
            logging.getLogger(__name__).info("the job stopped", exc_info=True)
            raise JobError(f"the job stopped: {_reason(error)}") from error
        finally:
            progress.close()
            recover(self.output, killed=False)  # after an error or Ctrl-C: what is done stays done
        record = self._record(plan, result, started)
        self._write(record, "dry-run" if plan.dry else "run")
        if not self.quiet:
            print(f"{_summary(record)}; results in {self.output}", file=sys.stderr)
        return SOME_FAILED if record["counts"]["withheld"] or record["counts"]["failed"] else OK

    def _check(self, plan: Plan) -> None:
        if self.only_failed and plan.dry:
            raise JobError("--only-failed does photos again, --dry-run does none")
        if self.output in self.inputs:
            raise JobError(f"{self.output} is both input and output")
        root = common_root(folder_of(uri, plan.suffixes) for uri in self.inputs)
        for uri in self.inputs:
            try:
                next(list_files(uri, root, plan.suffixes, self.exclude), None)
            except Exception as error:
                message = str(error) if isinstance(error, FileNotFoundError) else f"{uri}: {_reason(error)}"
                raise JobError(message) from error

    def _execute(self, plan: Plan) -> PipelineResult:
        pipeline = beam.Pipeline(options=self.options)
        listed = pipeline | ListFiles(self.inputs, plan.suffixes, self.exclude)
        told = listed.photos | "TellListed" >> beam.ParDo(Tell(self._address, LISTED)).with_output_types(ListedFile)
        anew = self.overwrite or plan.dry
        left = told | OnlyLeft(self.output, plan.wanted, anew, self._address, self.only_failed)
        written = plan.work(PhotosAndFailures(photos=left, failures=listed.failures), listed.photos)
        if not plan.dry:
            journal = beam.ParDo(WriteJournal(self.output, self.run_id, plan.wanted)).with_output_types(Written)
            _ = written.photos | journal | WriteIndex(self.output, self.run_id, plan.wanted)
            if plan.withdraw and files_named(self.output, INDEX, ".jsonl"):
                _ = written.failures | WithdrawWithheld(self.output)
        _ = (
            written.failures
            | "TellFailed" >> beam.ParDo(Tell(self._address, FAILED)).with_output_types(Failure)
            | "AsJson" >> beam.ParDo(_FailureLine()).with_output_types(str)
            | "WriteFailures" >> WriteLines(join(self.output, self._failures_file))
        )
        result = pipeline.run()
        result.wait_until_finish()
        return result

    @property
    def _failures_file(self) -> str:
        return f"{FAILED_FILES}{self.run_id}.jsonl"

    def _record(self, plan: Plan, result: PipelineResult, started: float) -> dict[str, Any]:
        """What run.json says: the run's settings and what became of the photos. No names of photos, no pixels.

        It is an audit record: the digests of the weights, of the index (which has those of all outputs) and of the
        failures, and of the run.json before it.
        """
        counters, times = _metrics(result)
        failed = {name.removeprefix("failed_"): n for name, n in counters.items() if name.startswith("failed_")}
        not_understood = sum(n for stage, n in failed.items() if stage not in NOT_READ)
        return {
            "run": self.run_id,
            "command": plan.command,
            "started": datetime.datetime.fromtimestamp(started, datetime.UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - started, 3),
            "settings": plan.settings,
            "fingerprint": fingerprint(plan.settings),
            "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
            "only_failed": self.only_failed,
            "engine": {"runner": self.options.view_as(StandardOptions).runner, "workers": self.workers},
            "counts": {
                "in": counters.get("photos_in", 0),
                "out": counters.get("photos_out", 0),
                "withheld": not_understood,
                "failed": sum(failed.values()) - not_understood,
                "skipped": counters.get("photos_skipped", 0),
                "withdrawn": counters.get("withdrawn", 0),
                "escalated": counters.get("escalated", 0),
                "faces": counters.get("faces", 0),
            },
            "actions": {name.removeprefix("action_"): n for name, n in counters.items() if name.startswith("action_")},
            "failed_in": failed,
            "bytes": {"in": counters.get("bytes_in", 0), "out": counters.get("bytes_out", 0)},
            "milliseconds": times,
            "failures": self._failures_file if failed else None,
            "sha256": {
                "weights": weights_digests(),
                "index": self._digest(f"{INDEX}{self.run_id}.jsonl"),
                "failures": self._digest(self._failures_file),
            },
            "previous": None if plan.dry else self._previous(),
        }

    def _digest(self, name: str) -> str | None:
        """The sha256 of a file in the output, None where there is none."""
        path = join(self.output, name)
        return hashlib.sha256(read_bytes(path)).hexdigest() if FileSystems.exists(path) else None

    def _previous(self) -> str | None:
        """The sha256 of the last run's record, which is also kept as run-RUN.json; None for the first run."""
        records = files_named(self.output, "run-", ".json")
        return self._digest(records[-1].rpartition("/")[2] if records else "run.json")

    def _write(self, record: dict[str, Any], kind: str) -> None:
        """run.json, which is the last run's, and the same as run-RUN.json; of a dry run dry-run.json alone."""
        data = f"{json.dumps(record, indent=1)}\n".encode()
        try:
            if kind == "run":
                write_whole(join(self.output, f"run-{self.run_id}.json"), data)
            write_whole(join(self.output, f"{kind}.json"), data)
        except Exception as error:
            raise JobError(f"{self.output}: run.json cannot be written: {_reason(error)}") from error


def warn_unmarked() -> None:
    """Says once that the outputs will not tell that faces in them are generated."""
    print("mien: warning: nothing in the pictures will say that faces in them are generated", file=sys.stderr)


class _FailureLine(beam.DoFn):
    def process(self, failure: Failure) -> Iterator[str]:
        Metrics.counter(NAMESPACE, f"failed_{failure.stage}").inc()
        yield json.dumps(asdict(failure))


def _engine(beam_words: list[str], workers: int, workers_given: bool) -> PipelineOptions:
    """The pipeline's options: on this machine unless a runner is named."""
    words = list(beam_words)
    named = [word for word in words if word.split("=")[0] == "--runner"]
    if not named:
        # DirectRunner becomes a one-process Prism wherever Prism can be had, and drops worker options without a word
        mode = "multi_processing" if workers > 1 else "in_memory"
        if not any(word.startswith("--direct_running_mode") for word in words):
            words.append(f"--direct_running_mode={mode}")
        words += [f"--runner={LOCAL_RUNNER}", f"--direct_num_workers={workers}"]  # the last one of a name counts
    elif workers_given:
        raise JobError("--workers is for runs on this machine; the named runner has its own option")
    try:
        options = PipelineOptions(words)
        runner = str(options.view_as(StandardOptions).runner)
        if runner.rpartition(".")[2] == "DaskRunner":
            raise JobError("DaskRunner reports no metrics in this Beam, so what became of the photos could not be told")
        create_runner(runner)
    except (ValueError, ImportError, AttributeError, SystemExit) as error:
        raise JobError(f"the Beam options cannot be used: {_reason(error)}") from error
    return options


def _metrics(result: PipelineResult) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Counters by name, and milliseconds by stage, summed over the pipeline's steps."""
    found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    counters: dict[str, int] = {}
    for counter in found["counters"]:
        counters[counter.key.metric.name] = counters.get(counter.key.metric.name, 0) + (counter.result or 0)
    times = {
        entry.key.metric.name.removesuffix("_ms"): {"sum": entry.result.sum, "max": entry.result.max}
        for entry in found["distributions"]
        if entry.key.metric.name.endswith("_ms") and entry.result is not None
    }
    return counters, times


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _reason(error: BaseException) -> str:
    """What happened, in one line. Beam packs a store's errors into its own, and puts tracebacks before a message."""
    details = getattr(error, "exception_details", None)
    if isinstance(details, dict) and details:
        return _reason(next(iter(details.values())))
    if getattr(error, "code", None) == 404 or 404 in error.args:
        return "no such bucket"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:500] if lines else type(error).__name__


def _summary(record: dict[str, Any]) -> str:
    counts, size = record["counts"], record["bytes"]
    passed = "passed over" if record["only_failed"] else "done before"
    skipped = f", {counts['skipped']} {passed}" if counts["skipped"] else ""
    lost = counts["withheld"] + counts["failed"]
    failed = f"; {lost} not: see {record['failures']}" if lost else ""
    return (
        f"{counts['out']} of {counts['in']} photos{skipped}, {counts['faces']} faces, {size['in']:,} bytes in, "
        f"{size['out']:,} out, {record['seconds']:.1f} s{failed}"
    )
