"""WebDataset shards as inputs: the members of a tar, found by their headers alone and each read where it lies.

Nothing is ever unpacked, so a member's name is a name and no place. A shard is listed before it is read, so that each
of its photos is a file of its own to all that follows: to resuming, to failures, and to the workers that share it.
"""

import contextlib
import os
import posixpath
import re
import stat
import tarfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any, BinaryIO

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from mien.models.errors import ImageError, ImageTooLargeError
from mien.transforms.elements import Failure, ListedFile
from mien.transforms.stores import is_local, join, safe_name
from mien.transforms.workers import failure_of

SHARD = ".tar"
_HEADER_BYTES = 1_000_000  # of one member's headers; a long name takes some hundred
_GLOBAL_HEADERS = 100  # records that are to hold for all members after them; git writes one
_LONG_NUMBER = re.compile(rb"[0-9]{257}")  # in a header; tarfile takes quadratic time on them (CVE-2024-6232)
_MOST = 2**63 - 1  # of a size or offset; no larger one can be sought, nor be sent to a worker
_BLOCK = 512
KINDS = 30  # of suffixes that are told apart where files are passed over; further ones are counted together
# how what packs a tar begins
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_NEAR = 16_000_000  # bytes of a shard that are read together; what Beam asks a store for at once


class _Headers:
    """What tarfile reads headers from; it would hold one of any size that a hostile file gives it, and a negative size
    would be all the rest of the file."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.left = _HEADER_BYTES

    def read(self, size: int) -> bytes:
        if size < 0:
            raise tarfile.ReadError(f"damaged: a header of {size} bytes")
        self.left -= size
        if self.left < 0:
            raise tarfile.ReadError(f"a header of more than {_HEADER_BYTES} bytes")
        data = self._stream.read(size)
        if size > _BLOCK and _LONG_NUMBER.search(data):
            raise tarfile.ReadError("damaged: a header with a number of more than 256 digits")
        return data

    def seek(self, position: int) -> int:
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()


def is_shard(uri: str) -> bool:
    """Whether a file is one, told by its name."""
    return posixpath.splitext(uri)[1].lower() == SHARD


def kind_of(suffix: str, counts: Counter[str]) -> str:
    """What a file that is passed over is counted as: its suffix, if it is an ordinary one of the first KINDS."""
    if not suffix:
        return "without suffix"
    told = re.fullmatch(r"\.[a-z0-9_-]{1,15}", suffix) and (suffix in counts or len(counts) < KINDS)
    return suffix if told else "of other names"


def open_shard(uri: str) -> BinaryIO:
    """A shard to read and seek in. ImageError for a device or pipe."""
    if is_local(uri) and not stat.S_ISREG(os.stat(uri).st_mode):
        raise ImageError("not a regular file")
    stream: BinaryIO = FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED)
    return stream


def members(stream: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The members of a tar, read and held one at a time; between two of them the stream may be moved. The bytes of a
    plain one (is_plain) lie within its own blocks, and no number of any is negative or over 2**63 - 1.

    Raises tarfile.TarError for what is no tar, is damaged, or ends before its end mark, once all before that is out;
    ImageError for one that is compressed.
    """
    start = stream.read(6)
    stream.seek(0)
    for sign, packer in _PACKED.items():
        if start.startswith(sign):
            raise ImageError(f"it is compressed ({packer}): its photos can be read once it is unpacked")
    headers: Any = _Headers(stream)
    with _damage_at(0):  # the first header is read here
        tar: Any = tarfile.TarFile(fileobj=headers, encoding="utf-8")
    end = 0
    while True:
        headers.left = _HEADER_BYTES
        with _damage_at(end):
            member = tar.next()
        tar.members.clear()
        if member is None:
            break
        if len(tar.pax_headers) > _GLOBAL_HEADERS:
            raise tarfile.ReadError(f"more than {_GLOBAL_HEADERS} global headers at byte {end}")
        _check_range(member, end, tar.offset)
        end = tar.offset
        yield member
    stream.seek(tar.offset)  # tarfile takes anything that is no header for the end
    mark = stream.read(_BLOCK)
    if any(mark):
        raise tarfile.ReadError(f"damaged: no member and no end mark at byte {tar.offset}")
    if len(mark) < _BLOCK:
        raise tarfile.ReadError(f"cut off: no end mark at byte {tar.offset}")


@contextlib.contextmanager
def _damage_at(byte: int) -> Iterator[None]:
    """tarfile.ReadError for what else tarfile raises of a damaged header."""
    try:
        yield
    except (ArithmeticError, LookupError, RecursionError, ValueError) as error:
        raise tarfile.ReadError(f"damaged: a header that cannot be read at byte {byte}") from error


def _check_range(member: tarfile.TarInfo, start: int, end: int) -> None:
    """tarfile.ReadError for a member between these bytes, with its headers, whose size or place cannot be.

    A size may be told in octal, in binary (negative too), and by a PAX header of its own or of all members.
    """
    possible = start < end <= _MOST and start <= member.offset_data <= end and 0 <= member.size <= _MOST
    if not possible or (is_plain(member) and member.offset_data + member.size > end):
        raise tarfile.ReadError(f"damaged: the member at byte {start} has no size that can be")


