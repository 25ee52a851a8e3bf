"""Whole files or none: what is written under a name is complete, and nothing of another's is overwritten."""

import contextlib
import json
import os
import posixpath
import shutil
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from mien.transforms.stores.breaker import patience
from mien.transforms.stores.names import is_local, join


def read_bytes(path: str) -> bytes:
    """A whole file through Beam's FileSystems, never unpacked by its suffix."""
    with patience(path), FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        data: bytes = stream.read()
    return data


def parse_json(text: bytes | str) -> Any:
    """What a JSON text that others may have written says. ValueError for what is none, or is nested too deep."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deep") from error


def exists(path: str) -> bool:
    """Whether there is such a file."""
    with patience(path):
        return bool(FileSystems.exists(path))


def create(path: str) -> BinaryIO:
    """A stream that writes to path, folders made as needed; never packed by its suffix."""
    stream: BinaryIO = FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return stream


def write_whole(path: str, data: bytes) -> None:
    """Writes a file such that a reader sees all of it or none; one that is there is replaced."""
    if not is_local(path):  # an object appears when its upload is complete
        with patience(path), create(path) as stream:
            stream.write(data)
        return
    # a name of its own, since the file's may already be as long as the file system allows
    part = posixpath.join(posixpath.dirname(path), f".mien-part-{uuid.uuid4().hex}")
    with replacing(path, part), create(part) as stream:
        stream.write(data)


@contextlib.contextmanager
def replacing(path: str, part: str) -> Iterator[None]:
    """At the end the file part, written meanwhile, takes the place of path; after an exception it is deleted."""
    try:
        yield
        FileSystems.rename([part], [path])
    except BaseException:
        delete(part)
        raise


def delete(path: str) -> None:
    """Deletes a file, or a local folder with all in it, if it is there and can be."""
    with contextlib.suppress(Exception):
        if not is_local(path):
            with patience(path):
                FileSystems.delete([path])
        elif os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def files_named(folder: str, prefix: str, suffix: str) -> list[str]:
    """Paths of the files directly in the folder whose names start and end so, sorted; none if there is no folder."""
    if is_local(folder):
        names = os.listdir(folder) if os.path.isdir(folder) else []
        return sorted(join(folder, name) for name in names if name.startswith(prefix) and name.endswith(suffix))
    start = join(folder, prefix)
    with patience(folder):
        found = [file.path for file in FileSystems.get_filesystem(folder)._list(start)]
    return sorted(path for path in found if path.endswith(suffix) and "/" not in path[len(start) :])
