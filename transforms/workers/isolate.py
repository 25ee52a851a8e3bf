"""The dangerous part of a photo's way in a process of its own: what kills it or hangs in it costs one photo.

Native code decodes files that anybody may have made. A worker keeps one child process, with the models loaded once, and
hands it one file's bytes after the other; what comes back is what is to be written, so that no pixel crosses. When the
child dies, its photo is tried once more in a new one (somebody else may have killed it) and is then recorded; when it
takes too long or too much memory it is killed and the photo recorded. Either way the next photo gets a new child.

Beam's own with_exception_handling(use_subprocess=True) wraps one DoFn: with it on each stage pixels would be pickled
between processes, and it has no limit of memory.
"""

import atexit
import contextlib
import dataclasses
import logging
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import apache_beam as beam
import psutil
from apache_beam.metrics import Metrics
from apache_beam.metrics.execution import MetricsContainer
from apache_beam.pvalue import TaggedOutput
from apache_beam.runners.worker import statesampler
from apache_beam.utils.counters import CounterFactory

from mien.models.errors import PhotoCrashedError, PhotoMemoryError, PhotoTimeoutError
from mien.models.weights import use_weights, weights_in_use
from mien.transforms.elements import FAILURES, Failure, PhotosAndFailures
from mien.transforms.workers.fork_server import START_SECONDS, Forked, child_environment, fork, import_path
from mien.transforms.workers.stage import Input, Stage, StageTransform, as_outputs, failure_of, join_failures

_WATCH_SECONDS = 0.1
_STILL = 0.01  # of the processor: a child that gets less is not waiting for its turn, it waits for ever
# What becomes of a photo that costs its child, and the stage that its failure names.
_LOST: dict[type[Exception], str] = {
    PhotoCrashedError: "crashed",
    PhotoTimeoutError: "timeout",
    PhotoMemoryError: "memory",
}
_CODE = "import sys; from mien.transforms.workers.isolate import serve; serve(int(sys.argv[1]), int(sys.argv[2]))"


@dataclass(frozen=True)
class Limits:
    """What one photo may take, and how many children one worker process may have at a time (one for each thread that
    is to work at once). seconds: of the child's processor time, and of wall time in which it stands still, so that a
    busy machine withholds nothing that a quiet one lets through; megabytes: of the child's resident memory, models
    included; start: as seconds, until its stages are set up."""

    seconds: float = 600.0
    megabytes: int = 8000
    children: int = 1
    start: float = START_SECONDS


DEFAULT_LIMITS = Limits()


@dataclass
class _Outcome:
    """What became of one photo in the child. metrics: of Beam, counters by name and (count, sum, min, max) by name."""

    results: list[Any] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    counters: list[tuple[str, str, int]] = field(default_factory=list)
    distributions: list[tuple[str, str, tuple[int, int, int, int]]] = field(default_factory=list)


