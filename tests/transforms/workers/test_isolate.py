"""Photos that kill, stop or swell the process that works on them: real child processes, really killed."""

import importlib
import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from PIL import Image

from mien.models.errors import PhotoCrashedError, PhotoMemoryError, PhotoTimeoutError
from mien.transforms.compress import CompressPhotos
from mien.transforms.elements import Photo
from mien.transforms.workers.isolate import Child, Isolated, IsolatedStages, Limits, _values, packed

LOCAL = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
MODES = {
    "in memory": ["--direct_running_mode=in_memory"],
    "processes": ["--direct_running_mode=multi_processing", "--direct_num_workers=2"],
    "threads": ["--direct_running_mode=multi_threading", "--direct_num_workers=2"],
}
# Does what a photo's name says. In a file of its own, so that the child can load it.
STAGE = """
import ctypes, os, pathlib, sys, time
from apache_beam.metrics import Metrics
from mien.transforms.elements import Photo
from mien.transforms.workers.stage import Stage


class Poison(Stage):
    stage = "poison"

    def __init__(self, folder):
        self.folder = folder

    def setup(self):
        with open(os.path.join(self.folder, "starts"), "a") as stream:
            stream.write(f"{os.getpid()}\\n")

    def work(self, element):
        Metrics.counter("mien", "bytes_in").inc(3)
        name = element.uri.rstrip("0123456789")
        self.began = time.process_time()
        once = pathlib.Path(self.folder, f"{element.uri} was here")
        if name == "segfault" or (name == "segfault once" and not once.exists()):
            once.touch()
            ctypes.string_at(0)
        if name == "hang":
            time.sleep(1000)
        if name == "compute":
            while time.process_time() < self.began + 0.5:
                pass
        if name == "raise":
            raise ValueError("no")
        if name == "reach":
            self.held = bytearray(3_000_000_000)
        if name == "swell":
            self.held = bytearray(800_000_000)
            self.held[::4096] = bytes([1]) * len(self.held[::4096])
        yield Photo(element.uri, str(os.getpid()).encode())


class Broken(Poison):
    def setup(self):
        raise FileNotFoundError("no weights")
"""


@pytest.fixture
def poison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "poison_stage.py").write_text(STAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))))
    return importlib.reload(importlib.import_module("poison_stage"))


def starts(folder: Path) -> list[str]:
    return (folder / "starts").read_text().split()


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_one_photo_is_lost_and_no_other(poison: Any, tmp_path: Path, mode: str) -> None:
    good = [f"good {i}" for i in range(8)]
    names = [*good[:4], "segfault1", "hang1", "raise1", "segfault once1", "swell1", "reach1", *good[4:]]
    limits = Limits(seconds=4.0, megabytes=600, children=2 if mode == "threads" else 1)
    with beam.Pipeline(argv=[LOCAL, *MODES[mode]]) as pipeline:
        photos = pipeline | beam.Create([Photo(name, b"") for name in names])
        done = photos | IsolatedStages([poison.Poison(str(tmp_path))], Photo, limits)
        assert_that(done.photos | beam.Map(lambda p: p.uri), equal_to([*good, "segfault once1"]), "photos")
        failures = done.failures | beam.Map(lambda f: (f.uri, f.stage, f.error, f.message))
        died = "the process that worked on it died in poison"
        expected = [
            ("segfault1", "crashed", "PhotoCrashedError", f"{died} (SIGSEGV)"),
            ("hang1", "timeout", "PhotoTimeoutError", "stood still for 4 s, in poison (--photo-seconds)"),
            ("raise1", "poison", "ValueError", "no"),
            ("reach1", "poison", "MemoryError", "MemoryError"),
        ]
        few = failures | "Few" >> beam.Filter(lambda f: f[0] != "swell1")
        assert_that(few, equal_to(expected), "failures")
        swollen = failures | "Swollen" >> beam.Filter(lambda f: f[0] == "swell1") | beam.Map(lambda f: f[1])
        assert_that(swollen, equal_to(["memory"]), "swollen")
    counter, times = counters(pipeline.result)
    assert counter == 3 * 11  # of those that came through, and of the two that raised; what dies counts for nothing
    assert times == 11
    # the first, one after each that was lost, after each try of what crashes; one more where two work at once
    assert len(starts(tmp_path)) - 6 in ([0] if mode == "in memory" else [0, 1])
    left = [pid for pid in starts(tmp_path) if Path(f"/proc/{pid}").exists()]
    assert len(left) <= (0 if mode == "processes" else 2)


