"""Whole files or none: what is written under a name is complete, and nothing of another's is overwritten."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from typing import Any, BinaryIO

import fsspec
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from mien.transforms.stores.breaker import circuit_breaker
from mien.transforms.stores.local import PART, whole_local_file
from mien.transforms.stores.names import is_local, is_safe_name, join, normal_uri

_BLOCK = 1 << 20  # bytes that are hashed at once


def read_start(uri: str, limit: int) -> bytes:
    """The first bytes of a file, at most so many: of a path, which may be a pipe's, or of any fsspec URI."""
    path = normal_uri(uri)
    with open(path, "rb") if is_local(path) else fsspec.open(uri, "rb") as stream:
        data: bytes = stream.read(limit)
    return data


def read_bytes(path: str, most: int | None = None) -> bytes:
    """A whole file through Beam's FileSystems, never unpacked by its suffix. ValueError for one of more than `most`
    bytes."""
    with circuit_breaker(path), FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        data: bytes = stream.read() if most is None else stream.read(most + 1)
    if most is not None and len(data) > most:
        raise ValueError(f"{path}: over {most} bytes")
    return data


def parse_json(text: bytes | str) -> Any:
    """What a JSON text that others may have written says. ValueError for what is none, or is nested too deep."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deep") from error


def lines_of(stream: BinaryIO, most: int) -> Iterator[bytes]:
    """The lines of a stream; nothing, b"", in place of one of more than `most` bytes, which is never held whole."""
    while line := stream.readline(most + 1):
        if len(line) <= most:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(most + 1)
        yield b""


def stat_file(path: str) -> tuple[int, float] | None:
    """A file's bytes and when it was last changed (Unix seconds); None where there is none."""
    with circuit_breaker(path):
        try:
            found = FileSystems.get_filesystem(path).metadata(path)
        except Exception:  # every store has errors of its own
            if exists(path):
                raise
            return None
    return found.size_in_bytes, found.last_updated_in_seconds


def is_intact(path: str, size: int, modified: float, sha256: str, check: bool = False) -> bool:
    """Whether a file is as it was written: of this size (bytes) and time (Unix seconds), or, where the time is another,
    of this sha256.

    check: the sha256 is looked at in any case.
    """
    found = stat_file(path)
    if found is None or found[0] != size:
        return False
    return (found[1] == modified and not check) or sha256_of(path) == sha256


def sha256_of(path: str) -> str:
    """The sha256 of a file, as hex digits; its bytes are never held together."""
    digest = hashlib.sha256()
    with circuit_breaker(path), FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def exists(path: str) -> bool:
    """Whether there is such a file."""
    with circuit_breaker(path):
        return bool(FileSystems.exists(path))


def create(path: str) -> BinaryIO:
    """A stream that writes to path, folders made as needed; never packed by its suffix."""
    stream: BinaryIO = FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return stream


def write_whole(path: str, data: bytes) -> None:
    """Writes a file such that a reader sees all of it or none; one that is there is replaced."""
    if is_local(path):
        with whole_local_file(path) as stream:
            stream.write(data)
    else:  # an object appears when its upload is complete
        with circuit_breaker(path), create(path) as stream:
            stream.write(data)


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """A stream to a file that appears under its name at the end of the `with`; one that is there is replaced. After an
    exception it is as it was before."""
    if is_local(path):
        with whole_local_file(path) as stream:
            yield stream
        return
    folder, _, name = path.rpartition("/")
    part = join(folder, f"{PART}{name}")  # the same at a second try, which so replaces what the first has left
    with circuit_breaker(path):
        try:
            with create(part) as stream:
                yield stream
            FileSystems.rename([part], [path])
        except BaseException:
            delete(part)
            raise


def delete(path: str) -> None:
    """Deletes a file, or a local folder with all in it, if it is there and can be."""
    with contextlib.suppress(Exception):
        if not is_local(path):
            with circuit_breaker(path):
                FileSystems.delete([path])
        elif os.path.isdir(path):
            shutil.rmtree(path.rstrip("/"))  # with a slash behind it a link's folder would be emptied
        else:
            os.unlink(path)


def delete_inside(folder: str, name: str) -> bool:
    """Deletes a file that a record names; whether it was there. OSError or a store's error where it cannot be deleted.

    Records may be anybody's: a name that does not stay below the folder, also by a link in it, is passed over, and so
    is a folder.
    """
    if not is_safe_name(name):
        return False
    path = join(folder, name)
    if not is_local(path):
        found = exists(path)
        if found:
            with circuit_breaker(path):
                FileSystems.delete([path])
        return found
    root, parent = os.path.realpath(folder), os.path.realpath(os.path.dirname(path))
    if not f"{parent}/".startswith(f"{root.rstrip('/')}/") or (os.path.isdir(path) and not os.path.islink(path)):
        return False
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def files_named(folder: str, prefix: str, suffix: str) -> list[str]:
    """Paths of the files directly in the folder whose names start and end so, sorted; none if there is no folder."""
    if is_local(folder):
        names = os.listdir(folder) if os.path.isdir(folder) else []
        return sorted(join(folder, name) for name in names if name.startswith(prefix) and name.endswith(suffix))
    start = join(folder, prefix)
    with circuit_breaker(folder):
        found = [file.path for file in FileSystems.get_filesystem(folder)._list(start)]
    return sorted(path for path in found if path.endswith(suffix) and "/" not in path[len(start) :])