class Child:
    """The child process as its parent sees it. Raises OSError where it cannot be started."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        level = logging.getLogger().getEffectiveLevel()
        self.path = import_path()
        with theirs:
            self.process: Forked | subprocess.Popen[bytes] = fork(theirs.fileno(), self.path, level) or _started(
                theirs.fileno(), self.path, level
            )
        self._connection = Connection(ours.detach())
        self.stages = b""
        self._at = ""

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self.process.kill()
        self.process.wait()

    def work(self, stages: bytes, element: Any, limits: Limits) -> _Outcome:
        """The element through the stages. Raises PhotoCrashedError, PhotoTimeoutError, PhotoMemoryError; the child is
        then of no more use. Whatever a stage's setup raises is raised here."""
        if stages != self.stages:
            self._at = "start"
            self._send(stages)
            self._receive(limits.start, 0)
            self.stages = stages
            self._bound_memory(limits.megabytes)
        self._send(element)
        outcome: _Outcome = self._receive(limits.seconds, limits.megabytes)
        return outcome

    def _send(self, message: Any) -> None:
        try:
            self._connection.send(message)
        except OSError as error:
            raise self._crash() from error

    def _receive(self, seconds: float, megabytes: int) -> Any:
        """The answer; on the way to it the names of the stages that it comes to."""
        began = moved = self._processor_seconds()
        at = time.monotonic()
        while True:
            try:
                if self._connection.poll(_WATCH_SECONDS):
                    kind, value = self._connection.recv()
                    if kind == "done":
                        return value
                    if kind == "broken":
                        raise value
                    self._at = value
                    continue
            except (EOFError, ConnectionError):
                raise self._crash() from None
            used, now = self._processor_seconds(), time.monotonic()
            if used - began > seconds:
                told = f"not done after {seconds:g} s of processor time, in {self._at} (--photo-seconds)"
                raise PhotoTimeoutError(told)
            if used - moved > _STILL * seconds:
                moved, at = used, now
            elif now - at > seconds:
                raise PhotoTimeoutError(f"stood still for {seconds:g} s, in {self._at} (--photo-seconds)")
            if megabytes and (resident := self._resident()) > megabytes:
                raise PhotoMemoryError(f"took {resident} MB of memory in {self._at}, over {megabytes} (--photo-memory)")

    def _crash(self) -> PhotoCrashedError:
        self._connection.close()
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return PhotoCrashedError(f"the process that worked on it died in {self._at} ({how})")

    def _bound_memory(self, megabytes: int) -> None:
        """Lets it map twice as much beside what it has loaded, so that no photo takes all before the watch sees it.

        Linux alone has this.
        """
        with contextlib.suppress(AttributeError, OSError, ValueError, psutil.Error):
            most = psutil.Process(self.process.pid).memory_info().vms + 2 * megabytes * 1_000_000
            resource.prlimit(self.process.pid, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))

    def _processor_seconds(self) -> float:
        """What all of its threads have used; 0 where the system does not say: the child then seems to stand still."""
        try:
            used = psutil.Process(self.process.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(used.user + used.system)

    def _resident(self) -> int:
        """Megabytes of memory; 0 where the system does not say."""
        try:
            return int(psutil.Process(self.process.pid).memory_info().rss) // 1_000_000
        except psutil.Error:
            return 0


def _started(descriptor: int, path: str, level: int) -> subprocess.Popen[bytes]:
    """A child that loads everything itself."""
    words = [sys.executable, "-P", "-c", _CODE, str(descriptor), str(level)]
    return subprocess.Popen(
        words, env=child_environment(path), stdin=subprocess.DEVNULL, pass_fds=[descriptor], close_fds=True
    )


def packed(stages: Sequence[Stage]) -> bytes:
    """The stages as Child.work takes them, with the weights that are in use here."""
    return pickle.dumps((weights_in_use(), list(stages)))


class _Children:
    """This process's children: those that wait for work, at most as many as are allowed at work."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._idle: list[Child] = []
        self._busy = 0
        self._limit = 1
        atexit.register(self.close)

    def allow(self, count: int) -> None:
        """From now on so many may work at a time, if that is more than before."""
        with self._free:
            self._limit = max(self._limit, count)
            self._free.notify_all()

    @contextlib.contextmanager
    def one(self, stages: bytes) -> Iterator[Child]:
        """A child to work with, one that has these stages set up if there is one. After an exception it is no longer
        used."""
        with self._free:
            self._free.wait_for(lambda: self._busy < self._limit)
            self._busy += 1
            child = self._idle_with(stages)
        try:
            if child is not None and child.path != import_path():  # it could not import what this process can
                child.close()
                child = None
            child = child or Child()
            yield child
        except BaseException:
            if child is not None:
                child.close()
                child = None
            raise
        finally:
            with self._free:
                self._busy -= 1
                if child is not None:
                    self._idle.append(child)
                self._free.notify()

    def _idle_with(self, stages: bytes) -> Child | None:
        """Takes a waiting child: of others than with these stages the one that waits longest, once all are there."""
        found = next((child for child in self._idle if child.stages == stages), None)
        if found is None and self._idle and self._busy + len(self._idle) > self._limit:
            found = self._idle[0]
        if found is not None:
            self._idle.remove(found)
        return found

    def close(self, keep: int = 0) -> None:
        """Ends those that are idle, all but so many."""
        with self._free:
            while len(self._idle) > keep:
                self._idle.pop().close()


_CHILDREN = _Children()


class Isolated(beam.DoFn):
    """Elements with a `uri` through stages, one after the other, in a child process.

    To the failures of the stages come `crashed`, `timeout` and `memory`.
    """

    def __init__(self, stages: Sequence[Stage], limits: Limits) -> None:
        self._stages = packed(stages)
        start = limits.start + sum(stage.start_seconds for stage in stages)
        self._limits = dataclasses.replace(limits, start=start)

    def setup(self) -> None:
        _CHILDREN.allow(self._limits.children)

    def teardown(self) -> None:
        _CHILDREN.close(keep=1)  # for the next job of this process, if there is one

    def process(self, element: Any) -> Iterator[Any]:
        try:
            outcome = self._work(element)
        except tuple(_LOST) as error:
            yield TaggedOutput(FAILURES, failure_of(element.uri, _LOST[type(error)], error))
            return
        for namespace, name, value in outcome.counters:
            Metrics.counter(namespace, name).inc(value)
        for namespace, name, known in outcome.distributions:
            distribution = Metrics.distribution(namespace, name)
            for value in _values(*known):
                distribution.update(value)
        yield from outcome.results
        yield from (TaggedOutput(FAILURES, failure) for failure in outcome.failures)

    def _work(self, element: Any) -> _Outcome:
        with contextlib.suppress(PhotoCrashedError), _CHILDREN.one(self._stages) as child:
            return child.work(self._stages, element, self._limits)
        with _CHILDREN.one(
            self._stages
        ) as child:  # another one, which may be one that has idled and was killed meanwhile too
            return child.work(self._stages, element, self._limits)


def run_stages(stages: Sequence[Stage], element: Any, limits: Limits) -> list[Any]:
    """What Isolated gives for one element, outside of any pipeline: results, and failures as TaggedOutput."""
    isolated = Isolated(stages, limits)
    isolated.setup()
    return list(isolated.process(element))


def _values(count: int, total: int, low: int, high: int) -> list[int]:
    """Values that have this count, sum, least and greatest one."""
    if count < 3:
        return [low, high][:count] if count else []
    rest = total - low - high
    return [low, high, *(rest // (count - 2) + (i < rest % (count - 2)) for i in range(count - 2))]


def isolated(photos: beam.PCollection, stages: Sequence[Stage], output: Any, limits: Limits) -> PhotosAndFailures:
    """photos through the stages in a child process; output is the type of the last one's results."""
    results = photos | "Isolated" >> beam.ParDo(Isolated(stages, limits)).with_outputs(FAILURES, main="photos")
    results.photos.element_type = output
    results.failures.element_type = Failure
    return PhotosAndFailures(photos=results.photos, failures=results.failures)


class IsolatedStages(StageTransform):
    """A PTransform of stages, which run in a child process one after the other. A larger one takes the `stages` of its
    parts, so that all run in the same child."""

    def __init__(self, stages: Sequence[Stage], output: Any, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__()
        self.stages = tuple(stages)
        self._output = output
        self.limits = limits

    def expand(self, photos: Input) -> PhotosAndFailures:
        photos, failures = as_outputs(photos)
        done = isolated(photos, self.stages, self._output, self.limits)
        return PhotosAndFailures(photos=done.photos, failures=join_failures(done.failures, failures))


def stages_of(parts: Iterable[IsolatedStages]) -> list[Stage]:
    """The stages of several transforms, to be run in one child."""
    return [stage for part in parts for stage in part.stages]


def serve(descriptor: int, level: int) -> None:
    """The child's whole life: stages, then elements for them, until its parent hangs up or ends."""
    logging.basicConfig(level=level, format="%(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which hangs up
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as stream:
        stream.write("800")  # where memory runs out, the photo at work goes and not the job
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    connection = Connection(descriptor)
    container = MetricsContainer("mien")
    sampler = statesampler.StateSampler("mien", CounterFactory())
    statesampler.set_current_tracker(sampler)
    stages: list[Stage] = []
    with (
        contextlib.suppress(EOFError, ConnectionError),
        sampler.scoped_state("mien", "work", metrics_container=container),
    ):
        while True:
            message = connection.recv()
            if isinstance(message, bytes):
                connection.send(_set_up(stages, message))
                continue
            outcome = _Outcome()
            _through(stages, message, outcome, connection)
            found = container.get_cumulative()
            # a counter of another photo, even of another job, is still there, and 0
            outcome.counters = [(key.metric.namespace, key.metric.name, n) for key, n in found.counters.items() if n]
            outcome.distributions = [
                (key.metric.namespace, key.metric.name, (known.count, known.sum, known.min, known.max))
                for key, known in found.distributions.items()
                if known.count
            ]
            container.reset()
            connection.send(("done", outcome))


def _end_with(parent: int) -> None:
    """Ends this process when its parent has ended, even in the middle of a photo."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _set_up(stages: list[Stage], pickled: bytes) -> tuple[str, Any]:
    """Other stages in the place of those that there are; the answer to the parent."""
    try:
        while stages:
            stages.pop().teardown()
        weights, wanted = pickle.loads(pickled)
        use_weights(weights)
        for stage in wanted:
            stage.setup()
            stages.append(stage)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return "broken", RuntimeError(f"{type(error).__name__}: {error}")
        return "broken", error
    return "done", None


def _through(stages: Sequence[Stage], element: Any, outcome: _Outcome, connection: Connection) -> None:
    """The element and what is made of it through all stages."""
    elements = [element]
    for stage in stages:
        connection.send(("at", stage.stage))
        made: list[Any] = []
        for one in elements:
            for result in stage.process(one):
                if isinstance(result, TaggedOutput):
                    outcome.failures.append(result.value)
                else:
                    made.append(result)
        elements = made
    outcome.results = elements
