"""What a template's launcher does, against a bucket on loopback, for the commands other than redact."""

import json
import re
from pathlib import Path

import pytest

from tests.pipelines.test_dataflow import IMAGE, START, WORK, Bucket, bucket  # noqa: F401

pytestmark = pytest.mark.slow

LAUNCH = f"""{START}
import json
from mien.pipelines.template import main
print([main(parameters) for parameters in json.loads(sys.argv[1])])
"""
COMMANDS = {"compress": "--detector=mediapipe", "restore": "--image_format=jpeg", "magnify": "--factor=2"}


@pytest.fixture(scope="module")
def launched(bucket: Bucket) -> Bucket:  # noqa: F811
    for name in COMMANDS:
        bucket.put(f"in/{name}.jpg", b"no picture")
    common = [
        "--inputs=gs://mien/in",
        f"--sdk_container_image={IMAGE}",
        "--no_auth",
        "--project=my-project",
        "--region=europe-west1",
        "--temp_location=gs://mien/temp",
    ]
    launches = [
        [
            f"--command={name}",
            option,
            f"--output=gs://mien/{name}",
            f"--job_name={name}",
            f"--staging_location=gs://mien/staging/{name}",
            f"--template_location=gs://mien/jobs/{name}",
            *common,
        ]
        for name, option in COMMANDS.items()
    ]
    # the last one's output is another job's, which no worker has begun on yet
    result = bucket.run(LAUNCH, json.dumps([*launches, launches[-1]]))
    assert result.stdout.splitlines()[-1:] == ["[0, 0, 0, 2]"], result.stderr
    assert "gs://mien/magnify: another job works on it (run 2" in result.stderr
    return bucket


def test_each_command_is_described(launched: Bucket) -> None:
    for name in COMMANDS:
        assert json.loads(launched.get(f"jobs/{name}"))["name"] == name


def test_a_job_holds_a_lease_until_it_has_written_its_record(launched: Bucket, tmp_path: Path) -> None:
    def names() -> list[str]:
        return [name.removeprefix("restore/") for name in launched.names() if name.startswith("restore/")]

    (lease,) = names()
    assert re.fullmatch(r"\.mien-2\d{7}T[\d.]+-[\da-f]{4}/lease\.json", lease)
    (pipeline,) = (name for name in launched.names() if re.fullmatch(r"staging/restore/.*pipeline\.pb", name))
    (tmp_path / "pipeline.pb").write_bytes(launched.get(pipeline))
    done = launched.run(WORK, str(tmp_path / "pipeline.pb"))
    assert done.returncode == 0, done.stderr
    run = lease[len(".mien-") :].partition("/")[0]
    assert sorted(names()) == sorted([f"failures-{run}.jsonl", f"run-{run}.json", "run.json"])
    record = json.loads(launched.get("restore/run.json"))
    assert (record["failed_in"], record["counts"]["orphans"]) == ({"read": 3}, None)
    again = launched.run(WORK, str(tmp_path / "pipeline.pb"))  # its lease has ended: another job may be there
    assert "has ended" in again.stderr
