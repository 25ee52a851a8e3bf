"""A photo's bytes, wherever it is listed: a file, a member of a shard, a row of a table, or the file a row names."""

import contextlib
import os
import stat

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from mien.models.errors import ImageError, ImageTooLargeError
from mien.transforms.elements import ListedFile
from mien.transforms.formats import MemberReader, RowReader
from mien.transforms.stores import circuit_breaker, is_local, stat_file

MAX_BYTES = 200_000_000


class PhotoReader:
    """Reads photos wherever they are listed; the last shard and the last table stay open, for their next photo."""

    def __init__(self) -> None:
        self._members = MemberReader()
        self._rows = RowReader()

    def read(self, file: ListedFile, max_bytes: int) -> bytes:
        """As read_file."""
        if file.column and not file.path:
            found = self._rows.read(file, max_bytes)
            if isinstance(found, bytes):
                return found
            known = stat_file(found)
            if known is None:
                raise ImageError(f"{found}: no such file")
            file = file.at(found, *known)
        if file.path:
            return read_file(ListedFile(file.path, file.name, file.size, file.modified), max_bytes)
        return self._members.read(file, max_bytes) if file.shard else read_file(file, max_bytes)

    def others(self, file: ListedFile) -> list[tuple[str, bytes]]:
        """As MemberReader.others."""
        return self._members.others(file)

    def close(self) -> None:
        """Closes what is open."""
        self._members.close()
        self._rows.close()


def read_file(file: ListedFile, max_bytes: int = MAX_BYTES) -> bytes:
    """The file's bytes. ImageTooLargeError over max_bytes, before any is read; ImageError for a device or pipe, and for
    a local file that changes while it is read; an object of a store does not, it is replaced. Of many photos of a shard
    or table PhotoReader reads better."""
    if file.shard:
        with contextlib.closing(PhotoReader()) as reader:
            return reader.read(file, max_bytes)
    if file.size > max_bytes:
        raise ImageTooLargeError(f"{file.size} bytes, over the limit of {max_bytes} (--max-bytes)")
    before = os.stat(file.uri) if is_local(file.uri) else None
    if before and not stat.S_ISREG(before.st_mode):
        raise ImageError("not a regular file")
    with (
        circuit_breaker(file.uri),
        FileSystems.open(file.uri, compression_type=CompressionTypes.UNCOMPRESSED) as stream,
    ):
        data: bytes = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ImageTooLargeError(f"grew over the limit of {max_bytes} bytes while it was read (--max-bytes)")
    if before:
        after = os.stat(file.uri)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != after.st_size:
            raise ImageError("changed while it was read")
    return data
