"""Photos from files, WebDataset shards, tables, folders, globs and URIs, through Beam's FileSystems."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from mien.transforms.elements import FAILURES, Failure, ListedFile, Photo, PhotosAndFailures
from mien.transforms.formats import (
    Colocate,
    PhotoColumn,
    check_text,
    is_shard,
    list_members,
    list_rows,
    list_samples,
)
from mien.transforms.sources.listing import EXCLUDED, IMAGE_SUFFIXES, PASSED, PHOTO_SUFFIXES, folder_of, list_files
from mien.transforms.sources.photo_reader import MAX_BYTES, PhotoReader
from mien.transforms.stores import (
    common_root,
    normal_uri,
)
from mien.transforms.workers import (
    NAMESPACE,
    Input,
    Stage,
    StageTransform,
    as_outputs,
    failure_of,
    join_failures,
    through,
)


class _List(beam.DoFn):
    def __init__(self, root: str, suffixes: frozenset[str], exclude: str, globs: tuple[str, ...]) -> None:
        self._root = root
        self._suffixes = suffixes
        self._exclude = exclude
        self._globs = globs

    def process(self, uri: str) -> Iterator[Any]:
        counts: Counter[str] = Counter()
        try:
            for entry in list_files(uri, self._root, self._suffixes, self._exclude, self._globs, counts):
                yield _outcome(entry)
        except Exception as error:
            yield _outcome(failure_of(uri, "list", error))
        _count_passed(counts)


def _count_passed(counts: Counter[str]) -> None:
    for kind, number in counts.items():
        Metrics.counter(NAMESPACE, f"{PASSED}{kind}").inc(number)


def _outcome(entry: ListedFile | Failure) -> Any:
    """What a stage that lists yields for it."""
    try:
        entry.uri.encode()
    except UnicodeEncodeError:  # a file name that is not UTF-8 cannot travel as a string
        name = entry.uri.encode(errors="backslashreplace").decode()
        entry = Failure(name, "list", "UnicodeEncodeError", "the file's name is not UTF-8")
    if isinstance(entry, ListedFile):
        return entry
    Metrics.counter(NAMESPACE, "photos_in").inc()
    return TaggedOutput(FAILURES, entry)


class _TakeApart(beam.DoFn):
    """The photos of a shard; dropped: as in list_samples, None where samples need not stay whole."""

    def __init__(self, dropped: tuple[str, ...] | None) -> None:
        self._dropped = dropped

    def process(self, file: ListedFile) -> Iterator[Any]:
        counts: Counter[str] = Counter()
        if self._dropped is None:
            found = list_members(file, IMAGE_SUFFIXES, counts)
        else:
            found = list_samples(file, IMAGE_SUFFIXES, self._dropped, counts)
        yield from map(_outcome, found)
        _count_passed(counts)


class _TakeRows(beam.DoFn):
    """The photos of a table."""

    def __init__(self, column: PhotoColumn) -> None:
        self._column = column

    def process(self, file: ListedFile) -> Iterator[Any]:
        yield from map(_outcome, list_rows(file, self._column))


class _Read(Stage):
    stage = "read"

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    def setup(self) -> None:
        self._reader = PhotoReader()

    def finish_bundle(self) -> None:
        self._reader.close()

    def work(self, element: ListedFile) -> Iterable[Photo]:
        Metrics.counter(NAMESPACE, "photos_in").inc()
        data = self._reader.read(element, self._max_bytes)
        for name, other in self._reader.others(element) if element.members else ():
            check_text(name, other)
        Metrics.counter(NAMESPACE, "bytes_in").inc(len(data))
        yield Photo(element.uri, data, element.name, element)


class ListFiles(StageTransform):
    """Files, folders, globs and URIs -> ListedFile, each once however many inputs name it.

    photos (the ListedFile) and failures, as attributes of the result. apart: of a shard its photos are listed, each as
    a file of its own, and not the shard. exclude: a folder to leave out. globs: what else to leave
    out, as in list_files. whole: the samples of shards stay whole, but for the members that these patterns name (see
    formats.list_samples); None: their other members are passed over. column: of tables, which the files then are
    (suffixes: TABLE_SUFFIXES): each row is a photo. What was passed over is in metrics whose names
    begin with PASSED.
    """

    def __init__(
        self,
        inputs: str | Sequence[str],
        suffixes: frozenset[str] = PHOTO_SUFFIXES,
        exclude: str = "",
        apart: bool = True,
        globs: Sequence[str] = EXCLUDED,
        whole: Sequence[str] | None = None,
        column: PhotoColumn | None = None,
    ) -> None:
        super().__init__()
        self._column = column
        self._apart = apart
        self._whole = None if whole is None else tuple(whole)
        self._globs = tuple(globs)
        self._inputs = list(dict.fromkeys(normal_uri(uri) for uri in ([inputs] if isinstance(inputs, str) else inputs)))
        self._suffixes = suffixes
        self._exclude = exclude

    def expand(self, pipeline: beam.Pipeline) -> PhotosAndFailures:
        root = common_root(folder_of(uri, self._suffixes) for uri in self._inputs)
        inputs = pipeline | "Inputs" >> beam.Create(self._inputs, reshuffle=False)
        listed = through(inputs, _List(root, self._suffixes, self._exclude, self._globs), ListedFile)
        # grouping the small rows also spreads them over the workers, so nothing after this needs a shuffle
        once = (
            listed.photos
            | "ByUri" >> beam.Map(lambda file: (file.uri, file)).with_output_types(tuple[str, ListedFile])
            | beam.GroupByKey()
            | "Once" >> beam.Map(lambda files: next(iter(files[1]))).with_output_types(ListedFile)
        )
        if not self._apart:
            return PhotosAndFailures(photos=once, failures=listed.failures)
        if self._column:
            rows = through(once, _TakeRows(self._column), ListedFile)
            failures = join_failures(rows.failures, [listed.failures])
            return PhotosAndFailures(photos=rows.photos | beam.Reshuffle(), failures=failures)
        files = once | "Files" >> beam.Filter(lambda file: not is_shard(file.uri))
        apart = through(
            once | "Shards" >> beam.Filter(lambda file: is_shard(file.uri)), _TakeApart(self._whole), ListedFile
        )
        photos = (files, apart.photos | beam.Reshuffle()) | beam.Flatten()  # a shard's photos are work for many
        return PhotosAndFailures(photos=photos, failures=join_failures(apart.failures, [listed.failures]))


class ReadFiles(StageTransform):
    """ListedFile -> Photo, with the file's bytes. max_bytes: larger files fail before they are read."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        super().__init__()
        self._max_bytes = max_bytes

    def expand(self, listed: Input) -> PhotosAndFailures:
        files, failures = as_outputs(listed)
        read = through(files | Colocate(), _Read(self._max_bytes), Photo)
        return PhotosAndFailures(photos=read.photos, failures=join_failures(read.failures, failures))


class ReadPhotos(StageTransform):
    """Photos from a file, a folder with all below it, a glob or a URI, or from a list of them; those of shards too.

    The result has .photos (Photo) and .failures (Failure); CompressPhotos takes it as it is. exclude: a folder to leave
    out, such as the output's.
    """

    def __init__(self, inputs: str | Sequence[str], max_bytes: int = MAX_BYTES, exclude: str = "") -> None:
        super().__init__()
        self._inputs = inputs
        self._max_bytes = max_bytes
        self._exclude = exclude

    def expand(self, pipeline: beam.Pipeline) -> PhotosAndFailures:
        result: PhotosAndFailures = (
            pipeline | ListFiles(self._inputs, exclude=self._exclude) | ReadFiles(self._max_bytes)
        )
        return result
