"""Tables of photos in and out: a row is a photo, and what is beside it goes on with it."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mien.models.images import decode_image
from mien.pipelines.cli import main
from tests.pipelines.conftest import failures, mien, record
from tests.pipelines.test_webdataset import counts, picture

pytestmark = pytest.mark.slow

QUICK = ("--detector", "mediapipe", "--column", "image")


def rows(output: Path) -> list[dict[str, Any]]:
    """All rows that count, by n."""
    parts = json.loads((output / "_manifest.json").read_text())["parts"]
    found = [row for part in parts for row in pq.read_table(output / part).to_pylist()]
    return sorted(found, key=lambda row: row["n"])


def test_a_table_is_redacted_row_by_row(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    people = (photos / "a" / "x.jpg").read_bytes()
    values = [{"bytes": data, "path": None} for data in (people, picture(1), None, b"no picture", picture(2))]
    table = pa.table({"n": range(5), "image": values, "text": ["Zürich", None, "c", "d", "e"]})
    pq.write_table(table, source / "0.parquet", row_group_size=2)
    pq.write_table(pa.table({"n": [9], "other": [b""]}), source / "1.parquet")
    words = ("redact", source, "--output", output, *QUICK, "--format", "parquet")
    assert mien(*words) == 3
    assert counts(output) == [6, 3, 1, 2, 0, 0]
    assert set(failures(output)) == {"2", "3", "1.parquet"}
    assert "row 2 has no picture" in failures(output)["2"]["message"]
    assert "no column 'image'" in failures(output)["1.parquet"]["message"]
    found = rows(output)
    assert [(row["n"], row["text"]) for row in found] == [(0, "Zürich"), (1, None), (4, "e")]
    faces = json.loads(found[0]["mien"])["faces"]
    assert len(faces) == record(output)["actions"]["fill"] > 0
    assert mien("redact", photos / "a" / "x.jpg", "--output", tmp_path / "file", *QUICK[:2]) == 0
    assert found[0]["image"]["bytes"] == (tmp_path / "file" / "x.jpg.jpg").read_bytes()
    assert decode_image(found[1]["image"]["bytes"]).shape == (48, 64, 3)

    assert mien(*words) == 3
    assert counts(output) == [3, 0, 1, 2, 3, 0]
    assert main(["report", str(output), "--output", str(tmp_path / "report.html"), "-q"]) == 0
    assert (tmp_path / "report.html").read_text().count("data:image/webp") == 3
    (part,) = output.glob("photos-*.parquet")
    assert main(["inspect", str(part)]) == 0
    (source / "1.parquet").unlink()
    pq.write_table(table.set_column(1, "image", [[{"bytes": picture(i)} for i in range(5)]]), source / "0.parquet")
    assert mien(*words, "--drop-members", "te*") == 0
    assert counts(output) == [5, 5, 0, 0, 0, 0]
    assert [row.keys() for row in rows(output)] == [{"n": 0, "image": 0, "mien": 0}.keys()] * 5
    assert mien("redact", source, "--output", output, *QUICK[:2], "--format", "parquet") == 2
    assert "name their column with --column" in capsys.readouterr().err


def test_a_list_of_paths_is_a_table(photos: Path, tmp_path: Path) -> None:
    paths = tmp_path / "list.csv"
    paths.write_text(f"image,n\n{photos}/b/x.jpg,007\ngone.jpg,008\n")
    output = tmp_path / "out"
    words = ("redact", paths, "--output", output, *QUICK, "--kind", "uri")
    assert mien(*words, "--format", "parquet") == 3
    assert counts(output) == [2, 1, 0, 1, 0, 0]
    (row,) = rows(output)
    assert (row["n"], row["image"]["path"]) == ("007", f"{photos}/b/x.jpg")
    assert mien(*words, "--format", "parquet") == 3
    assert counts(output) == [1, 0, 0, 1, 1, 0]
    coded = tmp_path / "coded"
    assert mien("compress", paths, "--output", coded, *QUICK, "--effort", "fast") == 3
    assert counts(coded) == [2, 1, 0, 1, 0, 0]
    assert mien("restore", coded, "--output", tmp_path / "back") == 0
