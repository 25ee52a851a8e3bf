"""Coded photos as Parquet tables, a row each, that no reader sees before they are whole."""

import dataclasses
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from mien.transforms.elements import FAILURES, CodedPhoto, PhotosAndFailures, Written
from mien.transforms.files import create, delete, files_named, replacing
from mien.transforms.names import join, normal_uri
from mien.transforms.parquet import OPTIONS, ROOT_KEY, SCHEMA, row_of
from mien.transforms.stage import (
    NAMESPACE,
    Input,
    StageTransform,
    as_outputs,
    by_action,
    failure_of,
    join_failures,
    tell_written,
    through,
    with_time,
)

ROW_GROUP_BYTES = 64_000_000
PART_BYTES = 1_000_000_000

Part = tuple[str, str, list[Written]]  # temporary path, final name, its photos


class PartWriter:
    """One part file as it grows: rows are held until they fill a row group. It is of use only once it is closed."""

    def __init__(self, path: str, row_group_bytes: int = ROW_GROUP_BYTES) -> None:
        self._row_group_bytes = row_group_bytes
        self._stream = create(path)
        self._writer = pq.ParquetWriter(self._stream, SCHEMA, **OPTIONS)
        self._rows: list[dict[str, Any]] = []
        self._held = 0
        self.bytes = 0
        self._root: str | None = None

    def add(self, photo: CodedPhoto) -> None:
        """Takes a row; writes a row group when there is enough."""
        size = len(photo.background) + sum(len(face.payload) + 200 for face in photo.faces) + 200
        self._rows.append(row_of(photo))
        self._held += size
        self.bytes += size
        root = photo.uri.removesuffix(f"/{photo.name}") if photo.name else ""
        self._root = root if self._root in (None, root) and root != photo.uri else ""
        if self._held >= self._row_group_bytes:
            self._flush()

    def close(self) -> int:
        """Writes what is held and the footer; the file's bytes."""
        self._flush()
        self._writer.add_key_value_metadata({ROOT_KEY: self._root or ""})
        self._writer.close()
        size = self._stream.tell()
        self._stream.close()
        return size

    def abandon(self) -> None:
        """Lets go of the file, which is not whole."""
        for closes in (self._writer, self._stream):
            try:
                closes.close()
            except Exception:  # a full disk fails again here; the file is deleted all the same
                continue

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, SCHEMA))
        self._rows, self._held = [], 0


class _WriteParts(beam.DoFn):
    """Writes a bundle's photos to part files in a hidden folder, and says where they are once they are closed."""

    def __init__(self, output: str, run_id: str, row_group_bytes: int) -> None:
        self._output = output
        self._run_id = run_id
        self._row_group_bytes = row_group_bytes

    def start_bundle(self) -> None:
        self._writer: PartWriter | None = None
        self._photos: list[Written] = []

    def process(self, photo: CodedPhoto) -> Iterator[Any]:
        try:
            if self._writer is None:
                self._name = f"photos-{self._run_id}-{uuid.uuid4().hex[:12]}.parquet"
                self._writer = PartWriter(self._path, self._row_group_bytes)
            self._photos.append(Written(photo.uri, self._name, photo.origin))
            started = time.monotonic()
            self._writer.add(photo)
            milliseconds = 1000 * (time.monotonic() - started)
            Metrics.distribution(NAMESPACE, "write_ms").update(round(milliseconds))
            size = len(photo.background) + sum(len(face.payload) for face in photo.faces)
            written = dataclasses.replace(self._photos[-1], bytes=size, actions=by_action(photo.faces))
            self._photos[-1] = tell_written(with_time(written, photo.spent, "write", milliseconds))
        except Exception as error:
            if not self._photos:
                self._photos.append(Written(photo.uri, "", photo.origin))
            yield from self._failed(error)
            return
        if self._writer.bytes >= PART_BYTES:
            yield from self._closed()

    def finish_bundle(self) -> Iterator[Any]:
        for output in self._closed():
            if isinstance(output, TaggedOutput):
                yield TaggedOutput(output.tag, _at_end(output.value))
            else:
                yield _at_end(output)

    @property
    def _path(self) -> str:
        return join(join(self._output, hidden_folder(self._run_id)), self._name)

    def _closed(self) -> Iterator[Any]:
        if self._writer is None:
            return
        try:
            Metrics.counter(NAMESPACE, "bytes_out").inc(self._writer.close())
        except Exception as error:
            yield from self._failed(error)
            return
        yield self._path, self._name, self._photos
        self._writer, self._photos = None, []

    def _failed(self, error: Exception) -> Iterator[TaggedOutput]:
        """Without its footer the whole part is lost, so all its photos failed."""
        if self._writer is not None:
            self._writer.abandon()
            delete(self._path)
        yield from _failures(self._photos, error)
        self._writer, self._photos = None, []


