"""Many photos in a file: parts, written aside, that count for no reader before all of a run are whole.

Tables and shards are made so. A run's parts take the place of older ones in which photos lie that were done anew.
"""

import dataclasses
import logging
import math
import tarfile
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from mien.models.errors import ImageError
from mien.transforms.elements import FAILURES, CodedPhoto, Failure, PhotosAndFailures, SafePhoto, Written
from mien.transforms.formats import (
    MANIFEST,
    PARQUET,
    RENEWED,
    SHARD,
    Manifest,
    commit,
    copy_name,
    hidden_folder,
    parts_of,
    pending,
    renew,
    roll_back,
    suffix_of,
    without_rows,
    without_samples,
)
from mien.transforms.stores import delete, is_local, join, normal_uri, write_whole
from mien.transforms.workers import (
    NAMESPACE,
    NOT_READ,
    Input,
    StageTransform,
    as_outputs,
    by_action,
    failure_of,
    join_failures,
    log_written,
    through,
    with_time,
)

PART_BYTES = 1_000_000_000
MOST_OPEN = 8  # parts of one bundle that grow at once, where not every part takes every photo

Part = tuple[str, str, list[Written]]  # temporary path, final name, its photos; no path: photos that were withheld
# an output may hold parts of another format, from a run with other settings
_WITHOUT: dict[str, Callable[[str, Collection[str], str], tuple[int, set[str]]]] = {
    PARQUET: without_rows,
    SHARD: without_samples,
}


@dataclass(frozen=True)
class Packed:
    """A photo as its part takes it. bytes: about what it adds; sha256: of its image file, or row_digest."""

    data: Any
    bytes: int
    sha256: str = ""


class PartWriter(Protocol):
    """One part file as it grows; it is of use only once it is closed. bytes: about what it holds."""

    bytes: int

    def takes(self, data: Any) -> bool:
        """Whether the part can hold this photo beside what it holds."""

    def add(self, data: Any) -> None:
        """Takes a photo, as it was packed."""

    def close(self) -> int:
        """Ends the file; its bytes."""

    def abandon(self) -> None:
        """Lets go of the file, which is not whole."""


@dataclass(frozen=True)
class Format:
    """suffix: of the parts' names. pack: makes ready what a part takes of a photo; one that has a close() is closed
    after each bundle. writer: begins a part at a path, for a photo as it was packed."""

    suffix: str
    pack: Callable[[Any], Packed]
    writer: Callable[[str], PartWriter]


@dataclass(eq=False)
class _OpenPart:
    """A part as it grows, and the photos in it."""

    path: str
    name: str
    writer: PartWriter
    photos: list[Written]


