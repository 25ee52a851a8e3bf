"""Tables of photos: which rows are photos, how they are read, and what goes on with them."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mien.models.errors import ImageError, ImageTooLargeError
from mien.models.images import encode_image
from mien.transforms.elements import Failure, HandledFace, ListedFile, SafePhoto
from mien.transforms.formats import (
    PhotoColumn,
    RowMaker,
    RowReader,
    RowsWriter,
    list_rows,
    members_of_table,
    without_rows,
)
from mien.transforms.formats.photo_tables import kind_of_column, other_columns
from mien.transforms.stores import key_of


def picture(grey: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), (grey, 99, 9)).save(stream, "PNG")
    return stream.getvalue()


def table(path: Path, columns: dict[str, Any], rows: int = 3, **metadata: bytes) -> ListedFile:
    """A Parquet file of row groups of so many rows."""
    made = pa.table(columns)
    if metadata:
        made = made.replace_schema_metadata(metadata)
    pq.write_table(made, path, row_group_size=rows)
    return ListedFile(str(path), path.name, path.stat().st_size, path.stat().st_mtime)


def listed(file: ListedFile, column: PhotoColumn) -> tuple[list[ListedFile], dict[str, str]]:
    entries = list(list_rows(file, column))
    failures = {entry.uri[len(file.uri) :]: entry.message for entry in entries if isinstance(entry, Failure)}
    return [entry for entry in entries if isinstance(entry, ListedFile)], failures


def test_rows_are_read_out_of_their_groups(tmp_path: Path) -> None:
    data = [picture(i) for i in range(8)]
    file = table(tmp_path / "t.parquet", {"n": range(8), "image": [*data[:4], None, *data[5:]]})
    rows, failures = listed(file, PhotoColumn("image"))
    assert failures == {}
    assert [row.uri for row in rows] == [f"{file.uri}/{i}" for i in range(8)]
    assert [row.group for row in rows] == [0, 0, 0, 1, 1, 1, 2, 2]
    reader = RowReader()
    for i in (0, 1, 2, 7, 3, 5, 6, 3):  # forwards, and back again
        assert reader.read(rows[i], 10_000) == data[i]
    with pytest.raises(ImageError, match="row 4 has no picture: column 'image' is null there"):
        reader.read(rows[4], 10_000)
    with pytest.raises(ImageTooLargeError, match="over the limit of 10"):
        reader.read(rows[0], 10)
    os.utime(file.uri, (1, 1))
    with pytest.raises(ImageError, match="its table changed after it was listed"):
        reader.read(rows[0], 10_000)
    reader.close()


def test_hugging_faces_struct_has_bytes_or_a_path(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(picture(9))
    values = [{"bytes": picture(1), "path": "a.png"}, {"bytes": None, "path": "p.png"}, {"bytes": None, "path": None}]
    file = table(tmp_path / "t.parquet", {"image": values})
    rows, _ = listed(file, PhotoColumn("image"))
    reader = RowReader()
    assert reader.read(rows[0], 10_000) == picture(1)
    assert reader.read(rows[1], 10_000) == str(tmp_path / "p.png")
    with pytest.raises(ImageError, match="row 2 has no picture"):
        reader.read(rows[2], 10_000)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_paths_are_of_the_tables_folder(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    paths = ["a.png", "", "gone.png", f"file://{tmp_path}/a.png", "https://x.org/a.png"]
    path = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        path.write_text("id,where\n" + "".join(f"00{i},{one}\n" for i, one in enumerate(paths)))
        file = ListedFile(str(path), path.name, 1, path.stat().st_mtime)
    else:
        file = table(path, {"id": range(5), "where": paths})
    rows, failures = listed(file, PhotoColumn("where", "uri"))
    assert [(row.uri[-2:], row.path, row.size) for row in rows] == [
        (f"/{i}", str(tmp_path / "a.png"), len(picture(1))) for i in (0, 3)
    ]
    assert {row: message.partition(":")[0] for row, message in failures.items()} == {
        "/1": "the row names no file", "/2": str(tmp_path / "gone.png"), "/4": "https",
    }  # fmt: skip
    assert "http" in failures["/4"]


def test_what_is_no_table_of_photos_is_told(tmp_path: Path) -> None:
    file = table(tmp_path / "t.parquet", {"image": [1, 2], "text": ["a", "b"], "thumb": [b"1", b"2"]})
    for column, told in (
        (PhotoColumn("picture"), "no column 'picture': it has image, text, thumb (--column)"),
        (PhotoColumn("image"), "column 'image' is of int64: bytes, {bytes, path}, paths or URIs are wanted"),
        (PhotoColumn("text", "bytes"), "column 'text' is of string, which --kind bytes is not for"),
        (
            PhotoColumn("text", pass_on=True),
            "its column 'thumb' is of binary and may hold pictures: leave it out with --drop-members thumb",
        ),
    ):
        assert listed(file, column) == ([], {"": told})
    assert len(listed(file, PhotoColumn("thumb"))[0]) == 2
    for name, data, told in (
        ("x.parquet", b"PAR1 no table", "damaged"),
        ("x.csv", b"a,b\n1,2,3\n", "Expected 2 columns, got 3"),
        ("x.csv", b"a,a\n1,2\n", "two of its columns"),
        ("x.png", picture(1), "no table: .csv or .parquet is wanted with --column"),
    ):
        (tmp_path / name).write_bytes(data)
        rows, failures = listed(ListedFile(str(tmp_path / name), name, len(data), 1.0), PhotoColumn("a"))
        assert rows == []
        assert told in failures[""] or "magic" in failures[""]


def test_a_column_that_may_hold_pictures_does_not_go_on() -> None:
    array = pa.list_(pa.list_(pa.int32()))
    for kind in (pa.binary(), pa.binary(3), array, pa.list_(pa.uint8()), pa.struct([("b", pa.large_binary())])):
        with pytest.raises(ImageError, match="may hold pictures: leave it out with --drop-members x"):
            other_columns(pa.schema([("image", pa.binary()), ("x", kind)]), PhotoColumn("image"))
    kinds = pa.string(), pa.float64(), pa.list_(pa.float32()), pa.timestamp("us"), pa.bool_(), pa.list_(pa.string())
    schema = pa.schema([("image", pa.binary()), *((f"x{i}", kind) for i, kind in enumerate(kinds))])
    assert other_columns(schema, PhotoColumn("image", dropped=("x0",))) == ["x1", "x2", "x3", "x4", "x5"]
    with pytest.raises(ImageError, match="mien's own name"):
        other_columns(pa.schema([("image", pa.binary()), ("mien", pa.string())]), PhotoColumn("image"))
    assert kind_of_column(pa.schema([("i", pa.dictionary(pa.int8(), pa.string()))]), PhotoColumn("i")) == "uri"


SAFE = encode_image(np.full((48, 64, 3), 120, np.uint8), "jpeg")
FACE = HandledFace((1.0, 2.0, 3.0, 4.0), "fill", "otherwise", "fill", score=0.5)


def safe(row: ListedFile) -> SafePhoto:
    return SafePhoto(row.uri, f"{row.name}.jpg", SAFE, (FACE,), "p:1", "0.1.0", row)


def test_a_row_goes_on_with_what_was_beside_its_photo(tmp_path: Path) -> None:
    text = {"dtype": "string", "_type": "Value"}
    features = {"image": {"_type": "Image"}, "n": {"dtype": "int64", "_type": "Value"}, "note": text}
    features["thumb"] = {"_type": "Image"}
    said = json.dumps({"info": {"features": features}}).encode()
    values = [{"bytes": picture(i), "path": f"{i}.png"} for i in range(5)]
    columns = {"n": range(5), "image": values, "thumb": values, "note": ["a", None, "c", "d", "/9j/" + "A" * 60]}
    file = table(tmp_path / "t.parquet", columns, huggingface=said)
    column = PhotoColumn("image", "", ("thumb",), True)
    rows, _ = listed(file, column)
    maker, writer = RowMaker(column), RowsWriter(str(tmp_path / "out.parquet"))
    for i in (3, 0, 1):
        row = maker.row(safe(rows[i]))
        assert writer.takes(row)
        writer.add(row)
    assert writer.close() == (tmp_path / "out.parquet").stat().st_size
    with pytest.raises(ImageError, match="its column 'note' may hold a picture, written as text"):
        maker.row(safe(rows[4]))
    back = pq.read_table(tmp_path / "out.parquet")
    assert back.schema.names == ["n", "image", "note", "mien"]
    assert back.column("n").to_pylist() == [3, 0, 1]
    assert back.column("note").to_pylist() == ["d", "a", None]
    assert back.column("image").to_pylist() == [{"bytes": SAFE, "path": f"{i}.png"} for i in (3, 0, 1)]
    told = json.loads(back.column("mien")[0].as_py())
    assert (told["id"], told["name"], told["faces"][0]["action"]) == (key_of(rows[3].uri), "t.parquet/0000003", "fill")
    assert str(tmp_path) not in json.dumps(told)
    kept = json.loads(back.schema.metadata[b"huggingface"])["info"]["features"]
    assert kept == {"image": {"_type": "Image"}, "n": features["n"], "note": text, "mien": text}

    part, copy = str(tmp_path / "out.parquet"), str(tmp_path / "copy.parquet")
    assert [key for key, _ in members_of_table(part, True)] == [key_of(rows[i].uri) for i in (3, 0, 1)]
    assert without_rows(part, [rows[0].uri, rows[4].uri], copy) == (2, {rows[0].uri})
    assert pq.read_table(copy).column("n").to_pylist() == [3, 1]
    assert [key for key, _ in members_of_table(copy, False)] == [key_of(rows[i].uri) for i in (3, 1)]


def test_rows_of_other_columns_are_another_table(tmp_path: Path) -> None:
    column = PhotoColumn("image", pass_on=True)
    first, second = (
        maker_row(table(tmp_path / f"{name}.parquet", {"image": [picture(1)], name: ["x"]}), column)
        for name in ("a", "b")
    )
    writer = RowsWriter(str(tmp_path / "out.parquet"))
    writer.add(first)
    assert not writer.takes(second)
    assert writer.takes(first)
    writer.abandon()
    alone = maker_row(table(tmp_path / "c.parquet", {"image": [picture(1), picture(2)]}), column)
    assert alone.schema.names == ["image", "mien"]
    assert alone.column("image").to_pylist() == [SAFE]


def maker_row(file: ListedFile, column: PhotoColumn) -> pa.Table:
    rows, _ = listed(file, column)
    return RowMaker(column).row(safe(rows[-1]))