def is_plain(member: tarfile.TarInfo) -> bool:
    """Whether the member is a file whose bytes lie in the tar as they are: no link, no device, nothing sparse."""
    return member.isreg() and not member.issparse()


def list_members(
    shard: ListedFile, suffixes: Collection[str], counts: Counter[str] | None = None
) -> Iterator[ListedFile | Failure]:
    """The photos of a shard as files below it, SHARD/MEMBER, of the shard's time; suffixes: theirs, in small letters.
    counts: is added to, by their suffix, how many other members there are, but for the JSON beside a photo.

    A photo that is a link, or the second of its name, is a Failure, and so is the shard where it is cut or damaged.
    Holds the names of a shard, and no data.
    """
    seen: set[str] = set()
    try:
        with open_shard(shard.uri) as stream:
            for member in members(stream):
                name = member.name
                while name.startswith("./"):
                    name = name[2:].lstrip("/")
                suffix = posixpath.splitext(name)[1].lower()
                if member.isdir() or suffix not in suffixes:
                    if counts is not None and not member.isdir() and suffix != ".json":
                        counts[kind_of(suffix, counts)] += 1
                    continue
                uri = join(shard.uri, name)
                if name in seen:
                    yield failure_of(uri, "list", ImageError("the shard has a photo of that name before it"))
                elif not is_plain(member):
                    yield failure_of(uri, "list", ImageError("a link or another special member, which is not followed"))
                else:
                    own = safe_name(f"{shard.name}/{name}")
                    start = member.offset_data
                    yield ListedFile(uri, own, member.size, shard.modified, shard=shard.uri, start=start)
                seen.add(name)
    except Exception as error:
        yield failure_of(shard.uri, "list", error)


class MemberReader:
    """Reads photos out of shards; the last shard stays open, so that its next photo may come from the same request."""

    def __init__(self) -> None:
        self._uri = ""
        self._stream: BinaryIO | None = None

    def read(self, file: ListedFile, max_bytes: int) -> bytes:
        """The photo's bytes. ImageTooLargeError over max_bytes, before any is read; ImageError for a shard that ends
        within it, or that is not the one that was listed."""
        if file.size > max_bytes:
            raise ImageTooLargeError(f"{file.size} bytes, over the limit of {max_bytes} (--max-bytes)")
        return self._read(file, file.start, file.size)

    def others(self, file: ListedFile) -> list[tuple[str, bytes]]:
        """Name and bytes of each other member of the photo's sample. Raises ImageError as read() does."""
        return [(member.name, self._read(file, member.start, member.size)) for member in file.members]

    def _read(self, file: ListedFile, start: int, size: int) -> bytes:
        try:
            stream = self._opened(file)
            stream.seek(start)
            data = stream.read(size)
            if is_local(file.shard):
                check_unchanged(file)
        except BaseException:
            self.close()
            raise
        if len(data) < size:
            raise ImageError(f"the shard ends within it: {len(data)} of {size} bytes are there")
        return data

    def close(self) -> None:
        """Closes the shard."""
        if self._stream is not None:
            self._stream.close()
        self._uri, self._stream = "", None

    def _opened(self, file: ListedFile) -> BinaryIO:
        if self._stream is None or self._uri != file.shard:
            self.close()
            check_unchanged(file)
            self._uri, self._stream = file.shard, open_shard(file.shard)
        return self._stream


def check_unchanged(file: ListedFile) -> None:
    """ImageError for a photo whose shard or table is not the one that was listed."""
    now = FileSystems.get_filesystem(file.shard).metadata(file.shard).last_updated_in_seconds
    if (
        abs(now - file.modified) >= 1 if not is_local(file.shard) else now != file.modified
    ):  # some stores list in seconds
        raise ImageError(f"its {'table' if file.column else 'shard'} changed after it was listed")


class Colocate(beam.PTransform):
    """ListedFile -> the same, those that lie near each other in a shard of a store, or in a row group of a table, one
    after the other.

    A store is asked for many bytes at once, so that a reader (MemberReader) which keeps the shard open asks once for
    all of these. On this machine's disks there is nothing to gain.
    """

    def expand(self, files: beam.PCollection) -> beam.PCollection:
        alone = files | "Alone" >> beam.Filter(lambda file: not _is_near(file))
        near = (
            files
            | "InShards" >> beam.Filter(_is_near)
            | "Near" >> beam.Map(_place).with_output_types(tuple[tuple[str, int], ListedFile])
            | beam.GroupByKey()
            | "InOrder" >> beam.FlatMap(_in_order).with_output_types(ListedFile)
        )
        return (alone, near) | beam.Flatten()


def _is_near(file: ListedFile) -> bool:
    return bool(file.column) or (bool(file.shard) and not is_local(file.shard))


def _place(file: ListedFile) -> tuple[tuple[str, int], ListedFile]:
    return (file.shard, file.group if file.column else file.start // _NEAR), file


def _in_order(group: tuple[tuple[str, int], Iterable[ListedFile]]) -> list[ListedFile]:
    return sorted(group[1], key=lambda file: file.start)