class _WriteParts(beam.DoFn):
    """Writes a bundle's photos to part files in a hidden folder, and says where they are once they are closed."""

    def __init__(self, output: str, run_id: str, kind: Format, leased: bool) -> None:
        self._output = output
        self._run_id = run_id
        self._kind = kind
        self._leased = leased
        self._renewed = -math.inf

    def start_bundle(self) -> None:
        self._parts: list[_OpenPart] = []

    def process(self, photo: CodedPhoto | SafePhoto) -> Iterator[Any]:
        started = time.monotonic()
        try:
            packed = self._kind.pack(photo)
        except Exception as error:
            yield TaggedOutput(FAILURES, failure_of(photo.uri, "write", error))
            return
        part = next((part for part in self._parts if part.writer.takes(packed.data)), None)
        if part is None:
            if len(self._parts) >= MOST_OPEN:
                yield from self._closed(max(self._parts, key=lambda part: part.writer.bytes))
            try:
                part = self._begun()
            except Exception as error:
                yield TaggedOutput(FAILURES, failure_of(photo.uri, "write", error))
                return
        try:
            part.photos.append(Written(photo.uri, part.name, photo.origin))
            part.writer.add(packed.data)
            milliseconds = 1000 * (time.monotonic() - started)
            Metrics.distribution(NAMESPACE, "write_ms").update(round(milliseconds))
            written = dataclasses.replace(
                part.photos[-1],
                sha256=packed.sha256,
                faces=photo.faces if isinstance(photo, SafePhoto) else (),
                bytes=packed.bytes,
                actions=by_action(photo.faces),
            )
            part.photos[-1] = log_written(with_time(written, photo.spent, "write", milliseconds))
        except Exception as error:
            yield from self._failed(part, error)
            return
        if part.writer.bytes >= PART_BYTES:
            yield from self._closed(part)

    def finish_bundle(self) -> Iterator[Any]:
        if close := getattr(self._kind.pack, "close", None):
            close()
        for output in (output for part in list(self._parts) for output in self._closed(part)):
            if isinstance(output, TaggedOutput):
                yield TaggedOutput(output.tag, _at_end(output.value))
            else:
                yield _at_end(output)

    def _begun(self) -> "_OpenPart":
        name = f"photos-{self._run_id}-{uuid.uuid4().hex[:12]}{self._kind.suffix}"
        if self._leased and time.monotonic() - self._renewed > RENEWED:
            renew(self._output, self._run_id)
            self._renewed = time.monotonic()
        path = join(join(self._output, hidden_folder(self._run_id)), name)
        part = _OpenPart(path, name, self._kind.writer(path), [])
        self._parts.append(part)
        return part

    def _closed(self, part: "_OpenPart") -> Iterator[Any]:
        try:
            Metrics.counter(NAMESPACE, "bytes_out").inc(part.writer.close())
        except Exception as error:
            yield from self._failed(part, error)
            return
        self._parts.remove(part)
        yield part.path, part.name, part.photos

    def _failed(self, part: "_OpenPart", error: Exception) -> Iterator[TaggedOutput]:
        """Without its end the whole part is lost, so all its photos failed."""
        self._parts.remove(part)
        part.writer.abandon()
        delete(part.path)
        yield from _failures(part.photos, error)


class _Place(beam.DoFn):
    """Moves all parts of the run into the output, beside copies of older parts without the photos that are done anew,
    and without those that are withheld now.

    None of them counts until the manifest, which is written before them, is committed.
    """

    def __init__(self, output: str, run_id: str, commits: bool) -> None:
        self._output = output
        self._run_id = run_id
        self._commits = commits

    def process(self, group: tuple[None, Iterable[Part]]) -> Iterator[Any]:
        everything = list(group[1])
        parts = [part for part in everything if part[0]]
        withheld = {photo.uri for path, _, photos in everything if not path for photo in photos}
        try:
            self._place(parts, withheld)
        except Exception as error:
            roll_back(self._output, self._run_id)
            delete(pending(self._output, self._run_id))
            if withheld:  # what must go has not gone: that is no matter of a photo
                raise
            yield from (failed for _, _, photos in parts for failed in _failures(photos, error))
            return
        yield from (photo for _, _, photos in parts for photo in photos)

    def _place(self, parts: list[Part], withheld: set[str]) -> None:
        now = parts_of(self._output)
        if not parts and not now.parts:
            return
        if not now.run:  # from now on a part counts that is named; what is moved in below is not
            write_whole(join(self._output, MANIFEST), now.to_json())
        uris = withheld.union(photo.uri for _, _, photos in parts for photo in photos)
        found = _replace_parts(self._output, self._run_id, now, [(path, name) for path, name, _ in parts], uris)
        Metrics.counter(NAMESPACE, "withdrawn").inc(len(withheld & found))
        if self._commits:
            commit(self._output, self._run_id)
            delete(join(join(self._output, hidden_folder(self._run_id)), ""))