class _Publish(beam.DoFn):
    """Moves all parts of the run into place, once the older parts have let go of the photos that are done anew."""

    def __init__(self, output: str, run_id: str) -> None:
        self._output = output
        self._run_id = run_id

    def process(self, group: tuple[None, Iterable[Part]]) -> Iterator[Any]:
        parts = list(group[1])
        try:
            drop_rows(self._output, {photo.uri for _, _, photos in parts for photo in photos})
        except Exception as error:
            yield from (failed for _, _, photos in parts for failed in _failures(photos, error))
            parts = []
        for path, name, photos in parts:
            try:
                if not FileSystems.exists(join(self._output, name)):  # else a first try of this bundle has moved it
                    FileSystems.rename([path], [join(self._output, name)])
                yield from photos
            except Exception as error:
                yield from _failures(photos, error)
        delete(join(join(self._output, hidden_folder(self._run_id)), ""))


def _at_end(value: Any) -> WindowedValue:
    window = GlobalWindow()
    return WindowedValue(value, window.max_timestamp(), (window,))


def _failures(photos: list[Written], error: Exception) -> Iterator[TaggedOutput]:
    return (TaggedOutput(FAILURES, failure_of(photo.uri, "write", error)) for photo in photos)


def hidden_folder(run_id: str) -> str:
    """Where a run's unfinished parts lie below the output; readers of tables pass over such names."""
    return f".mien-{run_id}"


def drop_rows(output: str, uris: set[str]) -> None:
    """Rewrites the parts in output that hold one of the uris without those rows; a part that would be empty is deleted.

    Only files named as this module names them. Each is replaced by one rename.
    """
    for part in files_named(output, "photos-", ".parquet") if uris else []:
        with FileSystems.open(part, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            parquet = pq.ParquetFile(stream)
            kept = [uri not in uris for uri in parquet.read(columns=["uri"]).column("uri").to_pylist()]
            if all(kept):
                continue
            if any(kept):
                temporary = join(output, f".mien-part-{uuid.uuid4().hex}")
                with replacing(part, temporary):
                    _copy_rows(parquet, kept, temporary)
        if not any(kept):
            delete(part)


def _copy_rows(parquet: pq.ParquetFile, kept: list[bool], path: str) -> None:
    schema = parquet.schema_arrow
    with create(path) as stream, pq.ParquetWriter(stream, schema.remove_metadata(), **OPTIONS) as writer:
        start = 0
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group)
            part = table.filter(pa.array(kept[start : start + table.num_rows]))
            start += table.num_rows
            if part.num_rows:
                writer.write_table(part.replace_schema_metadata())
        writer.add_key_value_metadata({ROOT_KEY: (parquet.metadata.metadata or {}).get(ROOT_KEY, b"")})


class WriteParquet(StageTransform):
    """CodedPhoto -> Parquet files `photos-RUN-*.parquet` in the output folder or URI, there when all are written.

    A photo whose uri is in older parts of the same folder is taken out of those, so that a reader never finds it twice.
    The result has .photos (Written) and .failures, those of the transform before among them. run_id: part of the files'
    names; row_group_bytes: about how much a row group holds.
    """

    def __init__(self, output: str, run_id: str = "", row_group_bytes: int = ROW_GROUP_BYTES) -> None:
        super().__init__()
        self._output = normal_uri(output)
        self._run_id = run_id or uuid.uuid4().hex[:12]
        self._row_group_bytes = row_group_bytes

    def expand(self, photos: Input) -> PhotosAndFailures:
        photos, failures = as_outputs(photos)
        parts = through(photos, _WriteParts(self._output, self._run_id, self._row_group_bytes), Part)
        grouped = (
            parts.photos
            | "OneGroup" >> beam.Map(lambda part: (None, part)).with_output_types(tuple[None, Part])
            | beam.GroupByKey()
        )
        written = through(grouped, _Publish(self._output, self._run_id), Written)
        failures = [parts.failures, *failures]
        return PhotosAndFailures(photos=written.photos, failures=join_failures(written.failures, failures))
