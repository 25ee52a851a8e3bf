"""What every job does around its pipeline: checks, the engine, the failures file, run.json, the exit status."""

import argparse
import contextlib
import dataclasses
import datetime
import functools
import itertools
import json
import logging
import os
import platform
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import DirectOptions
from apache_beam.runners.runner import PipelineResult

from mien.models.weights import CODEC_FILES, POOL_FILE, WeightsFolder, use_weights
from mien.pipelines import JobError, JobStoppedError
from mien.pipelines.failures import failures_file
from mien.pipelines.runs.engine import choose
from mien.pipelines.runs.index import INDEX, run_of
from mien.pipelines.runs.lock import Lock
from mien.pipelines.runs.nothing_left import all_done
from mien.pipelines.runs.plan import Plan, version_of
from mien.pipelines.runs.progress import DONE, FAILED, LISTED, Progress, SendProgress
from mien.pipelines.runs.record import RecordFromWithin, complete, corrections_file, write_record
from mien.pipelines.runs.recover import WriteJournal, recover, refuse_leased
from mien.pipelines.runs.resume import Earlier, PendingFiles, WriteIndex, WriteLines, fingerprint
from mien.pipelines.runs.stale import RemoveStale, remove_from_parts
from mien.pipelines.runs.summary import metrics_of, reason_of, summary_of, why_not_listed
from mien.transforms.elements import (
    CodedPhoto,
    Failure,
    ListedFile,
    MagnifiedPhoto,
    Photo,
    PhotosAndFailures,
    SafePhoto,
    Written,
)
from mien.transforms.formats import HIDDEN_PREFIX, LEASE_SECONDS, KeepLease, commit, hidden_folder, is_shard, renew
from mien.transforms.settings import Settings
from mien.transforms.sources import (
    EXCLUDED,
    PASSED,
    GiveCorrections,
    ListFiles,
    folder_of,
    is_covered,
    is_many,
    list_files,
    passed_over,
    patterns_of,
)
from mien.transforms.stores import (
    common_root,
    delete,
    files_named,
    is_local,
    is_safe_name,
    join,
    normal_uri,
    not_for_photos,
    printable,
)
from mien.transforms.workers import DEFAULT_LIMITS, NAMESPACE, Limits, wake_fork_server

S = TypeVar("S", bound=Settings)
OK, BAD_COMMAND, SOME_FAILED = 0, 2, 3
_PACKAGES = ("mien", "apache-beam", "torch", "mediapipe", "numpy", "pillow", "opencv-contrib-python")


