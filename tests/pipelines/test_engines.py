"""The same bytes from every engine."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mien.pipelines.cli import main
from tests.pipelines.conftest import record

PRISM = Path(__file__).parents[3] / "shared/engines/prism-2.77.0-linux-amd64.zip"
ENGINES = {
    "threads": ["--workers", "2", "--direct_running_mode", "multi_threading"],
    "processes": ["--workers", "2"],
    "prism": ["--runner=DirectRunner", f"--prism_location={PRISM}"],
}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_writes_the_same_bytes(
    engine: str, photos: Path, compressed: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if engine == "prism" and not PRISM.exists():
        pytest.skip(f"{PRISM} is not here")
    words = ["compress", photos, "--output", tmp_path, "--format", "blobs", *ENGINES[engine]]
    assert main([str(word) for word in words]) == 0
    assert "2 of 2 photos" in capfd.readouterr().err
    expected = compressed("blobs")
    for name in ("a/x.jpg.avif", "b/x.jpg.avif"):
        assert (tmp_path / name).read_bytes() == (expected / name).read_bytes()
    ours, theirs = record(tmp_path), record(expected)
    for key in ("actions", "bytes", "fingerprint", "settings"):
        assert ours[key] == theirs[key]
    assert ours["counts"]["out"] == 2
