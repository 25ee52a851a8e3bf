"""Photos in a bucket: an emulator on loopback serves both Beam and gcsfs."""

import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# Beam looks 25 s for credentials before it goes on without
MIEN = """
import json, sys
from apache_beam.internal.gcp import auth
auth._Credentials._credentials_init = True
from mien.pipelines.cli import main
print([main([*words, "--no_auth", "--workers", "1"]) for words in json.loads(sys.argv[1])])
"""


class Bucket:
    def __init__(self, address: str) -> None:
        self.address = address

    def put(self, name: str, data: bytes) -> None:
        place = f"{self.address}/upload/storage/v1/b/photos/o?uploadType=media&name={urllib.parse.quote(name, safe='')}"
        urllib.request.urlopen(urllib.request.Request(place, data, {"Content-Type": "image/jpeg"})).read()

    def names(self) -> list[str]:
        with urllib.request.urlopen(f"{self.address}/storage/v1/b/photos/o") as answer:
            return sorted(item["name"] for item in json.load(answer)["items"])

    def mien(self, *commands: list[str]) -> tuple[list[int], list[str]]:
        """Runs the commands in one process, started with the emulator's address; their statuses and lines of stderr."""
        settings = {"STORAGE_EMULATOR_HOST": self.address, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
        words = [sys.executable, "-c", MIEN, json.dumps(commands)]
        result = subprocess.run(words, env=os.environ | settings, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout), result.stderr.splitlines()


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    server = pytest.importorskip("gcp_storage_emulator.server", reason="gcp-storage-emulator is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    emulator = server.create_server("127.0.0.1", port, in_memory=True, default_bucket="photos")
    emulator.start()
    yield Bucket(f"http://127.0.0.1:{port}")
    emulator.stop()


def test_from_a_bucket_to_a_bucket_and_back(bucket: Bucket, photos: Path) -> None:
    bucket.put("in/ü 1/x.jpg", (photos / "a" / "x.jpg").read_bytes())
    bucket.put("in/2/x.jpg", b"no picture")
    bucket.put("inside/x.jpg", b"another folder")
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as tar:
        for name in ("0.jpg", "1.jpg"):
            tar.add(photos / "a" / "x.jpg", name)
    bucket.put("shards/s.tar", shard.getvalue()[:-20000])  # cut: without its end, and that of the second photo
    quick = ["--detector", "mediapipe", "--effort", "fast"]
    blobs = ["--output", "gs://photos/out", "--format", "blobs", *quick]
    statuses, lines = bucket.mien(
        ["compress", "gs://photos/in", *blobs],
        ["compress", "gs://photos/in/**.jpg", *blobs],
        ["compress", "gs://photos/in/ü 1", "--output", "gs://photos/table", *quick],
        ["restore", "gs://photos/out", "--output", "gs://photos/back"],
        ["restore", "gs://photos/table", "--output", "gs://photos/back"],
        [
            "compress",
            "gs://photos/shards",
            "--output",
            "gs://photos/tar",
            "--format",
            "webdataset",
            *quick,
            "--policy=redact",
        ],
        ["restore", "gs://photos/tar", "--output", "gs://photos/back"],
        ["compress", "gs://nobody/in", "--output", "gs://photos/other"],
        ["compress", "gs://photos/in", "--output", "gs://nobody/out"],
    )
    assert statuses == [3, 3, 0, 0, 0, 3, 0, 2, 2], lines
    assert lines[-2:] == [
        "mien: gs://nobody/in: no such bucket",
        "mien: gs://nobody/out: cannot be written: no such bucket",
    ]
    expected = [
        "1 of 2 photos",
        "0 of 1 photos, 1 done before",
        *["1 of 1 photos"] * 3,
        "1 of 3 photos",
        "1 of 1 photos",
    ]
    shown = [line for line in lines if " photos" in line and "bytes" in line]
    assert all(line.startswith(start) for line, start in zip(shown, expected, strict=True))
    names = bucket.names()
    images = [name for name in names if name.endswith((".avif", ".png"))]
    assert images == [
        "back/s.tar/0.jpg.png",
        "back/x.jpg.png",
        "back/ü 1/x.jpg.png",
        "out/ü 1/x.jpg.avif",
    ]
    assert not [name for name in names if ".mien" in name]