class Job:
    """One run: where it goes, on how many processes, and what is common to its parts.

    more_weights: files that it needs beside the codec's, where others than the package's are asked for.
    """

    def __init__(self, args: argparse.Namespace, beam_words: list[str], more_weights: Sequence[str] = ()) -> None:
        if not args.output:
            raise JobError("--output is empty")
        if not all(args.inputs):  # a shell variable that is not set; as a path it would be the current folder
            raise JobError("an INPUT is empty")
        if args.weights == "":
            raise JobError("--weights is empty")
        self.inputs = [normal_uri(uri) for uri in args.inputs]
        self.globs = (*EXCLUDED, *(args.exclude or ()))
        self.output = normal_uri(args.output)
        self.overwrite: bool = args.overwrite
        self.only_failed: bool = args.only_failed
        self.quiet: bool = args.quiet
        self.check: bool = args.check
        self.prune: bool = args.prune
        # of two runs the later one sorts last, however soon it follows
        self.run_id = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex[:4]}"
        # how many photos a shard holds is not known
        files = all(is_local(uri) and os.path.isfile(uri) and not is_shard(uri) for uri in self.inputs)
        self.engine = choose(beam_words, args.workers, len(self.inputs) if files else None)
        self.threads = self.engine.threads
        self.weights = WeightsFolder()
        if args.weights:  # workers take these very files or none
            self.weights = WeightsFolder(normal_uri(args.weights)).pinned(*CODEC_FILES, *more_weights)
        use_weights(self.weights)
        self._seconds: int | None = args.photo_seconds
        self._photo_limit = DEFAULT_LIMITS.seconds
        self._megabytes: int = args.photo_memory
        self._address: tuple[str, int] | None = None
        self._recovered: list[str] = []
        self.record: dict[str, Any] = {}  # what run.json says, once the job is through

    def fitted(self, settings: S) -> S:
        """The settings with the threads of a worker of this run, and what a photo may take in it."""
        mode = self.engine.options.view_as(DirectOptions).direct_running_mode
        threads = (self.engine.workers or 1) if mode == "multi_threading" else 1
        limits = Limits(self._seconds or settings.seconds, self._megabytes, threads)
        self._photo_limit = limits.seconds
        return dataclasses.replace(settings, threads=self.threads, limits=limits)

    @property
    def _lease(self) -> float:
        """How long a template's job is left alone after a worker was last heard of: longer than a photo may take."""
        return max(LEASE_SECONDS, 3.0 * self._photo_limit)

    @property
    def exclude(self) -> str:
        """The output, where it lies inside an input: its files are no photos to work on."""
        return self.output if any(self.output.startswith(f"{uri}/") for uri in self.inputs) else ""

    def with_progress(
        self,
        made: PhotosAndFailures,
        element: type[CodedPhoto] | type[Photo] | type[SafePhoto] | type[MagnifiedPhoto],
    ) -> PhotosAndFailures:
        """Counts the photos in the progress display as they come through this place."""
        photos = made.photos | "SendDone" >> beam.ParDo(SendProgress(self._address, DONE)).with_output_types(element)
        return PhotosAndFailures(photos=photos, failures=made.failures)

    def run(self, plan: Plan) -> int:
        """Runs the plan; the exit status. Raises JobError for what keeps it from starting or stops it."""
        FileSystems.set_options(self.engine.options)
        if self.weights.uri:
            plan = dataclasses.replace(plan, weights=dict(self.weights.digests))
        self._check(plan)
        with contextlib.ExitStack() as stack:
            try:
                _list_output(self.output)
                lock = stack.enter_context(Lock(self.output, self.run_id))
                lock.keep = True
                refuse_leased(self.output)
                if not plan.dry:  # a dry run's record is none of the chain, in which what was killed is told
                    self._recovered = self._recover(lock)
                earlier = any(files_named(self.output, *kind) for kind in ((INDEX, ".jsonl"), ("run-", ".json")))
                if self.only_failed and not earlier:
                    raise JobError(f"{self.output}: --only-failed, and no earlier run is there")
            except JobError:
                raise
            except Exception as error:
                raise JobError(f"{self.output}: cannot be written: {reason_of(error)}") from error
            done = self._all_done(plan) if earlier else None
            if done is None:
                wake_fork_server()
                self._check_models(plan)
            return self._run(plan, lock, done)

    def _all_done(self, plan: Plan) -> Counter[str] | None:
        """The counters of a run that finds everything done; None where workers must be started to tell."""
        if not self.engine.local or self.overwrite or self.only_failed or plan.dry or plan.corrections or plan.column:
            return None
        passed: Counter[str] = Counter()
        root = self._root(plan)
        listed = (list_files(uri, root, plan.suffixes, self.exclude, self.globs, passed) for uri in self.inputs)
        covers = functools.partial(is_covered, patterns=patterns_of(self.inputs))
        done = all_done(itertools.chain.from_iterable(listed), self.output, plan.wanted, self.check, covers)
        if done is not None:
            done.update({f"{PASSED}{kind}": count for kind, count in passed.items()})
        return done

    def _root(self, plan: Plan) -> str:
        return common_root(folder_of(uri, plan.suffixes) for uri in self.inputs)

    def _check_models(self, plan: Plan) -> None:
        """Raises WeightsError for weights that the job cannot work with. Loads torch, which workers, who load this
        module too, leave to their children."""
        plan.check()
        if POOL_FILE in dict(self.weights.digests):
            from mien.models.codec import FaceCodec
            from mien.models.privacy import check_files

            check_files(FaceCodec.load().basis, self.weights)

    def _recover(self, lock: Lock) -> list[str]:
        """Puts away what runs that were killed have left; those of them that have no record."""
        runs = {*recover(self.output, lock.killed), str(lock.left.get("run", ""))}
        lock.keep = False
        known = {run_of(path, ".json") for path in files_named(self.output, "run-", ".json")}
        return sorted(run for run in runs - known if is_safe_name(run) and "/" not in run)

    def _run(self, plan: Plan, lock: Lock, done: Counter[str] | None) -> int:
        """done: the counters of a run in which nothing is left to do."""
        started = time.time()
        if done is not None:
            return self._finish(plan, started, done, {})
        progress = Progress(self.quiet or not self.engine.local)
        self._address = progress.address if self.engine.local else None
        try:
            result = self._execute(plan, started)
            lock.check()
            if not self.engine.template:
                commit(self.output, self.run_id)
                removed = remove_from_parts(self.output, self.run_id)
        except BaseException as error:
            with contextlib.suppress(Exception):  # of a store that is away, or a full disk: the next run does it
                lock.check()
                if self.engine.template:  # no job was launched
                    delete(join(join(self.output, hidden_folder(self.run_id)), ""))
                if not plan.dry:
                    recover(self.output, killed=False)  # after an error or Ctrl-C: what is done stays done
            if isinstance(error, JobError) or not isinstance(error, Exception):
                raise
            logging.getLogger(__name__).info("the job stopped", exc_info=True)
            raise JobStoppedError(f"the job stopped: {reason_of(error)}") from error
        finally:
            progress.close()
        if self.engine.template:
            told = f"{self.engine.template} describes the job, which writes {plan.kind}.json itself"
            print(printable(told), file=sys.stderr)
            return OK
        counters, spread = metrics_of(result)
        return self._finish(plan, started, Counter(counters) + Counter(removed), spread)

    def _finish(self, plan: Plan, started: float, counters: Counter[str], spread: dict[str, dict[str, int]]) -> int:
        """Writes the record of a run that is through, and says what became of the photos; the exit status."""
        record = self.record = complete(self._about(plan, started), counters, spread, self.output, plan.kind)
        try:
            write_record(record, self.output, plan.kind)
        except Exception as error:
            raise JobStoppedError(f"{self.output}: run.json cannot be written: {reason_of(error)}") from error
        delete(join(join(self.output, hidden_folder(self.run_id)), ""))  # now that all of the run is told
        if not self.quiet:
            print(printable(f"{summary_of(record)}; results in {self.output}"), file=sys.stderr)
            passed = Counter({name.removeprefix(PASSED): n for name, n in counters.items() if name.startswith(PASSED)})
            if passed and not plan.tables:  # beside tables lies what mien itself writes
                print(printable(f"mien: passed over: {passed_over(passed)}"), file=sys.stderr)
        return SOME_FAILED if record["counts"]["withheld"] or record["counts"]["failed"] else OK

    def _check(self, plan: Plan) -> None:
        if self.only_failed and plan.dry:
            raise JobError("--only-failed does photos again, --dry-run does none")
        if self.prune and plan.dry:
            raise JobError("--prune deletes, --dry-run changes nothing")
        weights = [self.weights.uri] if self.weights.uri else []
        self.engine.check_seen_by_workers([*self.inputs, self.output, *plan.reads, *weights])
        for uri in (*self.inputs, self.output):
            if reason := not_for_photos(uri):
                raise JobError(f"{uri}: {reason}")
        if self.output in self.inputs:
            raise JobError(f"{self.output} is both input and output")
        if f"/{HIDDEN_PREFIX}" in self.output:
            raise JobError(f"{self.output}: names that begin with {HIDDEN_PREFIX} are mien's own, and are deleted")
        root = self._root(plan)
        many = [uri for uri in self.inputs if is_many(uri, plan.suffixes)]
        if many and self.output == root and (plan.command, plan.recorded.get("format")) != ("compress", "parquet"):
            raise JobError(f"{self.output}: the results would lie among the photos of {many[0]}")
        for uri in self.inputs:
            try:
                next(list_files(uri, root, plan.suffixes, self.exclude, self.globs), None)
            except Exception as error:
                message = str(error) if isinstance(error, FileNotFoundError) else f"{uri}: {why_not_listed(error)}"
                raise JobError(message) from error

    def _execute(self, plan: Plan, started: float) -> PipelineResult:
        pipeline = beam.Pipeline(options=self.engine.options)
        known = self.exclude, not plan.tables, self.globs, plan.whole, plan.column
        listed = pipeline | ListFiles(self.inputs, plan.suffixes, *known)
        unlisted = listed.failures
        if plan.corrections:
            listed = listed | GiveCorrections(plan.corrections)
        files = listed.photos | "SendListed" >> beam.ParDo(SendProgress(self._address, LISTED)).with_output_types(
            ListedFile
        )
        anew = self.overwrite or plan.dry
        earlier = Earlier.read(pipeline, self.output, self.check)
        covers = functools.partial(is_covered, patterns=patterns_of(self.inputs))
        pending_files = PendingFiles(earlier, plan.wanted, anew, self._address, self.only_failed, covers)
        left = files | pending_files
        if self.engine.template:
            renew(self.output, self.run_id, self._lease)
            keep = KeepLease(self.output, self.run_id, self._lease)
            left = left | "KeepLease" >> beam.ParDo(keep).with_output_types(ListedFile)
        written = plan.work(PhotosAndFailures(photos=left, failures=listed.failures), listed.photos)
        steps: dict[str, beam.PCollection] = {}
        steps["failed"] = (
            written.failures
            | "SendFailed" >> beam.ParDo(SendProgress(self._address, FAILED)).with_output_types(Failure)
            | "AsJson" >> beam.ParDo(_FailureLine()).with_output_types(str)
            | "WriteFailures" >> WriteLines(join(self.output, failures_file(self.run_id)))
        )
        if not plan.dry:
            if plan.corrections:
                lines = [line.decode() for line in plan.corrections.data.splitlines()]
                wanted = pipeline | "CorrectionLines" >> beam.Create(lines, reshuffle=False).with_output_types(str)
                path = join(self.output, corrections_file(self.run_id))
                steps["corrections"] = wanted | "Corrections" >> WriteLines(path)
            journal = beam.ParDo(WriteJournal(self.output, self.run_id, plan.wanted)).with_output_types(Written)
            # where there is an index, all is there that tells which of its photos have failed since
            index = WriteIndex(self.output, self.run_id, plan.wanted, after=steps["failed"])
            steps["index"] = written.photos | journal | index
            if earlier is not None and pending_files.orphans is not None:
                steps["stale"] = {
                    "written": written.photos,
                    "failures": written.failures,
                    "unlisted": unlisted,
                    "orphans": pending_files.orphans,
                } | RemoveStale(earlier, self.output, self.run_id, plan.withdraw, plan.parts, self.prune)
        if self.engine.template:
            steps |= {"listed": listed.photos, "left": left, "written": written.photos, "failures": written.failures}
            _ = steps | RecordFromWithin(self._about(plan, started), self.output, plan.kind, plan.tables)
        try:
            result = pipeline.run()
        except Exception as error:
            if self.engine.local:  # there it is the whole job
                raise
            raise JobError(f"{self.engine.runner} did not take the job: {reason_of(error)}") from error
        result.wait_until_finish()
        return result

    def _about(self, plan: Plan, started: float) -> dict[str, Any]:
        """What run.json says that is known before the run."""
        return {
            "run": self.run_id,
            "command": plan.command,
            "started": started,
            "settings": plan.recorded,
            "fingerprint": fingerprint(plan.recorded),
            "versions": {"python": platform.python_version(), **{name: version_of(name) for name in _PACKAGES}},
            "only_failed": self.only_failed,
            "recovered": self._recovered,
            "engine": {"runner": self.engine.runner, "workers": self.engine.workers},
            **({"corrections": plan.corrections.summary} if plan.corrections else {}),
        }


def warn_unmarked() -> None:
    """Says once that the outputs will not tell that faces in them are generated."""
    print("mien: warning: nothing in the pictures will say that faces in them are generated", file=sys.stderr)


class _FailureLine(beam.DoFn):
    def process(self, failure: Failure) -> Iterator[str]:
        Metrics.counter(NAMESPACE, f"failed_{failure.stage}").inc()
        yield json.dumps(asdict(failure))


def _list_output(output: str) -> None:
    """Says at once that there is no bucket; an upload would try for minutes."""
    try:
        files_named(output, INDEX, "")
    except Exception as error:
        raise JobError(f"{output}: cannot be written: {why_not_listed(error)}") from error
