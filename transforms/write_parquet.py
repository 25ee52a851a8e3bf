"""Coded photos as Parquet tables, a row each, that count for no reader before all of a run are whole."""

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
from mien.transforms.files import create, delete, write_whole
from mien.transforms.manifest import MANIFEST, Manifest, commit, copy_name, hidden_folder, parts_of, pending, roll_back
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


class _Place(beam.DoFn):
    """Moves all parts of the run into the output, beside copies of older parts without the photos that are done anew.

    None of them counts until the manifest, which is written before them, is committed.
    """

    def __init__(self, output: str, run_id: str, commits: bool) -> None:
        self._output = output
        self._run_id = run_id
        self._commits = commits

    def process(self, group: tuple[None, Iterable[Part]]) -> Iterator[Any]:
        parts = list(group[1])
        try:
            self._place(parts)
        except Exception as error:
            roll_back(self._output, self._run_id)
            delete(pending(self._output, self._run_id))
            yield from (failed for _, _, photos in parts for failed in _failures(photos, error))
            return
        yield from (photo for _, _, photos in parts for photo in photos)

    def _place(self, parts: list[Part]) -> None:
        now = parts_of(self._output)
        if not now.run:  # from now on a part counts that is named; what is moved in below is not
            write_whole(join(self._output, MANIFEST), now.to_json())
        uris = {photo.uri for _, _, photos in parts for photo in photos}
        moves = [(path, name) for path, name, _ in parts]
        counted = [name for _, name in moves]
        gone = []
        for name in now.parts:
            if name in counted or not FileSystems.exists(join(self._output, name)):
                continue  # a first try of this bundle has committed it, or somebody has deleted it
            copy = copy_name(name, self._run_id)
            kept = without_rows(join(self._output, name), uris, self._hidden(copy))
            if kept is None:
                counted.append(name)
                continue
            gone.append(name)
            if kept:
                counted.append(copy)
                moves.append((self._hidden(copy), copy))
        manifest = Manifest(self._run_id, tuple(counted), tuple(gone))
        write_whole(pending(self._output, self._run_id), manifest.to_json())
        for path, name in moves:
            if not FileSystems.exists(join(self._output, name)):  # else a first try of this bundle has moved it
                FileSystems.rename([path], [join(self._output, name)])
        if self._commits:
            commit(self._output, self._run_id)
            delete(join(join(self._output, hidden_folder(self._run_id)), ""))

    def _hidden(self, name: str) -> str:
        return join(join(self._output, hidden_folder(self._run_id)), name)


def _at_end(value: Any) -> WindowedValue:
    window = GlobalWindow()
    return WindowedValue(value, window.max_timestamp(), (window,))


def _failures(photos: list[Written], error: Exception) -> Iterator[TaggedOutput]:
    return (TaggedOutput(FAILURES, failure_of(photo.uri, "write", error)) for photo in photos)


def without_rows(part: str, uris: set[str], copy: str) -> int | None:
    """Writes a copy of a part without the rows of the uris; how many rows it has.

    0, and no copy, where no row would be left; None, and no copy, where the part has none of the uris.
    """
    with FileSystems.open(part, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        parquet = pq.ParquetFile(stream)
        kept = [uri not in uris for uri in parquet.read(columns=["uri"]).column("uri").to_pylist()]
        if all(kept):
            return None
        if any(kept):
            _copy_rows(parquet, kept, copy)
        return sum(kept)


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
    """CodedPhoto -> Parquet files `photos-RUN-*.parquet` in the output folder or URI, which count when all are written.

    The manifest beside them, written last, names the parts that count (mien.transforms.manifest). A photo whose uri is
    in older parts of the same folder is in none of those any more, so that a reader never finds it twice.
    The result has .photos (Written) and .failures, those of the transform before among them. run_id: part of the files'
    names; row_group_bytes: about how much a row group holds. commits: False for a caller that calls
    mien.transforms.manifest.commit itself once the pipeline has finished.
    """

    def __init__(
        self, output: str, run_id: str = "", row_group_bytes: int = ROW_GROUP_BYTES, commits: bool = True
    ) -> None:
        super().__init__()
        self._output = normal_uri(output)
        self._run_id = run_id or uuid.uuid4().hex[:12]
        self._row_group_bytes = row_group_bytes
        self._commits = commits

    def expand(self, photos: Input) -> PhotosAndFailures:
        photos, failures = as_outputs(photos)
        parts = through(photos, _WriteParts(self._output, self._run_id, self._row_group_bytes), Part)
        grouped = (
            parts.photos
            | "OneGroup" >> beam.Map(lambda part: (None, part)).with_output_types(tuple[None, Part])
            | beam.GroupByKey()
        )
        written = through(grouped, _Place(self._output, self._run_id, self._commits), Written)
        failures = [parts.failures, *failures]
        return PhotosAndFailures(photos=written.photos, failures=join_failures(written.failures, failures))
