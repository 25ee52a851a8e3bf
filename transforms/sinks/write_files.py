"""Coded photos as ordinary image files that carry their faces, safe and restored ones as plain image files."""

import hashlib
from collections.abc import Callable, Iterable

from apache_beam.metrics import Metrics

from mien.transforms.elements import CodedPhoto, OutputFile, Photo, PhotosAndFailures, SafePhoto, Written
from mien.transforms.formats import blob_name, blob_of, is_blob
from mien.transforms.stores import exists, join, normal_uri, read_bytes, safe_name, stat_file, write_whole
from mien.transforms.workers import (
    NAMESPACE,
    Input,
    Stage,
    StageTransform,
    as_outputs,
    by_action,
    join_failures,
    through,
)


def write_new(path: str, data: bytes, ours: Callable[[], bool]) -> str:
    """Writes the file whole; its sha256. FileExistsError for one that is there, unless ours() says that it may be
    replaced, or it is the same: then a run that was killed wrote it and could not note that."""
    if not exists(path) or ours():
        write_whole(path, data)
    elif read_bytes(path) != data:
        raise FileExistsError(f"{path} exists and is not of this job; --overwrite replaces it")
    Metrics.counter(NAMESPACE, "bytes_out").inc(len(data))
    return hashlib.sha256(data).hexdigest()


def write_output(output: str, name: str, data: bytes, ours: Callable[[], bool]) -> OutputFile:
    """A file below the output folder, as write_new writes it."""
    path = join(output, name)
    digest = write_new(path, data, ours)
    found = stat_file(path)
    if found is None:
        raise FileNotFoundError(f"{path} was deleted just after it was written")
    return OutputFile(name, found[0], found[1], digest)


class _WriteBlob(Stage):
    stage = "write"

    def __init__(self, output: str, overwrite: bool) -> None:
        self._output = output
        self._overwrite = overwrite

    def work(self, element: CodedPhoto) -> Iterable[Written]:
        name = blob_name(element)
        path = join(self._output, name)
        blob = blob_of(element)
        made = write_output(self._output, name, blob, lambda: self._overwrite or is_blob(path))
        actions = by_action(element.faces)
        yield Written(element.uri, name, element.origin, made.sha256, bytes=len(blob), actions=actions, files=(made,))


class _WritePhoto(Stage):
    stage = "write"

    def __init__(self, output: str, overwrite: bool) -> None:
        self._output = output
        self._overwrite = overwrite

    def work(self, element: Photo | SafePhoto) -> Iterable[Written]:
        name = safe_name(element.name)
        ours = self._overwrite or (element.origin is not None and element.origin.ours)
        files = []
        if isinstance(element, SafePhoto) and element.beside:  # first: where the photo is, all is
            files = [write_output(self._output, name + element.beside, element.beside_data, lambda: ours)]
        made = write_output(self._output, name, element.data, lambda: ours)
        faces = element.faces if isinstance(element, SafePhoto) else ()
        size, actions = len(element.data), by_action(faces)
        yield Written(element.uri, name, element.origin, made.sha256, faces, size, actions, files=(made, *files))


class WriteBlobs(StageTransform):
    """CodedPhoto -> one image file each below the output folder or URI, with its faces in an ancillary chunk.

    A file that is there is replaced if it carries mien's chunk, or if overwrite is set. The result has .photos
    (Written) and .failures, those of the transform before among them.
    """

    def __init__(self, output: str, overwrite: bool = False) -> None:
        super().__init__()
        self._stage: Stage = _WriteBlob(normal_uri(output), overwrite)

    def expand(self, photos: Input) -> PhotosAndFailures:
        photos, failures = as_outputs(photos)
        written = through(photos, self._stage, Written)
        return PhotosAndFailures(photos=written.photos, failures=join_failures(written.failures, failures))


class WritePhotos(WriteBlobs):
    """Photo or SafePhoto -> one image file each. Replaces what an earlier run wrote, with overwrite anything."""

    def __init__(self, output: str, overwrite: bool = False) -> None:
        super().__init__(output, overwrite)
        self._stage = _WritePhoto(normal_uri(output), overwrite)
