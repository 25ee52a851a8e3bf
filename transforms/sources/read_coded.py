"""Coded photos from where they were written: image files that carry faces, Parquet tables, and WebDataset shards."""

import dataclasses
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from mien.models.errors import MienError
from mien.models.images import extract
from mien.transforms.elements import FAILURES, CodedFace, CodedPhoto, ListedFile, PhotosAndFailures
from mien.transforms.formats import (
    PARQUET,
    ROOT_KEY,
    SCHEMA,
    SHARD,
    Sample,
    count_samples,
    is_shard,
    open_table,
    photo_of,
    rows_of_table,
    samples,
)
from mien.transforms.sources.photo_reader import MAX_BYTES, read_file
from mien.transforms.sources.read import ListFiles
from mien.transforms.stores import join, safe_name
from mien.transforms.workers import NAMESPACE, Input, StageTransform, as_outputs, failure_of, join_failures, through

BLOB_CODECS = {".avif": "avif", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
CODED_SUFFIXES = frozenset((*BLOB_CODECS, PARQUET, SHARD))
_ROWS_AT_ONCE = 8


def photo_of_blob(data: bytes, origin: ListedFile) -> CodedPhoto:
    """An image file with mien's chunk as a coded photo, named x.jpg if it is x.jpg.avif. Raises ContainerError."""
    stored = extract(data)
    stem, suffix = posixpath.splitext(origin.name)
    name = stem if suffix.lower() in BLOB_CODECS and posixpath.splitext(stem)[1] else origin.name
    codec = BLOB_CODECS.get(suffix.lower(), "")
    faces = tuple(
        CodedFace(face.box, face.transform, face.action, face.rule, face.model, face.payload, face.score)
        for face in stored.faces
    )
    size = stored.width, stored.height
    return CodedPhoto(origin.uri, 0, *size, data, codec, faces, stored.policy, stored.version, name, origin)


def photos_of_file(file: ListedFile) -> Iterator[CodedPhoto | Exception]:
    """What a file of any kind holds."""
    if file.uri.lower().endswith(PARQUET):
        yield from photos_of_table(file)
    elif is_shard(file.uri):
        yield from photos_of_shard(file)
    else:
        yield photo_of_blob(read_file(file, MAX_BYTES), file)


def photos_of_table(origin: ListedFile) -> Iterator[CodedPhoto | Exception]:
    """The rows of a Parquet file, a few in memory at a time; the exception in place of a row that is none of ours.

    Raises OSError or ValueError for a file that is no such table, or is damaged.
    """
    with FileSystems.open(origin.uri, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        table = open_table(stream)
        if missing := [name for name in SCHEMA.names if name not in table.schema_arrow.names]:
            raise ValueError(f"no table of mien's: it has no column {', '.join(missing)}")
        root = (table.metadata.metadata or {}).get(ROOT_KEY, b"").decode(errors="replace")
        origin = ListedFile(origin.uri, origin.name, origin.size, origin.modified, table.metadata.num_rows, origin.ours)
        for row in rows_of_table(table, _ROWS_AT_ONCE, SCHEMA.names):
            try:
                yield photo_of(row, root, origin)
            except (ValueError, TypeError, OverflowError) as error:
                yield error


def photo_of_sample(sample: Sample, shard: ListedFile) -> CodedPhoto:
    """A sample with mien's chunk as a coded photo; of another's shard it is named after it.

    Raises ContainerError, or ValueError for a name that cannot be; the JSON beside an image may say anything.
    """
    file = f"{sample.key}{sample.suffix}"
    name = safe_name(f"{shard.name}/{file}")
    photo = photo_of_blob(sample.data, ListedFile(join(shard.uri, file), name, len(sample.data), shard.modified))
    uri, own, size = (sample.about.get(key) for key in ("uri", "name", "source_bytes"))
    if isinstance(own, str):
        size = size if isinstance(size, int) and 0 <= size < 1 << 63 else 0
        uri = uri if isinstance(uri, str) else photo.uri
        photo = dataclasses.replace(photo, uri=uri, name=safe_name(own), source_bytes=size)
    f"{photo.uri}{photo.name}".encode()  # what is not UTF-8 cannot travel as a string
    return dataclasses.replace(photo, origin=shard)


def photos_of_shard(origin: ListedFile) -> Iterator[CodedPhoto | Exception]:
    """The samples of a shard, one in memory at a time; the exception in place of one that is no coded photo.

    Raises tarfile.TarError, ImageError or OSError for a shard that is none, is damaged or cut.
    """
    origin = dataclasses.replace(origin, photos=count_samples(origin.uri, BLOB_CODECS.keys()))
    for sample in samples(origin.uri, BLOB_CODECS.keys(), MAX_BYTES):
        try:
            yield sample if isinstance(sample, Exception) else photo_of_sample(sample, origin)
        except (MienError, ValueError) as error:
            yield error


class _ReadCoded(beam.DoFn):
    def process(self, file: ListedFile) -> Iterator[Any]:
        photos_in = Metrics.counter(NAMESPACE, "photos_in")
        Metrics.counter(NAMESPACE, "bytes_in").inc(file.size)
        try:
            for photo in photos_of_file(file):
                photos_in.inc()
                if isinstance(photo, Exception):
                    yield TaggedOutput(FAILURES, failure_of(file.uri, "read", photo))
                else:
                    yield photo
        except Exception as error:
            photos_in.inc()
            yield TaggedOutput(FAILURES, failure_of(file.uri, "read", error))


class ReadCodedFiles(StageTransform):
    """ListedFile -> the CodedPhoto that it holds."""

    def expand(self, listed: Input) -> PhotosAndFailures:
        files, failures = as_outputs(listed)
        read = through(files, _ReadCoded(), CodedPhoto)
        return PhotosAndFailures(photos=read.photos, failures=join_failures(read.failures, failures))


class ReadCoded(StageTransform):
    """Coded photos from blobs, Parquet tables and WebDataset shards: a file, folder, glob or URI, or a list of them."""

    def __init__(self, inputs: str | Sequence[str], exclude: str = "") -> None:
        super().__init__()
        self._inputs = inputs
        self._exclude = exclude

    def expand(self, pipeline: beam.Pipeline) -> PhotosAndFailures:
        result: PhotosAndFailures = (
            pipeline | ListFiles(self._inputs, CODED_SUFFIXES, self._exclude, apart=False) | ReadCodedFiles()
        )
        return result
