"""Which engine runs a job, this machine or the runner that Beam's options name, and whether the options fit."""

import argparse
import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    SetupOptions,
    SparkRunnerOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.runners.runner import create_runner

from mien.models.runtime import cores
from mien.pipelines import JobError
from mien.transforms.stores import is_local

# DirectRunner becomes a one-process Prism wherever Prism can be had, and drops worker options without a word
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
_ELSEWHERE = (
    FlinkRunnerOptions,
    JobServerOptions,
    PortableOptions,
    PrismRunnerOptions,
    SparkRunnerOptions,
    WorkerOptions,
)
_ON_DATAFLOW = {"--dataflow_endpoint", "--dataflow_service_option", "--dataflow_service_options", "--flexrs_goal"}
_ON_DATAFLOW |= {"--template_location", "--service_account_email", "--update"}
_HERE_TOO = {"--default_sdk_harness_log_level", "--sdk_harness_log_level_overrides", "--max_cache_memory_usage_mb"}
_HERE_TOO |= {"--element_processing_timeout_minutes"}
_IN_BEAMS_CONTAINER = "workers would start in Beam's own container, which mien is not in"


@dataclass(frozen=True)
class Engine:
    """options: of the pipeline. workers: processes on this machine; None where the runner has its own way. threads:
    that one process may use; what runs elsewhere starts one process for each core."""

    options: PipelineOptions
    workers: int | None
    threads: int = 1

    @property
    def runner(self) -> str:
        """The runner as it was named, or as mien named it."""
        return str(self.options.view_as(StandardOptions).runner)

    @property
    def local(self) -> bool:
        """Whether the job runs in this process and its children."""
        return self.workers is not None

    @property
    def template(self) -> str:
        """Where a Dataflow template is launched: the place of the job's description. Nobody waits for such a job."""
        return str(self.options.view_as(GoogleCloudOptions).template_location or "")

    def check_seen_by_workers(self, uris: Sequence[str]) -> None:
        """JobError for a path on this machine that workers on Dataflow would look for on their own disks."""
        if _last(self.runner) == "dataflowrunner":
            for uri in uris:
                if is_local(uri):
                    raise JobError(f"{uri}: lies on this machine, and the job runs on Dataflow: use a gs:// URI")


def choose(beam_words: list[str], workers: int | None, most: int | None = None) -> Engine:
    """The engine for Beam's options: this machine's cores unless another runner is named.

    workers: what --workers says; most: as many as there is work for. JobError where the options cannot be used, would
    be dropped by the engine without a word, or contradict each other.
    """
    named = _values(beam_words, "--runner")
    words = list(beam_words)
    if not named or named[-1] in (LOCAL_RUNNER, "FnApiRunner"):
        processes = _processes(words, workers, most)
        if not _values(words, "--direct_running_mode"):
            words.append(f"--direct_running_mode={'multi_processing' if processes > 1 else 'in_memory'}")
        words += [f"--runner={LOCAL_RUNNER}", f"--direct_num_workers={processes}"]  # the last one of a name counts
        # N workers that were asked for use N cores; where there is less work than cores, a process may have several
        return Engine(_options(words), processes, 1 if workers else max(1, cores() // processes))
    if workers is not None:
        raise JobError("--workers is for runs on this machine; the named runner has its own option")
    names = _names(words)
    if direct := [name for name in names if name.startswith("--direct_")]:
        raise JobError(f"{direct[0]} is dropped by {named[-1]}: leave --runner out, and use --workers")
    if _last(named[-1]) == "daskrunner":
        raise JobError("DaskRunner reports no metrics in this Beam, so what became of the photos could not be told")
    if not {"--save_main_session", "--no_save_main_session"} & set(names):
        words.append("--no_save_main_session")  # mien's code is imported; what else is in memory stays here
    options = _options(words)
    _check_workers_have_mien(options)
    return Engine(options, None)


def _processes(words: list[str], workers: int | None, most: int | None) -> int:
    """How many processes a job on this machine gets."""
    names = _names(words)
    if "--direct_num_workers" in names:
        raise JobError("--direct_num_workers: use --workers")
    elsewhere = (_names_of(_ELSEWHERE) | _ON_DATAFLOW) - _HERE_TOO
    if foreign := [name for name in names if name in elsewhere]:
        raise JobError(f"{foreign[0]} does nothing on this machine: name a runner that knows it with --runner")
    if _values(words, "--direct_running_mode")[-1:] == ["in_memory"]:
        if workers is not None and workers > 1:
            raise JobError(f"--direct_running_mode=in_memory is one process: it contradicts --workers {workers}")
        return 1
    return min(workers or cores(), most or 1024)


def _check_workers_have_mien(options: PipelineOptions) -> None:
    runner = _last(options.view_as(StandardOptions).runner)
    image = options.view_as(WorkerOptions).sdk_container_image
    setup = options.view_as(SetupOptions)
    if runner == "dataflowrunner":
        if not (image or setup.setup_file or setup.requirements_file or setup.extra_packages):
            raise JobError(f"{_IN_BEAMS_CONTAINER}: name an image with --sdk_container_image, see deploy/README.md")
    elif runner == "portablerunner":
        portable = options.view_as(PortableOptions)
        given = image or portable.environment_config or portable.environment_options
        if portable.environment_type in (None, "DOCKER") and not given:
            raise JobError(f"{_IN_BEAMS_CONTAINER}: --environment_type (LOOPBACK, EXTERNAL) or --sdk_container_image")


def _options(words: list[str]) -> PipelineOptions:
    said = io.StringIO()  # argparse prints what is wrong, and its usage
    try:
        with contextlib.redirect_stderr(said):
            options = PipelineOptions(words)
            options.get_all_options()  # each is only parsed when it is asked for
            runner = str(options.view_as(StandardOptions).runner)
        create_runner(runner)
    except SystemExit:
        wrong = said.getvalue().strip().rpartition("error: ")[2]
    except (ValueError, ImportError, AttributeError) as error:
        wrong = str(error).strip().rpartition("\n")[2] or type(error).__name__
    else:
        return options
    raise JobError(f"the Beam options cannot be used: {wrong}")


def _last(runner: object) -> str:
    """A runner's class name in small letters: Beam takes `dask`, DaskRunner and the whole path for the same."""
    name = str(runner).rpartition(".")[2].lower()
    return name if name.endswith("runner") else f"{name}runner"


def _names(words: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if word.startswith("--")]


def _values(words: list[str], name: str) -> list[str]:
    """The values of an option, written as one word or as two."""
    found = [word.partition("=")[2] for word in words if word.startswith(f"{name}=")]
    return found + [words[i + 1] for i, word in enumerate(words[:-1]) if word == name]


def _names_of(classes: Sequence[Any]) -> set[str]:
    parser = argparse.ArgumentParser(add_help=False, conflict_handler="resolve")
    for options in classes:
        options._add_argparse_args(parser)
    return {name for action in parser._actions for name in action.option_strings}
