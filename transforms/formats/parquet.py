"""The table of coded photos: its schema, a row's way there and back, and a file of rows as it grows or loses some."""

import contextlib
import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from mien.models.faces import snap_transform
from mien.transforms.elements import CodedFace, CodedPhoto, ListedFile
from mien.transforms.stores import create, key_of, name_under, parse_json

PARQUET = ".parquet"
ROW_GROUP_BYTES = 64_000_000
MAX_GROUP_BYTES = 2_000_000_000  # unpacked, of a row group that is read: parts of it are held at once
_FACE = pa.struct(
    [
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("w", pa.float32()),
        ("h", pa.float32()),
        ("transform", pa.list_(pa.float32())),
        ("action", pa.string()),
        ("rule", pa.string()),
        ("model", pa.string()),
        ("payload", pa.binary()),
        ("score", pa.float32()),
    ]
)
SCHEMA = pa.schema(
    [
        ("uri", pa.string()),
        ("source_bytes", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("background", pa.binary()),
        ("background_codec", pa.string()),
        ("faces", pa.list_(_FACE)),
        ("policy", pa.string()),
        ("version", pa.string()),
    ]
)
# a value's type in Python, by the id of its column's
_PYTHON: dict[int, Any] = {pa.lib.Type_INT32: int, pa.lib.Type_INT64: int, pa.lib.Type_FLOAT: (float, int)}
_PYTHON |= {pa.lib.Type_STRING: str, pa.lib.Type_BINARY: bytes, pa.lib.Type_LIST: list}
# Beside the columns: the folder that the uris have in common, below which `mien restore` rebuilds the tree.
ROOT_KEY = b"mien.root"
# Of a table of safe photos among the columns they came with: the photos' column, and the one that says what was done.
PHOTO_COLUMN = b"mien.column"
MIEN = "mien"
BESIDE = "row"  # of a table of coded photos, the column with what was beside them in the tables that they came in
OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "write_statistics": ["uri", "source_bytes", "width", "height"],
    "use_dictionary": ["background_codec", "policy", "version"],
}


def row_of(photo: CodedPhoto) -> dict[str, Any]:
    """A photo as a row of SCHEMA."""
    return {
        **{name: getattr(photo, name) for name in SCHEMA.names if name != "faces"},
        "faces": [
            {
                **dict(zip("xywh", face.box, strict=True)),
                **{name: getattr(face, name) for name in ("action", "rule", "model", "payload", "score")},
                "transform": list(face.transform),
            }
            for face in photo.faces
        ],
    }


def row_digest(photo: CodedPhoto) -> str:
    """The sha256 of a row's background and, behind it, of its faces' payloads."""
    return _digest(photo.background, (face.payload for face in photo.faces))


def _digest(background: bytes, payloads: Iterable[bytes]) -> str:
    digest = hashlib.sha256(background)
    for payload in payloads:
        digest.update(payload)
    return digest.hexdigest()


def photo_of(row: dict[str, Any], root: str, origin: ListedFile) -> CodedPhoto:
    """A row as a photo. Raises ValueError for one that no photo can be made of; its uri may say anything."""
    _check_types(row, SCHEMA)
    fields = {name: row[name] for name in SCHEMA.names if name != "faces"}
    return CodedPhoto(
        **fields, faces=tuple(_face_of(face) for face in row["faces"]), name=name_under(root, row["uri"]), origin=origin
    )


def _check_types(row: object, fields: Iterable[pa.Field]) -> None:
    """ValueError for what is no row, lacks one of the fields, or has one of another type, which another wrote."""
    for field in fields:
        value = row.get(field.name) if isinstance(row, dict) else None
        if not isinstance(value, _PYTHON[field.type.id]):
            raise ValueError(f"a row or face whose {field.name} is missing or null, or no {field.type}")


def _face_of(face: dict[str, Any]) -> CodedFace:
    _check_types(face, _FACE)
    # float32 is finer than a transform's steps, so this is the very transform that a blob holds
    transform = tuple(snap_transform(face["transform"])) if face["transform"] else ()
    x, y, w, h = (float(face[side]) for side in "xywh")
    return CodedFace(
        (x, y, w, h), transform, face["action"], face["rule"], face["model"], face["payload"], face["score"]
    )


