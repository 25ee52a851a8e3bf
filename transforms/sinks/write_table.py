"""Safe photos as Parquet tables of the columns that they came with, which count when all of a run are whole."""

import hashlib

from mien.transforms.elements import SafePhoto
from mien.transforms.formats import PARQUET, PhotoColumn, RowMaker, RowsWriter
from mien.transforms.sinks.write_parts import Format, Packed, WriteParts


class PackRow:
    """Safe photos to rows, see RowMaker. Raises ImageError."""

    def __init__(self, column: PhotoColumn, record_uris: bool = False) -> None:
        self._maker = RowMaker(column, record_uris)

    def __call__(self, photo: SafePhoto) -> Packed:
        row = self._maker.row(photo)
        return Packed(row, row.nbytes, hashlib.sha256(photo.data).hexdigest())


class WriteTable(WriteParts):
    """SafePhoto of a table's row -> Parquet files `photos-RUN-*.parquet` in the output folder or URI, which count when
    all are written: the row's other columns as they were, the safe photo in its column, and the column `mien`.

    column: as the photos were listed by. A file has rows of one schema. record_uris: as in WriteWebDataset. The others,
    and the result, as in WriteParts.
    """

    def __init__(
        self,
        output: str,
        column: PhotoColumn,
        run_id: str = "",
        commits: bool = True,
        withdraw: bool = False,
        record_uris: bool = False,
    ) -> None:
        super().__init__(output, Format(PARQUET, PackRow(column, record_uris), RowsWriter), run_id, commits, withdraw)
