"""What would be sent to Dataflow: job and pipeline staged in a bucket on loopback; and the pipeline run here."""

import base64
import bz2
import json
import os
import re
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from tests.pipelines.conftest import mien

pytestmark = pytest.mark.slow

KEY = "7f3e9d51c0a84b26e1d7f08a93b5c46218ef70d39a4b5c6e"
IMAGE = "europe-west1-docker.pkg.dev/my-project/mien/mien:0.1.0"
PICKLED = re.compile(rb"QlpoO[A-Za-z0-9+/]+=*")  # what Beam pickles, packed by bz2
SETTINGS = {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
# Beam looks 25 s for credentials before it goes on without
START = """
import sys
from apache_beam.internal.gcp import auth
auth._Credentials._credentials_init = True
"""
LAUNCH = f"""{START}
from mien.pipelines.template import main
sys.exit(main(sys.argv[1:]))
"""
# a worker's part, with this process in the container's place
WORK = f"""{START}
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
options = PipelineOptions(["--no_auth"])
FileSystems.set_options(options)
pipeline = beam_runner_api_pb2.Pipeline.FromString(open(sys.argv[1], "rb").read())
for environment in pipeline.components.environments.values():
    environment.CopyFrom(beam_runner_api_pb2.Environment(urn=python_urns.EMBEDDED_PYTHON))
FnApiRunner().run_via_runner_api(pipeline, options).wait_until_finish()
"""


class Bucket:
    """gs://mien in an emulator."""

    def __init__(self, address: str) -> None:
        self.address = address

    def put(self, name: str, data: bytes) -> None:
        place = f"{self.address}/upload/storage/v1/b/mien/o?uploadType=media&name={urllib.parse.quote(name, safe='')}"
        urllib.request.urlopen(urllib.request.Request(place, data, {"Content-Type": "image/jpeg"})).read()

    def get(self, name: str) -> bytes:
        place = f"{self.address}/storage/v1/b/mien/o/{urllib.parse.quote(name, safe='')}?alt=media"
        data: bytes = urllib.request.urlopen(place).read()
        return data

    def names(self) -> list[str]:
        with urllib.request.urlopen(f"{self.address}/storage/v1/b/mien/o") as answer:
            return sorted(item["name"] for item in json.load(answer)["items"])

    def run(self, code: str, *words: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | SETTINGS | {"STORAGE_EMULATOR_HOST": self.address}
        command = [sys.executable, "-c", code, *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    server = pytest.importorskip("gcp_storage_emulator.server", reason="gcp-storage-emulator is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    emulator = server.create_server("127.0.0.1", port, in_memory=True, default_bucket="mien")
    emulator.start()
    yield Bucket(f"http://127.0.0.1:{port}")
    emulator.stop()


@pytest.fixture(scope="module")
def launched(bucket: Bucket, small: Path) -> dict[str, Any]:
    """The job that the template's launcher would submit, of the words that Dataflow gives it."""
    bucket.put("in/good.jpg", small.read_bytes())
    bucket.put("in/bad.jpg", b"no picture")
    bucket.put("secrets/key", KEY.encode())
    result = bucket.run(
        LAUNCH,
        "--command=redact",
        "--inputs=gs://mien/in",
        "--output=gs://mien/out",
        "--policy=deidentify",
        "--key_file=gs://mien/secrets/key",
        "--detector=mediapipe",
        "--visible_mark=false",
        f"--sdk_container_image={IMAGE}",
        "--number_of_worker_harness_threads=2",
        "--resource_hint=min_ram=6GB",
        "--dataflow_service_options=enable_prime",
        "--no_auth",
        "--runner=DataflowRunner",
        "--project=my-project",
        "--region=europe-west1",
        "--job_name=nightly",
        "--template_location=gs://mien/staging/job_object",
        "--temp_location=gs://mien/temp",
        "--staging_location=gs://mien/staging",
        "--experiments=some_experiment",
        "--launcher_option_of_tomorrow=1",
    )
    assert result.returncode == 0, result.stderr
    assert "gs://mien/staging/job_object describes the job, which writes run.json itself" in result.stderr
    assert "--launcher_option_of_tomorrow=1 is not known" in result.stderr
    found: dict[str, Any] = json.loads(bucket.get("staging/job_object"))
    return found


def staged(bucket: Bucket) -> list[str]:
    return [name for name in bucket.names() if name.startswith("staging/nightly")]


def test_the_job_is_what_it_needs_to_be_and_no_more(launched: dict[str, Any], bucket: Bucket) -> None:
    assert launched["name"] == "nightly"
    assert launched["type"] == "JOB_TYPE_BATCH"
    environment = launched["environment"]
    assert {"use_runner_v2", "some_experiment"} <= set(environment["experiments"])
    (option,) = environment["serviceOptions"]
    assert option == "enable_prime"
    (pool,) = environment["workerPools"]
    assert pool["workerHarnessContainerImage"] == IMAGE
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [IMAGE]
    assert pool["numThreadsPerWorker"] == 2
    # mien is in the image: no setup file, no main session
    assert [package["name"] for package in pool["packages"]] == ["submission_environment_dependencies.txt"]
    options = environment["sdkPipelineOptions"]["options"]
    assert options["save_main_session"] is False
    assert not {"setup_file", "requirements_file", "extra_packages"} & set(options)
    names = {name.rpartition("/")[2] for name in staged(bucket)}
    assert names == {"pipeline.pb", "submission_environment_dependencies.txt"}


def test_resource_hints_are_in_the_pipeline(launched: dict[str, Any], bucket: Bucket) -> None:
    pipeline = beam_runner_api_pb2.Pipeline.FromString(bucket.get(staged(bucket)[0]))
    hints = [environment.resource_hints for environment in pipeline.components.environments.values()]
    assert {dict(hint)["beam:resources:min_ram_bytes:v1"] for hint in hints} == {b"6000000000"}


def test_no_secret_is_in_it(launched: dict[str, Any], bucket: Bucket) -> None:
    sent = [bucket.get(name) for name in bucket.names() if name.startswith("staging/")]
    pickled = [bz2.decompress(base64.b64decode(word)) for word in PICKLED.findall(bucket.get(staged(bucket)[0]))]
    assert len(pickled) > 40
    sent += pickled
    assert any(b"gs://mien/secrets/key" in data for data in sent), "a worker reads the key where it lies"
    mine = [value.encode() for value in os.environ.values() if re.fullmatch(r"[A-Za-z0-9+/=_-]{32,}", value)]
    for secret in (KEY.encode(), KEY.encode().hex().encode(), bytes.fromhex(KEY), *mine):
        assert not [data[:80] for data in sent if secret in data]


def test_the_staged_pipeline_does_the_job_and_writes_its_record(
    launched: dict[str, Any], bucket: Bucket, small: Path, tmp_path: Path
) -> None:
    (tmp_path / "pipeline.pb").write_bytes(bucket.get(staged(bucket)[0]))
    done = bucket.run(WORK, str(tmp_path / "pipeline.pb"))
    assert done.returncode == 0, done.stderr
    made = [name.removeprefix("out/") for name in bucket.names() if name.startswith("out/")]
    record = json.loads(bucket.get("out/run.json"))
    run = record["run"]
    expected = {"good.jpg.jpg", "run.json", f"run-{run}.json", f"index-{run}.jsonl", f"failures-{run}.jsonl"}
    assert set(made) == expected
    assert bucket.get(f"out/run-{run}.json") == bucket.get("out/run.json")
    counts = record["counts"]
    assert (counts["in"], counts["out"], counts["withheld"], counts["failed"], counts["skipped"]) == (2, 1, 1, 0, 0)
    assert (counts["faces"], record["actions"]) == (1, {"deidentify": 1})
    assert record["failed_in"] == {"decode": 1}
    assert record["engine"] == {"runner": "DataflowRunner", "workers": None}
    assert all(record["sha256"][name] for name in ("index", "failures"))
    assert record["settings"]["key_id"]
    # what runs here gives the same bytes
    (tmp_path / "key").write_text(KEY)
    words = ("redact", small, "--output", tmp_path / "here", "--policy", "deidentify", "--detector", "mediapipe")
    assert mien(*words, "--key-file", tmp_path / "key") == 0
    same = (tmp_path / "here" / "x.jpg.jpg").read_bytes() == bucket.get("out/good.jpg.jpg")
    assert same  # of such bytes pytest would take minutes to tell the differences
