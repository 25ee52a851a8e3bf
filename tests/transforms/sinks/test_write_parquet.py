from collections.abc import Iterable
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from mien.models.faces.alignment import snap_transform
from mien.transforms.elements import CodedFace, CodedPhoto, ListedFile
from mien.transforms.formats.manifest import commit, parts_of, roll_back
from mien.transforms.formats.parquet import SCHEMA, CodedRow, TableWriter, photo_of, row_of, without_rows
from mien.transforms.sinks.write_parquet import WriteParquet
from mien.transforms.sources.listing import list_files
from mien.transforms.sources.read_coded import CODED_SUFFIXES, photos_of_table

RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
TRANSFORM = tuple(snap_transform((0.31, 0.02, 481.3, -0.02, 0.31, 172.9)))
FACE = CodedFace((1.5, 2.25, 30.0, 40.0), TRANSFORM, "preserve", "otherwise", "m1", b"\0payload", 0.5)
FILLED = CodedFace((1.0, 2.0, 3.0, 4.0), (), "fill", "otherwise (not aligned)", "", b"", 0.0)


def photo(name: str, size: int = 1000) -> CodedPhoto:
    return CodedPhoto(f"/in/{name}", 9, 640, 480, bytes(size), "avif", (FACE, FILLED), "p:1", "0.1.0", name)


def write(output: Path, photos: Iterable[CodedPhoto], run_id: str = "") -> list[str]:
    found: list[str] = []
    with beam.Pipeline(runner=RUNNER) as pipeline:
        result = pipeline | beam.Create(list(photos)) | WriteParquet(str(output), run_id)
        assert_that(result.photos | beam.Map(lambda w: w.uri), equal_to([p.uri for p in photos]), "written")
        assert_that(result.failures, equal_to([]), "failures")
    return found


def rows(output: Path) -> list[str]:
    return sorted(uri for path in output.glob("*.parquet") for uri in pq.read_table(path)["uri"].to_pylist())


def test_a_row_is_the_photo(tmp_path: Path) -> None:
    origin = ListedFile("/t.parquet", "t.parquet", 1, 1.0)
    first = photo("a/ü 1.jpg")
    table = pa.Table.from_pylist([row_of(first)], SCHEMA)
    again = photo_of(table.to_pylist()[0], "/in", origin)
    assert (again.name, again.origin, again.faces) == (first.name, origin, first.faces)
    assert row_of(again) == row_of(first)


@pytest.mark.parametrize("change", [{"faces": None}, {"uri": None}, {"faces": [None]}, {"faces": [{"x": 1.0}]}])
def test_rows_that_are_no_photo(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="missing or null"):
        photo_of({**row_of(photo("x.jpg")), **change}, "/in", ListedFile("t", "t", 1, 1.0))


def test_row_groups_are_bounded_by_bytes(tmp_path: Path) -> None:
    writer = TableWriter(str(tmp_path / "t.parquet"), row_group_bytes=5000)
    for i in range(10):
        writer.add(CodedRow(photo(f"{i}.jpg")))
    assert writer.close() == (tmp_path / "t.parquet").stat().st_size
    table = pq.ParquetFile(tmp_path / "t.parquet")
    assert [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)] == [4, 4, 2]
    back = list(photos_of_table(ListedFile(str(tmp_path / "t.parquet"), "t.parquet", 1, 1.0)))
    assert [p.name for p in back if isinstance(p, CodedPhoto)] == [f"{i}.jpg" for i in range(10)]
    assert {p.origin.photos for p in back if isinstance(p, CodedPhoto) and p.origin} == {10}


def test_what_was_beside_a_photo_is_in_its_row(tmp_path: Path) -> None:
    beside = pa.StructArray.from_arrays([pa.array([7]), pa.array(["x"])], ["n", "uri"])
    first, second = photo("0.jpg"), photo("1.jpg")
    writer = TableWriter(str(tmp_path / "t.parquet"))
    writer.add(CodedRow(first, beside))
    assert writer.takes(CodedRow(second, beside))
    assert not writer.takes(CodedRow(second))
    assert not writer.takes(CodedRow(second, pa.StructArray.from_arrays([pa.array([7])], ["n"])))
    writer.add(CodedRow(second, beside))
    writer.close()
    assert pq.read_table(tmp_path / "t.parquet").column("row").to_pylist() == [{"n": 7, "uri": "x"}] * 2
    back = list(photos_of_table(ListedFile(str(tmp_path / "t.parquet"), "t.parquet", 1, 1.0)))
    assert [p.uri for p in back if isinstance(p, CodedPhoto)] == [first.uri, second.uri]
    assert without_rows(str(tmp_path / "t.parquet"), [first.uri], str(tmp_path / "c.parquet")) == (1, {first.uri})
    assert pq.read_table(tmp_path / "c.parquet").column("row").to_pylist() == [{"n": 7, "uri": "x"}]