def counters(result: Any) -> tuple[int, int]:
    found = result.metrics().query()
    values = [c.result for c in found["counters"] if c.key.metric.name == "bytes_in"]
    times = [d.result.count for d in found["distributions"] if d.key.metric.name == "poison_ms"]
    return sum(values), sum(times)


@pytest.mark.slow
def test_a_child_serves_many_photos(poison: Any, tmp_path: Path) -> None:
    stage = Isolated([poison.Poison(str(tmp_path))], Limits())
    pids = {result.data for i in range(20) for result in stage.process(Photo(f"good{i}", b"x"))}
    assert len(pids) == 1
    assert len(starts(tmp_path)) == 1


@pytest.mark.slow
def test_what_keeps_all_photos_from_being_done_stops_the_job(poison: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no weights"):
        list(Isolated([poison.Broken(str(tmp_path))], Limits()).process(Photo("good", b"")))


def picture(size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (200, 120, 40)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def child() -> Iterable[Child]:
    made = Child()
    yield made
    made.close()


def work(child: Child, data: bytes, limits: Limits) -> Any:
    stages = packed(CompressPhotos("redact", detectors=["mediapipe"]).stages)
    return child.work(stages, Photo("x.png", data), limits)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "error", "message"),
    [
        (Limits(seconds=2.0), PhotoTimeoutError, "not done after 2 s of processor time, in de"),
        (Limits(megabytes=1100), PhotoMemoryError, r"took 1\d\d\d MB of memory in de"),
    ],
    ids=["seconds", "memory"],
)
def test_a_large_photo_and_limits(child: Child, limits: Limits, error: type[Exception], message: str) -> None:
    assert len(work(child, picture((64, 48)), Limits()).results) == 1
    with pytest.raises(error, match=message):
        work(child, picture((9000, 9000)), limits)


@pytest.mark.slow
def test_a_child_that_somebody_kills(child: Child) -> None:
    child.process.kill()
    child.process.wait()
    with pytest.raises(PhotoCrashedError, match=r"died in start \(SIGKILL\)"):
        work(child, picture((64, 48)), Limits())


@pytest.mark.parametrize("values", [[], [5], [1, 9], [3, 1, 7, 2, 2], [4] * 6])
def test_values_of_a_distribution(values: list[int]) -> None:
    known: tuple[Any, ...] = (len(values), sum(values), min(values, default=0), max(values, default=0))
    again = _values(*known)
    parts: tuple[Callable[..., int], ...] = (len, sum)
    assert tuple(part(again) for part in parts) == known[:2]
    assert (min(again, default=0), max(again, default=0)) == known[2:]


@pytest.mark.slow
def test_a_child_that_waits_for_its_turn_is_not_late(poison: Any, tmp_path: Path, child: Child) -> None:
    """It is stopped nine tenths of the time, as on a machine that has much else to do."""
    stages = packed([poison.Poison(str(tmp_path))])
    child.work(stages, Photo("good", b""), Limits())
    over = threading.Event()

    def stop() -> None:
        while not over.is_set():
            os.kill(child.process.pid, signal.SIGSTOP)
            over.wait(0.9)
            os.kill(child.process.pid, signal.SIGCONT)
            over.wait(0.1)

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        started = time.monotonic()
        assert child.work(stages, Photo("compute1", b""), Limits(seconds=2.0)).results
        assert time.monotonic() - started > 3.0
    finally:
        over.set()
        thread.join()