class CodedRow(NamedTuple):
    """A coded photo as a row. beside: of a photo that came in a table what else its row held, one struct, which becomes
    the column BESIDE."""

    photo: CodedPhoto
    beside: pa.StructArray | None = None


class TableWriter:
    """One part file as it grows: rows are held until they fill a row group. It is of use only once it is closed."""

    def __init__(self, path: str, row_group_bytes: int = ROW_GROUP_BYTES) -> None:
        self._row_group_bytes = row_group_bytes
        self._stream = create(path)
        self._writer: pq.ParquetWriter | None = None
        self._beside: pa.DataType | None = None
        self._rows: list[CodedRow] = []
        self._held = 0
        self.bytes = 0
        self._root: str | None = None

    def takes(self, row: CodedRow) -> bool:
        """Whether the row has the table's columns."""
        return self._writer is None or self._beside == (None if row.beside is None else row.beside.type)

    def add(self, row: CodedRow) -> None:
        """Takes a row; writes a row group when there is enough."""
        photo, beside = row
        if self._writer is None:
            self._begin(beside)
        size = len(photo.background) + sum(len(face.payload) + 200 for face in photo.faces) + 200
        size += 0 if beside is None else beside.nbytes
        self._rows.append(row)
        self._held += size
        self.bytes += size
        root = photo.uri.removesuffix(f"/{photo.name}") if photo.name else ""
        self._root = root if self._root in (None, root) and root != photo.uri else ""
        if self._held >= self._row_group_bytes:
            self._flush()

    def _begin(self, beside: pa.StructArray | None) -> pq.ParquetWriter:
        self._beside = None if beside is None else beside.type
        schema = SCHEMA if beside is None else SCHEMA.append(pa.field(BESIDE, self._beside))
        self._writer = pq.ParquetWriter(self._stream, schema, **OPTIONS)
        return self._writer

    def close(self) -> int:
        """Writes what is held and the footer; the file's bytes."""
        writer = self._writer or self._begin(None)
        self._flush()
        writer.add_key_value_metadata({ROOT_KEY: self._root or ""})
        writer.close()
        size = self._stream.tell()
        self._stream.close()
        return size

    def abandon(self) -> None:
        """Lets go of the file, which is not whole."""
        close_all(self._writer, self._stream)

    def _flush(self) -> None:
        if self._rows and self._writer is not None:
            table = pa.Table.from_pylist([row_of(row.photo) for row in self._rows], SCHEMA)
            if self._beside is not None:
                table = table.append_column(BESIDE, pa.chunked_array([row.beside for row in self._rows]))
            self._writer.write_table(table)
        self._rows, self._held = [], 0


def close_all(*parts: pq.ParquetWriter | BinaryIO | None) -> None:
    """Lets go of the parts of a file that is not whole, and is deleted."""
    for part in parts:
        with contextlib.suppress(Exception):  # a full disk fails again here
            if part is not None:
                part.close()


@contextlib.contextmanager
def arrow_errors() -> Iterator[None]:
    """ValueError for what pyarrow raises of a damaged table: a KeyError, a NotImplementedError, a MemoryError ..."""
    try:
        yield
    except pa.ArrowException as error:
        raise ValueError(f"a damaged table: {error}") from error


def open_table(source: BinaryIO | str) -> pq.ParquetFile:
    """A table to read. ValueError or OSError for what is none; ValueError for one with a row group of over
    MAX_GROUP_BYTES unpacked, as its footer says."""
    with arrow_errors():
        table = pq.ParquetFile(source)
    for number in range(table.metadata.num_row_groups):
        if (size := table.metadata.row_group(number).total_byte_size) > MAX_GROUP_BYTES:
            raise ValueError(
                f"a row group of {size} bytes, over the limit of {MAX_GROUP_BYTES}; write the table with smaller ones"
            )
    return table


