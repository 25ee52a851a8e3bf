"""Photos and a policy at s3://: moto's server on loopback serves both Beam and s3fs."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

pytestmark = pytest.mark.slow

MIEN = """
import json, sys
from mien.pipelines.cli import main
print([main([*words, "--workers", "1"]) for words in json.loads(sys.argv[1])])
"""
Mien = Callable[..., tuple[list[int], list[str]]]


@pytest.fixture(scope="module")
def settings() -> Iterator[dict[str, str]]:
    """The environment that the AWS clients are told of the server by."""
    moto = pytest.importorskip("moto.server", reason="moto and flask are not installed")
    pytest.importorskip("boto3")
    pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }
    server.stop()


@pytest.fixture
def bucket(settings: dict[str, str]) -> Any:
    """boto3's client, with the empty bucket `photos`."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=settings["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    client.create_bucket(Bucket="photos")
    return client


@pytest.fixture
def mien(settings: dict[str, str]) -> Mien:
    def run(*commands: list[str]) -> tuple[list[int], list[str]]:
        words = [sys.executable, "-c", MIEN, json.dumps(commands)]
        result = subprocess.run(words, env=os.environ | settings, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout), result.stderr.splitlines()

    return run


def test_from_a_bucket_to_a_bucket_and_back(bucket: Any, mien: Mien) -> None:
    stale = json.dumps({"run": "killed", "host": "h", "pid": 1, "beat": 1}).encode()
    held = json.dumps({"run": "other", "host": "h", "pid": 1, "beat": 1e11}).encode()
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), (9, 99, 9)).save(stream, "PNG")
    for name, data in {
        "in/ü 1/x.png": stream.getvalue(),
        "in/2/x.jpg": b"no picture",
        "inside/x.jpg": b"another folder",
        "p.yaml": b"version: 1\nrules: []\notherwise: fill\n",
        "out/.mien-lock": stale,
        "out/.mien-killed/index-1.jsonl": b"",
        "held/.mien-lock": held,
    }.items():
        bucket.put_object(Bucket="photos", Key=name, Body=data)
    words = ["--policy", "s3://photos/p.yaml", "--detector", "mediapipe", "--format", "blobs"]
    statuses, lines = mien(
        ["compress", "s3://photos/in", "--output", "s3://photos/out", *words],
        ["compress", "s3://photos/in/**.png", "--output", "s3://photos/out", *words],
        ["restore", "s3://photos/out", "--output", "s3://photos/back"],
        ["compress", "s3://photos/in", "--output", "s3://photos/held", *words],
        ["compress", "s3://nobody/in", "--output", "s3://photos/out"],
    )
    assert statuses == [3, 0, 0, 2, 2], lines
    shown = [line for line in lines if " photos" in line and "bytes" in line]
    expected = ["1 of 2 photos", "0 of 0 photos, 1 done before", "1 of 1 photos"]
    assert all(line.startswith(start) for line, start in zip(shown, expected, strict=True)), lines
    assert "another job works on it (run other, host h, pid 1)" in lines[-2]
    assert lines[-1] == "mien: s3://nobody/in: no file to work on was found there"
    names = [item["Key"] for item in bucket.list_objects_v2(Bucket="photos")["Contents"]]
    images = [name for name in names if name.endswith((".avif", ".png.png"))]
    assert images == ["back/ü 1/x.png.png", "out/ü 1/x.png.avif"] or images == ["back/x.png.png", "out/ü 1/x.png.avif"]
    assert [name for name in names if ".mien" in name] == ["held/.mien-lock"]
