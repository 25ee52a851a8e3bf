"""Tables of photos as inputs: Parquet and CSV files in which one column holds pictures, paths or URIs.

A table is listed before it is read, so that each row is a photo of its own to all that follows, as a shard's members
are. Rows are read in their order, some at a time, out of their row group.
Source of the struct of bytes and path: https://huggingface.co/docs/datasets (Image feature).
"""

import posixpath
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from mien.models.errors import ImageError, ImageTooLargeError
from mien.transforms.elements import Failure, ListedFile
from mien.transforms.formats.parquet import MIEN, PARQUET, PHOTO_COLUMN, arrow_errors, open_table
from mien.transforms.formats.shard_samples import is_dropped
from mien.transforms.formats.tar_members import check_unchanged
from mien.transforms.stores import is_local, join, normal_uri, not_for_photos, stat_file
from mien.transforms.workers import failure_of

CSV = ".csv"
TABLE_SUFFIXES = frozenset((PARQUET, CSV))
MAX_CSV = 1_000_000_000  # bytes; it is held whole
_CSV_GROUP = 10_000  # rows that are read together
_AT_ONCE = 16  # rows whose pictures are held
_BUFFER = 1 << 20


@dataclass(frozen=True)
class PhotoColumn:
    """Where the photos of a table are. kind: bytes or uri; empty: as the column's type says. dropped: patterns of other
    columns that are left out (is_dropped). pass_on: whether the other columns are to go on."""

    name: str
    kind: str = ""
    dropped: tuple[str, ...] = ()
    pass_on: bool = False


def is_table(uri: str) -> bool:
    """Whether a file is one that photos are read from, told by its name."""
    return posixpath.splitext(uri)[1].lower() in TABLE_SUFFIXES


def kind_of_column(schema: pa.Schema, column: PhotoColumn) -> str:
    """bytes or uri. ImageError for a column that is not there, there twice, or of another type."""
    found = [field for field in schema if field.name == column.name]
    if len(found) != 1:
        have = ", ".join(schema.names[:20])
        raise ImageError(f"{'no' if not found else 'more than one'} column {column.name!r}: it has {have} (--column)")
    kind = found[0].type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_uri = _is_text(kind)
    if not is_uri and not _is_binary(kind) and not _is_picture(kind):
        raise ImageError(f"column {column.name!r} is of {kind}: bytes, {{bytes, path}}, paths or URIs are wanted")
    told = "uri" if is_uri else "bytes"
    if column.kind and column.kind != told:
        raise ImageError(f"column {column.name!r} is of {kind}, which --kind {column.kind} is not for")
    return told


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_picture(kind: pa.DataType) -> bool:
    """Whether it is Hugging Face's struct."""
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    return _is_binary(kind.field("bytes").type)


def other_columns(schema: pa.Schema, column: PhotoColumn) -> list[str]:
    """The columns that go with the photos: all but the photos' own, those dropped, and what mien said before.

    ImageError for one that may hold pictures, which nobody would look for faces in.
    """
    again = bool((schema.metadata or {}).get(PHOTO_COLUMN))
    kept = [
        field
        for field in schema
        if field.name != column.name
        and not is_dropped(field.name, column.dropped)
        and not (again and field.name == MIEN)
    ]
    for field in kept:
        if field.name == MIEN:
            raise ImageError(f"its column {MIEN!r} has mien's own name: leave it out with --drop-members {MIEN}")
        if _may_hold_pictures(field.type):
            raise ImageError(
                f"its column {field.name!r} is of {field.type} and may hold pictures:"
                f" leave it out with --drop-members {field.name}"
            )
    names = [field.name for field in kept]
    if len(set(names)) < len(names):
        raise ImageError("two of its columns have the same name")
    return names