def rows_of_table(table: pq.ParquetFile, at_once: int, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows, so many in memory at a time. ValueError or OSError where the table is damaged."""
    with arrow_errors():
        batches = table.iter_batches(at_once, columns=list(columns))
    while True:
        with arrow_errors():
            batch = next(batches, None)
            rows = batch.to_pylist() if batch else []
        if batch is None:
            return
        yield from rows


@arrow_errors()
def without_rows(part: str, uris: Collection[str], copy: str) -> tuple[int, set[str]]:
    """Writes a copy of a part without the rows of the uris; how many rows it has, and which uris the part had.

    No copy where no row would be left, or where the part has none of the uris.
    """
    with FileSystems.open(part, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        parquet = open_table(stream)
        if photo_column(parquet):
            by_id = {key_of(uri): uri for uri in uris}
            held = [by_id.get(one, "") for one in _ids(parquet)]
        else:
            held = parquet.read(columns=["uri"]).column("uri").to_pylist()
        kept = [uri not in uris for uri in held]
        if any(kept) and not all(kept):
            _copy_rows(parquet, kept, copy)
        return sum(kept), set(held).intersection(uris)


def photo_column(parquet: pq.ParquetFile) -> str:
    """The photos' column of a table of safe photos among other columns; empty for any other table."""
    return (parquet.schema_arrow.metadata or {}).get(PHOTO_COLUMN, b"").decode(errors="replace")


def _ids(parquet: pq.ParquetFile) -> Iterator[str]:
    """The id of each row's photo, key_of its uri. ValueError where there is none."""
    for row in rows_of_table(parquet, 4096, [MIEN]):
        yield _id_of(row)


def _id_of(row: dict[str, Any]) -> str:
    about = parse_json(row[MIEN]) if isinstance(row.get(MIEN), str) else None
    told = about.get("id") if isinstance(about, dict) else None
    if not isinstance(told, str):
        raise ValueError("a row without its record")
    return told


def photos_of_rows(parquet: pq.ParquetFile, column: str) -> Iterator[tuple[str, bytes]]:
    """Id and image file of each row of a table of safe photos among other columns, a few in memory at a time.

    Raises OSError or ValueError for what is damaged.
    """
    for row in rows_of_table(parquet, 8, [column, MIEN]):
        value = row.get(column)
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise ValueError("a row without its picture")
        yield _id_of(row), data


def members_of_table(part: str, digests: bool) -> Iterator[tuple[str, str]]:
    """(key_of the uri, row_digest or sha256 of the image file) of each row of a part, a few rows in memory at a time;
    without digests the uris alone are read.

    Raises OSError or ValueError for what is damaged.
    """
    with FileSystems.open(part, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        table = open_table(stream)
        if column := photo_column(table):
            if digests:
                yield from ((one, hashlib.sha256(data).hexdigest()) for one, data in photos_of_rows(table, column))
            else:
                yield from ((one, "") for one in _ids(table))
            return
        columns = ["uri", "background", "faces"] if digests else ["uri"]
        for row in rows_of_table(table, 8 if digests else 4096, columns):
            try:
                payloads = [face["payload"] for face in row["faces"]] if digests else []
                uri, digest = row["uri"], _digest(row["background"], payloads) if digests else ""
            except (KeyError, TypeError) as error:
                raise ValueError("a column of a row is missing or null") from error
            if not isinstance(uri, str):
                raise ValueError("a row without a uri")
            yield key_of(uri), digest


def _copy_rows(parquet: pq.ParquetFile, kept: list[bool], path: str) -> None:
    schema = parquet.schema_arrow
    own = photo_column(parquet)
    options = {"compression": "zstd"} if own else OPTIONS
    with (
        create(path) as stream,
        pq.ParquetWriter(stream, schema if own else schema.remove_metadata(), **options) as writer,
    ):
        start = 0
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group)
            part = table.filter(pa.array(kept[start : start + table.num_rows]))
            start += table.num_rows
            if part.num_rows:
                writer.write_table(part if own else part.replace_schema_metadata())
        writer.add_key_value_metadata({ROOT_KEY: (parquet.metadata.metadata or {}).get(ROOT_KEY, b"")})