def _replace_parts(
    output: str, run_id: str, now: Manifest, parts: list[tuple[str, str]], uris: Collection[str]
) -> set[str]:
    """Places a run's parts (path, name) and copies of those that count now without the photos of the uris, and writes
    the manifest that waits to be committed; which of the uris the parts had.

    A part that is damaged cannot be copied: it goes, and what was in it is not done any more.
    """
    moves = list(parts)
    counted = [name for _, name in moves]
    gone, all_found = [], set[str]()
    for name in now.parts:
        if name in counted or not FileSystems.exists(join(output, name)):
            continue  # a first try of this bundle has committed it, or somebody has deleted it
        copy = copy_name(name, run_id)
        hidden = join(join(output, hidden_folder(run_id)), copy)
        try:
            kept, found = _WITHOUT[suffix_of(name)](join(output, name), uris, hidden)
        except Exception as error:
            if not _is_damage(error, name, output):
                raise
            Metrics.counter(NAMESPACE, "parts_damaged").inc()
            logging.getLogger("mien").warning("%s is damaged and no longer counts: %s", name, error)
            delete(hidden)
            gone.append(name)
            continue
        if not found:
            counted.append(name)
            continue
        all_found |= found
        gone.append(name)
        if kept:
            counted.append(copy)
            moves.append((hidden, copy))
    if parts or gone:
        manifest = Manifest(run_id, tuple(counted), tuple(gone))
        write_whole(pending(output, run_id), manifest.to_json())
        for path, name in moves:
            if not FileSystems.exists(join(output, name)):  # else a first try of this bundle has moved it
                FileSystems.rename([path], [join(output, name)])
    return all_found


def _is_damage(error: Exception, name: str, output: str) -> bool:
    """Whether an error is about what is in a part, and not about the way to it: pyarrow has OSErrors for both."""
    if isinstance(error, OSError):
        return suffix_of(name) == PARQUET and is_local(output) and error.errno is None
    return isinstance(error, ValueError | ImageError | tarfile.TarError)


def remove_photos(output: str, run_id: str, uris: Collection[str]) -> set[str]:
    """Takes photos out of an output's parts, at once; which of them were there. run_id: of this change alone."""
    found = _replace_parts(output, run_id, parts_of(output), [], uris) if uris else set()
    commit(output, run_id)
    delete(join(join(output, hidden_folder(run_id)), ""))
    return found


def _at_end(value: Any) -> WindowedValue:
    window = GlobalWindow()
    return WindowedValue(value, window.max_timestamp(), (window,))


def _failures(photos: list[Written], error: Exception) -> Iterator[TaggedOutput]:
    return (TaggedOutput(FAILURES, failure_of(photo.uri, "write", error)) for photo in photos)


def _as_withheld(failure: Failure) -> Iterator[Part]:
    if failure.stage not in NOT_READ:
        yield "", "", [Written(failure.uri, "", None)]


class WriteParts(StageTransform):
    """Photos -> part files `photos-RUN-*` in the output folder or URI, which count when all are written.

    The manifest beside them, written last, names the parts that count (mien.transforms.formats.manifest). A photo
    whose uri is in older parts of the same folder is in none of those any more, so that a reader never finds it twice.
    The result has .photos (Written) and .failures, those of the transform before among them. run_id: part of the files'
    names. commits: False for a caller that calls mien.transforms.formats.manifest.commit itself once the pipeline has
    finished. withdraw: what older parts hold of a photo that is now withheld goes too.
    """

    def __init__(
        self, output: str, kind: Format, run_id: str = "", commits: bool = True, withdraw: bool = False
    ) -> None:
        super().__init__()
        self._output = normal_uri(output)
        self._kind = kind
        self._run_id = run_id or uuid.uuid4().hex[:12]
        self._commits = commits
        self._withdraw = withdraw

    def expand(self, photos: Input) -> PhotosAndFailures:
        photos, failures = as_outputs(photos)
        parts = through(photos, _WriteParts(self._output, self._run_id, self._kind, self._commits), Part)
        all_parts = parts.photos
        if self._withdraw:
            withheld = [
                before | f"Withheld{i}" >> beam.FlatMap(_as_withheld).with_output_types(Part)
                for i, before in enumerate(failures)
            ]
            all_parts = (all_parts, *withheld) | "Parts" >> beam.Flatten()
        grouped = (
            all_parts
            | "OneGroup" >> beam.Map(lambda part: (None, part)).with_output_types(tuple[None, Part])
            | beam.GroupByKey()
        )
        written = through(grouped, _Place(self._output, self._run_id, self._commits), Written)
        failures = [parts.failures, *failures]
        return PhotosAndFailures(photos=written.photos, failures=join_failures(written.failures, failures))
