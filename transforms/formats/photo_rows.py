"""The row of a safe photo in a table of the columns it came with, and a file of such rows as it grows.

The photos' column holds the safe image file in the place of the original, as bytes or as a struct of bytes and path;
the column `mien` says as JSON what was done, as KEY.mien.json does in a shard. Its id is what tells photos apart.
"""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mien.models.errors import ImageError
from mien.transforms.elements import ListedFile, SafePhoto
from mien.transforms.formats.parquet import MIEN, PHOTO_COLUMN, ROW_GROUP_BYTES, close_all
from mien.transforms.formats.photo_tables import OtherColumns, PhotoColumn
from mien.transforms.formats.shard_samples import check_text
from mien.transforms.formats.webdataset import about_of
from mien.transforms.stores import create, key_of

_HUGGING_FACE = b"huggingface"
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


class RowMaker:
    """Safe photos to rows, one after the other; what stays with one is read out of the table it came from."""

    def __init__(self, column: PhotoColumn, record_uris: bool = False) -> None:
        self._column = column
        self._record_uris = record_uris
        self._others = OtherColumns(column)

    def row(self, photo: SafePhoto) -> pa.Table:
        """One row, whose schema says all about its table. ImageError for a photo of no table, for a table that changed
        after it was listed, and for text that may hold a picture."""
        others, paths, schema = self._read(photo.origin)
        own = self._column.name
        about = {"id": key_of(photo.uri), **about_of(photo, self._record_uris)}
        columns = {name: others.column(name) for name in others.column_names}
        columns[own] = _picture(schema.field(own).type, photo, paths)
        columns[MIEN] = pa.array([json.dumps(about, ensure_ascii=False)], pa.string())
        order = [*(name for name in schema.names if name in columns and name != MIEN), MIEN]
        table = pa.table({name: columns[name] for name in order})
        return table.replace_schema_metadata(_metadata(schema, own, order))

    def beside(self, origin: ListedFile | None) -> pa.StructArray | None:
        """What the row holds beside its picture, as one struct, with what the row names as the picture's path; None
        where that is nothing. ImageError as in row()."""
        others, paths, _ = self._read(origin)
        arrays = {name: others.column(name).combine_chunks() for name in others.column_names}
        if paths is not None:
            arrays[self._column.name] = paths
        return pa.StructArray.from_arrays(list(arrays.values()), list(arrays)) if arrays else None

    def _read(self, origin: ListedFile | None) -> tuple[pa.Table, pa.Array | None, pa.Schema]:
        """The row's other columns, the path that it names, where its table has paths, and the table's schema."""
        if origin is None or not origin.column:
            raise ImageError("the photo came from no table")
        others = self._others.row(origin)
        schema, own = self._others.schema, self._column.name
        assert schema is not None
        names = [name for name in others.column_names if name and name != own]
        for name in names:
            _check_texts(name, others.column(name)[0].as_py())
        if own not in others.column_names:
            return others.select(names), None, schema
        named = others.column(own)[0].as_py()
        path = pa.array([named["path"] if isinstance(named, dict) else named], pa.string())
        return others.select(names), path, schema


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _picture(kind: pa.DataType, photo: SafePhoto, paths: pa.Array | None) -> pa.Array:
    """The safe photo as its column has it, bytes or a struct; paths: as the row named it."""
    if _is_binary(kind):
        return pa.array([photo.data], kind)
    path = None if paths is None else paths[0].as_py()
    return pa.array([{"bytes": photo.data, "path": path}], _PICTURE)


def _check_texts(column: str, value: Any) -> None:
    """ImageError for a text, however deep, that may hold a picture."""
    if isinstance(value, str):
        check_text(column, value.encode(errors="surrogatepass"), "its column")
    elif isinstance(value, dict):
        for key, part in value.items():
            _check_texts(column, key)
            _check_texts(column, part)
    elif isinstance(value, list | tuple):
        for part in value:
            _check_texts(column, part)


def _metadata(schema: pa.Schema, column: str, names: list[str]) -> dict[bytes, bytes]:
    """What the table says of itself: the photos' column, and the features by which `datasets` reads it."""
    said = {PHOTO_COLUMN: column.encode()}
    try:
        known = json.loads((schema.metadata or {}).get(_HUGGING_FACE, b"{}"))
        features = known.get("info", {}).get("features") or {}
        kept = {name: features[name] for name in names if name in features}
    except (ValueError, AttributeError, TypeError):
        return said
    if not set(names) - {MIEN} <= kept.keys():
        kept = {}
    if kept:
        kept[MIEN] = {"dtype": "string", "_type": "Value"}
        if not _is_binary(schema.field(column).type):
            kept[column] = {"_type": "Image"}
        said[_HUGGING_FACE] = json.dumps({"info": {"features": kept}}).encode()
    return said


class RowsWriter:
    """One table as it grows: rows are held until they fill a row group. It is of use only once it is closed."""

    def __init__(self, path: str, row_group_bytes: int = ROW_GROUP_BYTES) -> None:
        self._row_group_bytes = row_group_bytes
        self._stream = create(path)
        self._writer: pq.ParquetWriter | None = None
        self._schema: pa.Schema | None = None
        self._rows: list[pa.Table] = []
        self._held = 0
        self.bytes = 0

    def takes(self, row: pa.Table) -> bool:
        """Whether the row has the table's columns."""
        return self._schema is None or self._schema.equals(row.schema, check_metadata=True)

    def add(self, row: pa.Table) -> None:
        """Takes a row; writes a row group when there is enough."""
        if self._writer is None:
            self._schema = row.schema
            column = row.schema.metadata[PHOTO_COLUMN].decode()
            texts = [name for name in row.schema.names if name not in (column, MIEN)]
            self._writer = pq.ParquetWriter(self._stream, row.schema, compression="zstd", write_statistics=texts)
        self._rows.append(row)
        self._held += row.nbytes
        self.bytes += row.nbytes
        if self._held >= self._row_group_bytes:
            self._flush()

    def close(self) -> int:
        """Writes what is held and the footer; the file's bytes."""
        self._flush()
        if self._writer is not None:
            self._writer.close()
        size = self._stream.tell()
        self._stream.close()
        return size

    def abandon(self) -> None:
        """Lets go of the file, which is not whole."""
        close_all(self._writer, self._stream)

    def _flush(self) -> None:
        if self._rows and self._writer is not None:
            self._writer.write_table(pa.concat_tables(self._rows))
        self._rows, self._held = [], 0
