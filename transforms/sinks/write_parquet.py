"""Coded photos as Parquet tables, a row each, that count for no reader before all of a run are whole."""

import functools

from mien.transforms.elements import CodedPhoto
from mien.transforms.formats import PARQUET, ROW_GROUP_BYTES, CodedRow, PhotoColumn, RowMaker, TableWriter, row_digest
from mien.transforms.sinks.write_parts import Format, Packed, WriteParts


class PackCoded:
    """Photos to rows, with about the bytes that each will have. column: as in WriteParquet. Raises ImageError."""

    def __init__(self, column: PhotoColumn | None = None) -> None:
        self._maker = RowMaker(column) if column else None

    def __call__(self, photo: CodedPhoto) -> Packed:
        beside = self._maker.beside(photo.origin) if self._maker else None
        size = len(photo.background) + sum(len(face.payload) for face in photo.faces)
        return Packed(CodedRow(photo, beside), size + (0 if beside is None else beside.nbytes), row_digest(photo))


class WriteParquet(WriteParts):
    """CodedPhoto -> Parquet files `photos-RUN-*.parquet` in the output folder or URI, which count when all are written.

    row_group_bytes: about how much a row group holds. column: of the tables that the photos came in, as they were
    listed by; the rows' other columns then go on, in the struct `row`. The others, and the result, as in WriteParts.
    """

    def __init__(
        self,
        output: str,
        run_id: str = "",
        row_group_bytes: int = ROW_GROUP_BYTES,
        commits: bool = True,
        withdraw: bool = False,
        column: PhotoColumn | None = None,
    ) -> None:
        writer = functools.partial(TableWriter, row_group_bytes=row_group_bytes)
        super().__init__(output, Format(PARQUET, PackCoded(column), writer), run_id, commits, withdraw)
