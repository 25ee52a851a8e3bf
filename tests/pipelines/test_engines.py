"""The same bytes from every engine, and the same account of a photo that fails."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mien.pipelines.cli import main
from tests.pipelines.conftest import record

pytestmark = pytest.mark.slow

PRISM = Path(__file__).parents[3] / "shared/engines/prism-2.77.0-linux-amd64.zip"
JAR = os.environ.get("MIEN_FLINK_JOB_SERVER_JAR", "")


@pytest.fixture(scope="module")
def source(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo, and a file that is none."""
    folder = tmp_path_factory.mktemp("engines")
    shutil.copy(small, folder / "good.jpg")
    (folder / "bad.jpg").write_text("no picture")
    return folder


def compress(source: Path, output: Path, *words: str) -> int:
    job = ["compress", source, "--output", output, "--format", "blobs", "--detector", "mediapipe", *words]
    return main([str(word) for word in job])


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("expected")
    assert compress(source, output, "--workers", "1") == 3
    return output


def serve(module: str, *words: str) -> Iterator[str]:
    """One of Beam's servers at a free port; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # the worker pool starts `python`, which must be this one
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", module, *(word.format(port=port) for word in words)]
    server = subprocess.Popen(
        command, env=os.environ | {"PATH": path}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, f"{module} has stopped"
            time.sleep(0.1)
        yield f"localhost:{port}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def pool() -> Iterator[str]:
    yield from serve("apache_beam.runners.worker.worker_pool_main", "--service_port={port}")


@pytest.fixture(scope="module")
def jobs() -> Iterator[str]:
    yield from serve("apache_beam.runners.portability.local_job_service_main", "--port={port}")


@pytest.fixture(scope="module")
def prism(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Prism's program: from a zip with another name inside Beam does not take it, and goes on with FnApiRunner."""
    if not PRISM.exists():
        pytest.skip(f"{PRISM} is not here")
    with zipfile.ZipFile(PRISM) as archive:
        path = Path(archive.extract("prism", tmp_path_factory.mktemp("prism")))
    path.chmod(0o755)
    return f"--prism_location={path}"


def check(source: Path, output: Path, expected: Path, *words: str) -> None:
    assert compress(source, output, *words) == 3
    assert (output / "good.jpg.avif").read_bytes() == (expected / "good.jpg.avif").read_bytes()
    ours, theirs = record(output), record(expected)
    for key in ("actions", "bytes", "counts", "failed_in", "fingerprint", "settings"):
        assert ours[key] == theirs[key], key
    assert [json.loads(line) for line in (output / ours["failures"]).read_text().splitlines()] == [
        json.loads(line) for line in (expected / theirs["failures"]).read_text().splitlines()
    ]
    engine = ours["engine"]
    named = [word.partition("=")[2] for word in words if word.startswith("--runner=")]
    assert not named or engine == {"runner": named[0], "workers": None}


@pytest.mark.parametrize("words", [("--direct_running_mode", "multi_threading"), ()], ids=["threads", "processes"])
def test_this_machine(words: tuple[str, ...], source: Path, expected: Path, tmp_path: Path) -> None:
    check(source, tmp_path, expected, "--workers", "2", *words)
    assert record(tmp_path)["engine"]["workers"] == 2


def test_prism_with_this_process(prism: str, source: Path, expected: Path, tmp_path: Path) -> None:
    check(source, tmp_path, expected, "--runner=PrismRunner", prism)


def test_prism_with_a_worker_pool(prism: str, pool: str, source: Path, expected: Path, tmp_path: Path) -> None:
    external = ("--environment_type=EXTERNAL", f"--environment_config={pool}")
    check(source, tmp_path, expected, "--runner=PrismRunner", prism, *external)


def test_the_python_job_service(jobs: str, source: Path, expected: Path, tmp_path: Path) -> None:
    words = ("--runner=PortableRunner", f"--job_endpoint={jobs}", "--environment_type=LOOPBACK")
    check(source, tmp_path, expected, *words)


@pytest.mark.skipif(not JAR, reason="MIEN_FLINK_JOB_SERVER_JAR names no jar (beam-runners-flink-*-job-server)")
def test_flink(source: Path, expected: Path, tmp_path: Path) -> None:
    version = [f"--flink_version={os.environ['MIEN_FLINK_VERSION']}"] if "MIEN_FLINK_VERSION" in os.environ else []
    words = ("--runner=FlinkRunner", f"--flink_job_server_jar={JAR}", "--environment_type=LOOPBACK", *version)
    check(source, tmp_path, expected, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runner=NoRunner"], "Unexpected pipeline runner: NoRunner"),
        (["--runner=no.such.Runner"], "No module named 'no'"),
        (["--runner=DaskRunner"], "DaskRunner reports no metrics"),
        (["--runner", "dask"], "DaskRunner reports no metrics"),
        (["--runner=PrismRunner", "--workers=2"], "--workers is for runs on this machine"),
        (["--runner=PrismRunner", "--direct_num_workers=2"], "--direct_num_workers is dropped by PrismRunner"),
        (["--runner=DirectRunner", "--direct_running_mode=multi_processing"], "--direct_running_mode is dropped by"),
        (["--direct_num_workers=2"], "--direct_num_workers: use --workers"),
        (["--direct_running_mode=in_memory", "--workers=2"], "one process: it contradicts --workers 2"),
        (["--direct_running_mode=often"], "argument --direct_running_mode: invalid choice: 'often'"),
        (["--job_endpoint=localhost:1"], "--job_endpoint does nothing on this machine"),
        (["--template_location=gs://b/t"], "--template_location does nothing on this machine"),
        (["--runner=PortableRunner", "--job_endpoint=localhost:1"], "Beam's own container, which mien is not in"),
        (["--runner=PortableRunner", "--environment_type=LOOPBACK"], "job_endpoint"),
        (["--runner=DataflowRunner", "--project=p", "--region=r"], "Beam's own container, which mien is not in"),
        (["--runner=DataflowRunner", "--sdk_container_image=i"], "lies on this machine, and the job runs on Dataflow"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_do_not_fit(
    words: list[str], message: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compress(source, tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("mien: ")
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").rglob("*.avif"))
