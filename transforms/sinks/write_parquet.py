"""Coded photos as Parquet tables, a row each, that count for no reader before all of a run are whole."""

import functools

from mien.transforms.elements import CodedPhoto
from mien.transforms.formats import PARQUET, ROW_GROUP_BYTES, TableWriter, row_digest
from mien.transforms.sinks.write_parts import Format, Packed, WriteParts


def pack_row(photo: CodedPhoto) -> Packed:
    """The photo with about the bytes that its row will have."""
    size = len(photo.background) + sum(len(face.payload) for face in photo.faces)
    return Packed(photo, size, row_digest(photo))


class WriteParquet(WriteParts):
    """CodedPhoto -> Parquet files `photos-RUN-*.parquet` in the output folder or URI, which count when all are written.

    row_group_bytes: about how much a row group holds. The others, and the result, as in WriteParts.
    """

    def __init__(
        self,
        output: str,
        run_id: str = "",
        row_group_bytes: int = ROW_GROUP_BYTES,
        commits: bool = True,
        withdraw: bool = False,
    ) -> None:
        writer = functools.partial(TableWriter, row_group_bytes=row_group_bytes)
        super().__init__(output, Format(PARQUET, pack_row, writer), run_id, commits, withdraw)
