"""Photos in a bucket: an emulator on loopback serves both Beam and gcsfs."""

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

# Beam looks 25 s for credentials before it goes on without
MIEN = (
    "from apache_beam.internal.gcp import auth; auth._Credentials._credentials_init = True; "
    "import sys; from mien.pipelines.cli import main; sys.exit(main(sys.argv[1:]))"
)


class Bucket:
    def __init__(self, address: str) -> None:
        self.address = address

    def put(self, name: str, data: bytes) -> None:
        place = f"{self.address}/upload/storage/v1/b/photos/o?uploadType=media&name={urllib.parse.quote(name, safe='')}"
        urllib.request.urlopen(urllib.request.Request(place, data, {"Content-Type": "image/jpeg"})).read()

    def names(self) -> list[str]:
        with urllib.request.urlopen(f"{self.address}/storage/v1/b/photos/o") as answer:
            return sorted(item["name"] for item in json.load(answer)["items"])

    def mien(self, *words: str) -> subprocess.CompletedProcess[str]:
        settings = {"STORAGE_EMULATOR_HOST": self.address, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
        command = [sys.executable, "-c", MIEN, *words, "--no_auth", "--workers", "1"]
        return subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=300)


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
    words = ("--format", "blobs", "--detector", "mediapipe")
    result = bucket.mien("compress", "gs://photos/in", "--output", "gs://photos/out", *words)
    assert result.returncode == 3, result.stderr
    assert "1 of 2 photos" in result.stderr
    result = bucket.mien("compress", "gs://photos/in/**.jpg", "--output", "gs://photos/out", *words)
    assert result.returncode == 3, result.stderr
    assert "0 of 1 photos, 1 done before" in result.stderr
    result = bucket.mien("compress", "gs://photos/in/ü 1", "--output", "gs://photos/table", *words[2:])
    assert result.returncode == 0, result.stderr
    for name in ("out", "table"):
        result = bucket.mien("restore", f"gs://photos/{name}", "--output", "gs://photos/back")
        assert result.returncode == 0, result.stderr
    names = bucket.names()
    images = [name for name in names if name.endswith((".avif", ".png"))]
    assert images == ["back/x.jpg.png", "back/ü 1/x.jpg.png", "out/ü 1/x.jpg.avif"]
    assert not [name for name in names if ".mien" in name]


def test_a_bucket_that_is_not_there(bucket: Bucket, photos: Path) -> None:
    bucket.put("in/x.jpg", (photos / "a" / "x.jpg").read_bytes())
    for words in (("gs://nobody/in", "--output", "gs://photos/out"), ("gs://photos/in", "--output", "gs://nobody/out")):
        result = bucket.mien("compress", *words)
        assert result.returncode == 2
        assert result.stderr.startswith("mien: gs://nobody/")
        assert "no such bucket" in result.stderr
        assert result.stderr.count("\n") == 1
