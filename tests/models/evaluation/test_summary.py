from pathlib import Path

import numpy as np
import pytest

from mien.models.evaluation.measure import MIEN, Missing, Row
from mien.models.evaluation.metrics import Quality
from mien.models.evaluation.summary import Line, line_of, needs, reached


def line(codec: str, size: float, lpips: float | None, id_: float | None = 0.5, effort: str = "") -> Line:
    return Line(codec, effort, int(size), 5, None, bytes_mean=size, bytes_max=int(size), lpips=lpips, id=id_)


def row(face: str, size: int, score: float | None = None) -> Row:
    spaces = {"recogniser": np.full(4, len(face), np.float32)}
    quality = Quality(size / 1000, 20.0, 0.5, 0.6, None)
    return Row(face, MIEN if score else "WebP", "", 64, size, 512, quality, 10.0 * size, 5.0, score, Path(face), spaces)


def test_the_bytes_needed_lie_between_measured_points() -> None:
    webp = [line("WebP", 100, 0.5, 0.2), line("WebP", 400, 0.3, 0.6), line("WebP", 1600, 0.1, 0.9)]
    found = {
        (need.quality, need.ceiling): need
        for need in needs([line(MIEN, 60, 0.4, 0.6), line(MIEN, 300, 0.2, 1.0), *webp])
    }
    assert found["lpips", 60].bytes == pytest.approx(200)  # half way in the logarithm
    assert found["lpips", 60].ratio == pytest.approx(200 / 60)
    assert found["lpips", 300].bytes == pytest.approx(800)
    assert found["id", 60].bytes == pytest.approx(400)
    assert (found["id", 300].bytes, found["id", 300].bound) == (1600, "more than")
    assert {need.bound for key, need in found.items() if key != ("id", 300)} == {""}


def test_the_bytes_needed_beyond_what_was_measured_have_a_bound() -> None:
    bad = needs([line(MIEN, 60, 0.7), line("AVIF", 400, 0.6)])
    assert [(need.bytes, need.bound) for need in bad if need.quality == "lpips"] == [(400, "at most")]
    assert needs([line(MIEN, 60, None, None), line("AVIF", 400, 0.6)]) == []
    assert needs([line(MIEN, 60, 0.7), line("AVIF", 400, None, None)]) == []


def test_a_worse_file_with_more_bytes_does_not_count() -> None:
    webp = [line("WebP", 100, 0.4), line("WebP", 200, 0.45), line("WebP", 400, 0.2)]
    (need,) = (need for need in needs([line(MIEN, 60, 0.3), *webp]) if need.quality == "lpips")
    assert need.bytes == pytest.approx(200)


def test_a_codec_is_followed_until_it_is_as_good() -> None:
    ours = [line(MIEN, 60, 0.4, 0.6), line(MIEN, 300, 0.2, 0.8)]
    assert not reached([*ours, line("WebP", 300, 0.3, 0.9)], "WebP")
    assert not reached([*ours, line("WebP", 300, 0.1, 0.7)], "WebP")
    assert reached([*ours, line("WebP", 300, 0.2, 0.7), line("WebP", 600, 0.3, 0.9)], "WebP")


def test_a_line_adds_up_its_rows() -> None:
    rows = [row("a", 40, 0.3), row("b", 60, 0.5), row("c", 62, 0.9)]
    found = line_of(MIEN, "fast", 64, rows, {face: {"recogniser": np.ones(4, np.float32)} for face in "abc"})
    assert (found.faces, found.bytes_mean, found.bytes_max) == (3, 54, 62)
    assert found.lpips == pytest.approx(0.054)
    assert found.encode_ms == 600
    assert found.fell_back == pytest.approx(1 / 3)
    assert (found.dlib, found.kid_recogniser) == (None, None)


def test_without_every_face_no_quality_is_told() -> None:
    found = line_of("WebP", "", 64, [row("a", 60)], {}, [Missing("WebP", 64, 71), Missing("WebP", 64, 66)])
    assert (found.faces, found.bytes_mean, found.smallest, found.psnr) == (1, 60, 66, None)
    assert line_of("AVIF", "", 64, [], {}, [Missing("AVIF", 64, 300)]).smallest == 300
