"""What a template's launcher does, against a bucket on loopback, for the commands other than redact."""

import json

import pytest

from tests.pipelines.test_dataflow import IMAGE, START, Bucket, bucket  # noqa: F401

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
    result = bucket.run(LAUNCH, json.dumps(launches))
    assert result.stdout.splitlines()[-1:] == ["[0, 0, 0]"], result.stderr
    return bucket


def test_each_command_is_described(launched: Bucket) -> None:
    for name in COMMANDS:
        assert json.loads(launched.get(f"jobs/{name}"))["name"] == name