def _may_hold_pictures(kind: pa.DataType, depth: int = 0) -> bool:
    """Whether a value may be a file's bytes, or an array of pixels: numbers in two dimensions, or small ones in one."""
    if isinstance(kind, pa.ExtensionType):
        return _may_hold_pictures(kind.storage_type, depth)
    if pa.types.is_dictionary(kind):
        return _may_hold_pictures(kind.value_type, depth)
    if pa.types.is_map(kind):
        return any(_may_hold_pictures(part, depth) for part in (kind.key_type, kind.item_type))
    if pa.types.is_struct(kind):
        return any(_may_hold_pictures(kind.field(i).type, depth) for i in range(kind.num_fields))
    if pa.types.is_nested(kind):
        return not hasattr(kind, "value_type") or _may_hold_pictures(kind.value_type, depth + 1)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return depth > 1 or (depth == 1 and kind.bit_width == 8)
    return not (
        _is_text(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_temporal(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    )


def read_csv(uri: str) -> pa.Table:
    """A CSV file, every column as text, so that each value is passed on as it stands. ValueError for one that is none,
    ImageError for one over MAX_CSV."""
    size = (stat_file(uri) or (0, 0.0))[0]
    if size > MAX_CSV:
        raise ImageError(f"{size} bytes, over the limit of {MAX_CSV} for CSV: write it as Parquet")
    with arrow_errors():
        lines = pc.ParseOptions(newlines_in_values=True)
        with _opened(uri) as stream, pc.open_csv(stream, parse_options=lines) as reader:
            names = reader.schema.names
        if len(set(names)) < len(names):
            raise ImageError("two of its columns have the same name")
        texts = pc.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        with _opened(uri) as stream:
            return pc.read_csv(stream, parse_options=lines, convert_options=texts)


def _opened(uri: str) -> BinaryIO:
    stream: BinaryIO = FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED)
    return stream


def list_rows(table: ListedFile, column: PhotoColumn) -> Iterator[ListedFile | Failure]:
    """The photos of a table as files below it, TABLE/ROW, rows counted from 0. Of a path or URI, which may be relative
    to the table's folder, the size is its file's, and the time the later one of the file's and the table's.

    A Failure, one each: a row without a path, or whose file is not there; the table that cannot be read, lacks the
    column, or has other columns that cannot go on.
    """
    try:
        if not is_table(table.uri):
            raise ImageError(f"no table: {' or '.join(sorted(TABLE_SUFFIXES))} is wanted with --column")
        if table.uri.lower().endswith(CSV):
            whole = read_csv(table.uri)
            _check(whole.schema, column)
            for start in range(0, whole.num_rows, _CSV_GROUP):
                values = whole.column(column.name).slice(start, _CSV_GROUP).to_pylist()
                yield from _of_paths(table, column, values, start, start // _CSV_GROUP)
            return
        with _opened(table.uri) as stream:
            parquet = open_table(stream)
            kind = _check(parquet.schema_arrow, column)
            start = 0
            for group in range(parquet.num_row_groups):
                count = parquet.metadata.row_group(group).num_rows
                if kind == "uri":
                    with arrow_errors():
                        values = parquet.read_row_group(group, [column.name]).column(column.name).to_pylist()
                    yield from _of_paths(table, column, values, start, group)
                else:
                    for row in range(start, start + count):
                        yield _row(table, column, row, group)
                start += count
    except Exception as error:
        yield failure_of(table.uri, "list", error)


def _check(schema: pa.Schema, column: PhotoColumn) -> str:
    kind = kind_of_column(schema, column)
    if column.pass_on:
        other_columns(schema, column)
    return kind


def _row(table: ListedFile, column: PhotoColumn, row: int, group: int) -> ListedFile:
    return ListedFile(
        join(table.uri, str(row)),
        f"{table.name}/{row:07d}",
        0,
        table.modified,
        shard=table.uri,
        start=row,
        column=column.name,
        group=group,
    )


def _of_paths(
    table: ListedFile, column: PhotoColumn, values: Collection[Any], start: int, group: int
) -> Iterator[ListedFile | Failure]:
    for row, value in enumerate(values, start):
        uri = join(table.uri, str(row))
        try:
            path = photo_path(table.uri, value)
            found = stat_file(path)
            if found is None:
                raise ImageError(f"{path}: no such file")
        except Exception as error:
            yield failure_of(uri, "list", error)
            continue
        listed = _row(table, column, row, group)
        yield listed.at(path, found[0], max(found[1], table.modified))


def photo_path(table: str, value: object) -> str:
    """The path or URI that a row names. ImageError for none, and for one that nothing is read from."""
    if not isinstance(value, str) or not value.strip():
        raise ImageError("the row names no file: its value is null or empty")
    path = normal_uri(value if not is_local(value) or value.startswith("/") else join(table.rpartition("/")[0], value))
    if reason := not_for_photos(path):
        raise ImageError(f"{value}: {reason}")
    return path


class RowReader:
    """Reads the pictures of a table's rows; those of one row group in their order, each once."""

    def __init__(self) -> None:
        self._at: tuple[str, str, int] = ("", "", -1)
        self._stream: BinaryIO | None = None
        self._rows: Iterator[Any] = iter(())
        self._next = 0

    def read(self, file: ListedFile, max_bytes: int) -> bytes | str:
        """The picture's bytes, or the path of its file, where the row has no bytes but names one.

        ImageError for a row without a picture, a table that ends before it or is not the one that was listed,
        ImageTooLargeError over max_bytes.
        """
        value = self._value(file)
        if isinstance(value, dict):
            data, path = value.get("bytes"), value.get("path")
            value = photo_path(file.shard, path) if data is None and path else data
        if value is None:
            raise ImageError(f"row {file.start} has no picture: column {file.column!r} is null there")
        if isinstance(value, bytes) and len(value) > max_bytes:
            raise ImageTooLargeError(f"{len(value)} bytes, over the limit of {max_bytes} (--max-bytes)")
        return value

    def close(self) -> None:
        """Closes the table."""
        if self._stream is not None:
            self._stream.close()
        self._at, self._stream, self._rows = ("", "", -1), None, iter(())

    def _value(self, file: ListedFile) -> Any:
        try:
            if self._at != (file.shard, file.column, file.group) or self._next > file.start:
                self._open(file)
            with arrow_errors():
                while self._next < file.start:
                    next(self._rows)
                    self._next += 1
                value = next(self._rows)
                self._next += 1
            if is_local(file.shard):
                check_unchanged(file)
            return value
        except StopIteration:
            self.close()
            raise ImageError("the table ends before this row") from None
        except BaseException:
            self.close()
            raise

    def _open(self, file: ListedFile) -> None:
        self.close()
        check_unchanged(file)
        self._stream = _opened(file.shard)
        table = open_table(self._stream)
        self._rows = _values(table, file.group, file.column)
        self._next = sum(table.metadata.row_group(group).num_rows for group in range(file.group))
        self._at = file.shard, file.column, file.group


def _values(table: pq.ParquetFile, group: int, column: str) -> Iterator[Any]:
    # a struct is read by one of its leaves, and then whole
    for batch in table.iter_batches(_AT_ONCE, row_groups=[group], columns=[column]):
        yield from batch.column(batch.schema.get_field_index(column)).to_pylist()


class OtherColumns:
    """Reads what a table's rows hold beside their pictures; the last row group stays, for the next row of it."""

    def __init__(self, column: PhotoColumn) -> None:
        self._column = column
        self._at: tuple[str, int] = ("", -1)
        self._start = 0
        self._table: pa.Table | None = None
        self.schema: pa.Schema | None = None

    def row(self, file: ListedFile) -> pa.Table:
        """The other columns of the row that a photo came from, one row, and in the photo's own what it names as its
        path, where it does; after it schema is the table's own.

        ImageError for a table that is not the one that was listed, or that cannot go on.
        """
        whole = file.shard.lower().endswith(CSV)
        at = file.shard, 0 if whole else file.group
        if self._table is None or self._at != at:
            self._table = None
            check_unchanged(file)
            self._read(file, whole)
            self._at = at
        assert self._table is not None
        return self._table.take(pa.array([file.start - self._start]))

    def _read(self, file: ListedFile, whole: bool) -> None:
        if whole:
            table = read_csv(file.shard)
            self.schema, self._start = table.schema, 0
            self._table = table.select([*other_columns(table.schema, self._column), self._column.name])
            return
        with _opened(file.shard) as stream, arrow_errors():
            parquet = open_table(stream)
            self.schema = parquet.schema_arrow
            names = [*other_columns(self.schema, self._column), *_path_column(self.schema, self._column)]
            self._start = sum(parquet.metadata.row_group(group).num_rows for group in range(file.group))
            rows = parquet.metadata.row_group(file.group).num_rows
            # of no column pyarrow would read no row; a column without a name is passed over
            self._table = parquet.read_row_group(file.group, names) if names else pa.table({"": pa.nulls(rows)})


def _path_column(schema: pa.Schema, column: PhotoColumn) -> list[str]:
    """The leaf that holds a path, in the photos' column or beside their bytes."""
    if kind_of_column(schema, column) == "uri":
        return [column.name]
    kind = schema.field(column.name).type
    return [f"{column.name}.path"] if pa.types.is_struct(kind) and kind.get_field_index("path") >= 0 else []
