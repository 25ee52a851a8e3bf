"""Detectors of one's own: found as a real entry point or by module and class, and held to what they promise."""

import itertools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mien.models.errors import DetectorError
from mien.models.faces import own_detectors as module
from mien.models.faces.own_detectors import (
    MOST_REGIONS,
    OwnDetector,
    detector_class,
    detector_digest,
    detector_kind,
    installed_detectors,
)

DATA = Path(__file__).parents[2] / "data"
GREY = np.full((100, 200, 3), 128, np.uint8)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """tests/data/plates.py as an installed package with an entry point."""
    shutil.copy(DATA / "plates.py", tmp_path / "plates_example.py")
    info = tmp_path / "plates_example-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plates-example\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{module.GROUP}]\nplates = plates_example:Plates\n")
    monkeypatch.syspath_prepend(tmp_path)
    detector_class.cache_clear()
    sys.modules.pop("plates_example", None)
    yield tmp_path
    detector_class.cache_clear()


def test_the_example_finds_a_plate(installed: Path) -> None:
    assert installed_detectors() == ("plates",)
    assert detector_kind("plates") == detector_kind("plates_example:Plates") == "plate"
    photo = cv2.cvtColor(cv2.imread(str(DATA / "photos" / "team.jpg")), cv2.COLOR_BGR2RGB)
    cv2.rectangle(photo, (40, 1110), (260, 1160), (250, 250, 250), -1)
    cv2.putText(photo, "B MX 4711", (52, 1147), cv2.FONT_HERSHEY_DUPLEX, 1.2, (10, 10, 10), 3, cv2.LINE_AA)
    before = photo.copy()
    found = OwnDetector("plates").find(photo)
    assert np.array_equal(photo, before)
    assert {region.kind for region in found} == {"plate"}
    assert not any(region.transform for region in found)
    inside = [r for r in found if r.box[0] < 55 and r.box[1] < 1122 and r.box[0] + r.box[2] > 240]
    assert len(inside) == 1


def test_changed_code_has_another_digest(installed: Path) -> None:
    first = detector_digest("plates")
    with (installed / "plates_example.py").open("a") as stream:
        stream.write("# another version\n")
    assert len(first) == 12
    assert detector_digest("plates") != first


class Detector:
    found: Any = ()

    def detect(self, pixels: np.ndarray) -> Any:
        pixels[:] = 0  # what it does with its copy is its own affair
        if isinstance(self.found, Exception):
            raise self.found
        return self.found() if callable(self.found) else self.found


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (ZeroDivisionError("by\nzero"), "failed: ZeroDivisionError: by zero$"),
        ([(1, 2, np.nan, 4, 0.5)], "gave a box that is not finite"),
        ([(1, 2, 3, np.inf, 0.5)], "gave a box that is not finite"),
        ([(1, 2, -3, 4, 0.5)], "gave a box without an area: -3 x 4 at 1, 2"),
        ([(200, 2, 3, 4, 0.5)], "gave a box outside the frame of 200 x 100: 3 x 4 at 200, 2"),
        ([(1, 2, 3, 4, 1.5)], "gave a score of 1.5, not from 0 to 1"),
        ([(1, 2, 3, 4, np.nan)], "gave a score of nan"),
        ([(1, 2, 3, 4)], "gave rows that are not x, y, width, height, score"),
        ([(1, 2, 3, 4, 0.5), (1, 2)], "gave rows that are not"),
        (["plate"], "gave rows that are not"),
        (7, "failed: TypeError: 'int' object is not iterable"),
        (None, "failed: TypeError"),
        ([(1, 2, 3, 4, 0.5)] * 10_000, f"gave over {MOST_REGIONS} boxes"),
        (lambda: itertools.repeat((1, 2, 3, 4, 0.5)), f"gave over {MOST_REGIONS} boxes"),
    ],
)
def test_what_a_detector_may_not_give(monkeypatch: pytest.MonkeyPatch, found: Any, message: str) -> None:
    monkeypatch.setattr(module, "detector_class", lambda name: Detector)
    monkeypatch.setattr(Detector, "found", staticmethod(found) if callable(found) else found)
    with pytest.raises(DetectorError, match=f"^detector 'x' {message}"):
        OwnDetector("x").find(GREY)


def test_boxes_may_reach_over_the_border(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "detector_class", lambda name: Detector)
    monkeypatch.setattr(Detector, "found", np.array([[-5, 90, 20, 20, 0.5]]))
    (region,) = OwnDetector("x").find(GREY)
    assert (region.box, region.score, region.kind) == ((-5.0, 90.0, 20.0, 20.0), 0.5, "face")
    assert GREY.min() == 128


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("eyes", "unknown detector 'eyes'"),
        ("no.such.module:Class", "detector 'no.such.module:Class' cannot be loaded: ModuleNotFoundError: No module"),
        ("math:Plates", "detector 'math:Plates' cannot be loaded: AttributeError"),
        ("math:pi", "detector 'math:pi' is no class with a method detect"),
        ("os.path:join; rm", "unknown detector"),
    ],
)
def test_what_is_no_detector(name: str, message: str) -> None:
    with pytest.raises(DetectorError, match=f"^{message}"):
        detector_kind(name)


def test_a_kind_is_a_word(monkeypatch: pytest.MonkeyPatch, installed: Path) -> None:
    monkeypatch.setattr(detector_class("plates"), "kind", "Number Plate")
    detector_class.cache_clear()
    with pytest.raises(DetectorError, match="has the kind 'Number Plate': a lower-case word is wanted"):
        detector_kind("plates")
