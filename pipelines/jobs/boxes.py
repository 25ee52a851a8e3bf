"""Boxes from a file, at the start of a job: read, and held against the photos that there are."""

import sys
from collections.abc import Iterable, Iterator, Sequence

from mien.pipelines import JobError
from mien.transforms.boxes import BoxFile
from mien.transforms.elements import Failure, ListedFile
from mien.transforms.formats import is_shard
from mien.transforms.sources import EXCLUDED, PHOTO_SUFFIXES, folder_of, list_files
from mien.transforms.stores import common_root, normal_uri, printable

_NAMED = 3  # images without a photo that are named


def box_file(uri: str | None) -> BoxFile | None:
    """What --boxes names. JobError, BoxesError."""
    if uri == "":
        raise JobError("--boxes is empty")
    return BoxFile.at(normal_uri(uri)) if uri else None


def listed_photos(
    inputs: Sequence[str], exclude: str = "", globs: Iterable[str] = EXCLUDED
) -> Iterator[ListedFile | Failure]:
    """The files that the inputs stand for. JobError for an input that cannot be listed."""
    root = common_root(folder_of(uri, PHOTO_SUFFIXES) for uri in inputs)
    for uri in inputs:
        try:
            yield from list_files(uri, root, PHOTO_SUFFIXES, exclude, globs)
        except Exception as error:  # every store has errors of its own
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise JobError(f"{uri}: {reason}") from error


def check_photos(
    boxes: BoxFile | None, inputs: Sequence[str], exclude: str = "", globs: Iterable[str] = EXCLUDED
) -> None:
    """Warns of images in the box file that are none of the photos. BoxesError for a name that two photos have.

    What shards hold is not looked at.
    """
    if boxes is None:
        return
    listed = [file for file in listed_photos(inputs, exclude, globs) if isinstance(file, ListedFile)]
    missing = boxes.check_photos((file.name, file.uri) for file in listed).names
    if missing and not any(is_shard(file.uri) for file in listed):
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        named = f"{', '.join(missing[:_NAMED])}{more}"
        print(printable(f"mien: warning: {boxes.uri}: no photo of this name: {named}"), file=sys.stderr)