def test_a_photo_that_is_done_anew_is_there_once(tmp_path: Path) -> None:
    write(tmp_path, [photo("a.jpg"), photo("b.jpg")], "1")
    write(tmp_path, [photo("b.jpg"), photo("c.jpg")], "2")
    assert rows(tmp_path) == ["/in/a.jpg", "/in/b.jpg", "/in/c.jpg"]
    assert [path.name.count(".2.") for path in tmp_path.glob("photos-1-*.parquet")] == [1]  # a copy of the old part
    write(tmp_path, [photo("a.jpg")], "3")
    assert rows(tmp_path) == ["/in/a.jpg", "/in/b.jpg", "/in/c.jpg"]
    assert not list(tmp_path.glob("photos-1-*"))  # it held nothing else
    assert not list(tmp_path.glob(".mien*"))


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    pq.write_table(pa.table({"uri": ["/in/a.jpg"]}), tmp_path / "mine.parquet")
    write(tmp_path, [photo("a.jpg")])
    assert rows(tmp_path) == ["/in/a.jpg", "/in/a.jpg"]


def listed(folder: Path) -> list[str]:
    """The tables of a folder as mien's readers list them; failures by their stage."""
    entries = list(list_files(str(folder), str(folder), CODED_SUFFIXES))
    return [entry.name if isinstance(entry, ListedFile) else entry.message for entry in entries]


def test_readers_see_a_run_when_it_is_committed(tmp_path: Path) -> None:
    write(tmp_path, [photo("a.jpg"), photo("b.jpg")], "1")
    before = listed(tmp_path)
    with beam.Pipeline(runner=RUNNER) as pipeline:
        parquet = WriteParquet(str(tmp_path), "2", commits=False)
        _ = pipeline | beam.Create([photo("b.jpg"), photo("c.jpg")]) | parquet
    assert len(list(tmp_path.glob("photos-*.parquet"))) == 3  # the new part, and a copy of the old one without b.jpg
    assert listed(tmp_path) == before
    roll_back(str(tmp_path), "2")
    assert [path.name for path in tmp_path.glob("photos-*.parquet")] == before

    with beam.Pipeline(runner=RUNNER) as pipeline:
        _ = pipeline | beam.Create([photo("b.jpg"), photo("c.jpg")]) | parquet
    commit(str(tmp_path), "2")
    assert sorted(listed(tmp_path)) == sorted(path.name for path in tmp_path.glob("photos-*.parquet"))
    assert rows(tmp_path) == ["/in/a.jpg", "/in/b.jpg", "/in/c.jpg"]
    assert not set(before) & set(listed(tmp_path))
    held = parts_of(str(tmp_path))
    assert held.holds(before[0])  # as a copy
    assert not held.holds("photos-3-0123456789ab.parquet")


def test_a_folder_without_a_manifest_is_read_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, [photo("a.jpg")], "1")
    (tmp_path / "_manifest.json").unlink()
    assert len(listed(tmp_path)) == 1
    write(tmp_path, [photo("a.jpg"), photo("b.jpg")], "2")
    assert rows(tmp_path) == ["/in/a.jpg", "/in/b.jpg"]
    assert len(listed(tmp_path)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "no manifest of tables"),
        ("[]", "no manifest of tables"),
        ('{"version": 2, "run": "1", "parts": [], "gone": []}', "a manifest of version 2"),
        ('{"version": 1, "run": "1", "parts": ["../photos-1-0123456789ab.parquet"], "gone": []}', "is no part of"),
        ('{"version": 1, "run": "1", "parts": [], "gone": ["mine.parquet"]}', "is no part of"),
        ('{"version": 1, "run": "1", "parts": ["photos-1-0123456789ab.parquet"], "gone": []}', "0123456789ab.parquet"),
    ],
)
def test_a_manifest_that_is_none_hides_no_table_silently(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, [photo("a.jpg")], "1")
    (tmp_path / "_manifest.json").write_text(text)
    (found,) = listed(tmp_path)
    assert message in found
