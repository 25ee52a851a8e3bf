"""Small photos with few faces, cut from tests/data/photos, and what `mien compress` makes of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mien.pipelines.cli import main

DATA = Path(__file__).parent.parent / "data" / "photos"


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a/x.jpg and b/x.jpg, 600 x 400, with a few people each."""
    folder = tmp_path_factory.mktemp("photos")
    for name, photo, box in (("a", "allhands", (60, 330, 660, 730)), ("b", "usds", (150, 100, 750, 500))):
        (folder / name).mkdir()
        with Image.open(DATA / f"{photo}.jpg") as image:
            image.crop(box).save(folder / name / "x.jpg", quality=95)
    return folder


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x.jpg, 180 x 192, with one face, which takes few steps to code and to replace."""
    path = tmp_path_factory.mktemp("small") / "x.jpg"
    with Image.open(DATA / "allhands.jpg") as image:
        image.crop((110, 430, 410, 750)).resize((180, 192), Image.Resampling.BOX).save(path, quality=95)
    return path


def mien(*words: object) -> int:
    """Runs a command in this process, in memory."""
    return main([str(word) for word in (*words, "--workers", 1, "-q")])


def record(output: Path) -> dict[str, Any]:
    """run.json."""
    found: dict[str, Any] = json.loads((output / "run.json").read_text())
    counts = found["counts"]
    assert counts["in"] == counts["out"] + counts["withheld"] + counts["failed"]
    return found


def failures(output: Path) -> dict[str, dict[str, str]]:
    """The run's failures by the file's name."""
    name = record(output)["failures"]
    lines = (output / name).read_text().splitlines() if name else []
    return {Path(row["uri"]).name: row for row in map(json.loads, lines)}


@pytest.fixture(scope="session")
def compressed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The photos compressed, as `blobs` or `parquet`; made when it is first asked for."""
    made: dict[str, Path] = {}

    def output(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            assert (
                mien(
                    "compress",
                    photos,
                    "--output",
                    made[kind],
                    "--format",
                    kind,
                    "--effort",
                    "fast",
                    "--faces",
                    "neural",
                )
                == 0
            )
        return made[kind]

    return output
