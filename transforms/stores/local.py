"""Whole files or none on this machine. Without Beam, which takes seconds to load."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from typing import BinaryIO

PART = ".mien-part-"  # begins the name of a file that is not yet whole


@contextlib.contextmanager
def whole_local_file(path: str) -> Iterator[BinaryIO]:
    """A stream to a file that gets its name at the end of the `with`; folders are made as needed, a file of that name
    is replaced. After an exception the file is as it was before. OSError."""
    folder = os.path.dirname(path)
    os.makedirs(folder or ".", exist_ok=True)
    # a name of its own, since the file's may already be as long as the file system allows
    part = os.path.join(folder, f"{PART}{uuid.uuid4().hex}")
    try:
        with open(part, "wb") as stream:
            yield stream
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
