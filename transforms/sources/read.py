"""Photos from files, WebDataset shards, folders, globs and URIs, through Beam's FileSystems."""

import contextlib
import errno
import fnmatch
import glob
import os
import posixpath
import re
import stat
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes, FileSystem
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from mien.models.errors import ImageError, ImageTooLargeError
from mien.transforms.elements import FAILURES, Failure, ListedFile, Photo, PhotosAndFailures
from mien.transforms.formats import (
    HIDDEN,
    MANIFEST,
    SHARD,
    Colocate,
    MemberReader,
    PhotoColumn,
    RowReader,
    check_text,
    is_part,
    is_shard,
    kind_of,
    list_members,
    list_rows,
    list_samples,
    read_manifest,
)
from mien.transforms.stores import (
    circuit_breaker,
    common_root,
    is_local,
    join,
    name_under,
    normal_uri,
    not_for_photos,
    stat_file,
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

IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "mpo",  # a JPEG with further ones behind it, of which the first is read
        "png",
        "webp",
        "avif",
        "heic",
        "heif",
        "hif",
        "tif",
        "tiff",
        "gif",
        "bmp",
    )
)
PHOTO_SUFFIXES = IMAGE_SUFFIXES | {SHARD}  # of files that photos are read from
MAX_BYTES = 200_000_000
_WILDCARDS = frozenset("*?[")
_PARTS = {".parquet", SHARD}
# Names of files and folders below an input that are passed over: what systems put beside photos and what was deleted.
EXCLUDED = (
    "._*",
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    ".Trash",
    ".Trash-*",
    ".Trashes",
    "System Volume Information",
    "lost+found",
)
PASSED = "passed_over: "  # of a metric's name, what was passed over behind it

_Entry: TypeAlias = "tuple[str, int, float] | Failure"  # path, bytes, when it was last changed (Unix seconds)


def _suffix(path: str) -> str:
    return posixpath.splitext(path)[1].lower()


def _mode(path: str) -> int | None:
    """What lies at a local path, as st_mode; None where there is nothing.

    OSError for what cannot be told, which os.path.exists takes for nothing there: no permission for a folder above it,
    a path that is too long, links that go round in a circle, a mount that is gone.
    """
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _is_file(files: FileSystem, uri: str) -> bool:
    if is_local(uri):
        mode = _mode(uri)
        return mode is not None and not stat.S_ISDIR(mode)
    # a bare bucket is no object, and Beam's stores say so with a ValueError
    return uri.count("/") > 2 and bool(files.exists(uri))


def _is_pattern(uri: str) -> bool:
    return bool(_WILDCARDS & set(uri)) and not (is_local(uri) and os.path.exists(uri))


def _parted(uri: str) -> tuple[str, str]:
    """The folder before a glob's first wildcard, and the glob; a local folder that is there is no wildcard, whatever
    its name."""
    parts = uri.split("/")
    for n, part in enumerate(parts):
        if _WILDCARDS & set(part) and not (is_local(uri) and os.path.exists("/".join(parts[: n + 1]))):
            break
    return "/".join(parts[:n]), "/".join([*map(glob.escape, parts[:n]), *parts[n:]])


def folder_of(uri: str, suffixes: Iterable[str]) -> str:
    """The folder an input stands for, told without asking a remote store; a glob's is before its first wildcard."""
    if _is_pattern(uri):
        return _parted(uri)[0]
    is_file = os.path.isfile(uri) if is_local(uri) and os.path.exists(uri) else _suffix(uri) in suffixes
    return uri.rpartition("/")[0] if is_file else uri


def is_many(uri: str, suffixes: Iterable[str]) -> bool:
    """Whether an input is a folder or a glob, and no file; told without asking a remote store."""
    return _is_pattern(uri) or folder_of(uri, suffixes) == uri


def patterns_of(inputs: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    """What the URIs of all that the inputs stand for match, whether it is there or not; told without asking a store."""
    found = []
    for uri in inputs:
        if _is_pattern(uri):
            translate = FileSystems.get_filesystem(uri).translate_pattern
            found += [re.compile(translate(glob)) for glob in (uri, f"{uri}/**")]
        else:
            found.append(re.compile(f"{re.escape(uri.rstrip('/'))}(/.*)?", re.DOTALL))
    return tuple(found)


def is_covered(uri: str, patterns: Iterable[re.Pattern[str]]) -> bool:
    """Whether a URI is one of those that patterns_of() is of."""
    return any(pattern.fullmatch(uri) for pattern in patterns)


class _Passed:
    """What is not listed of an input, and the count of that by its kind."""

    def __init__(self, folder: str, globs: Iterable[str], counts: Counter[str]) -> None:
        self._start = len(folder.rstrip("/")) + 1
        globs = list(globs)
        self._names = _any_of([one for one in globs if "/" not in one])
        self._paths = _any_of([one.strip("/") for one in globs if "/" in one])
        self.counts = counts

    def excluded(self, path: str, whole: bool = False) -> bool:
        """Whether a file or folder is left out by its name, or by its path below the folder, and then counts it.

        whole: the folders that it lies in were not asked about before.
        """
        below = path[self._start :]
        parts = below.split("/")
        found = any(self._names.match(part) for part in (parts if whole else parts[-1:])) or any(
            self._paths.match("/".join(parts[:n])) for n in range(1 if whole else len(parts), len(parts) + 1)
        )
        if found:
            self.counts["excluded by name"] += 1
        return found

    def other(self, path: str) -> None:
        """Counts a file that is no photo by its suffix."""
        self.counts[kind_of(_suffix(path), self.counts)] += 1


def _any_of(globs: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(one) for one in globs) or r"(?!)")


def passed_over(counts: Counter[str]) -> str:
    """The counts in one line, the largest first: 3 .dng, 1 .jxl, 2 links to folders."""
    ordered = sorted(counts.items(), key=lambda kind: (-kind[1], kind[0]))
    return ", ".join(f"{number:,} {kind}" for kind, number in ordered)


def _walk(folder: str, passed: _Passed) -> Iterator[_Entry]:
    """Local files below a folder, in no order; links to folders are not followed. A folder that cannot be read is a
    Failure. os.walk would pass over that, and hold all names of a folder."""
    waiting = [folder]
    while waiting:
        parent = waiting.pop()
        try:
            with os.scandir(parent) as entries:
                for entry in entries:
                    if entry.name.startswith(HIDDEN) or passed.excluded(entry.path):
                        continue
                    try:
                        found = entry.stat()
                    except OSError as error:
                        if not entry.is_symlink() or error.errno not in (errno.ENOENT, errno.ELOOP):
                            yield failure_of(entry.path, "list", error)  # it may be a folder of photos
                        elif _suffix(entry.name):  # a link to nothing: reading it will say so
                            yield entry.path, 0, 0.0
                        else:
                            passed.counts["links to nothing"] += 1
                        continue
                    if not stat.S_ISDIR(found.st_mode):
                        yield entry.path, found.st_size, found.st_mtime
                    elif entry.is_symlink():
                        passed.counts["links to folders"] += 1
                    else:
                        waiting.append(entry.path)
        except OSError as error:
            yield failure_of(parent, "list", error)


def _below(files: FileSystem, folder: str, passed: _Passed) -> Iterator[_Entry]:
    if is_local(folder):
        yield from _walk(folder or "/", passed)
    else:
        # the generator under FileSystems.match, which would hold the whole list
        for found in files._list(join(folder, "")):
            if f"/{HIDDEN}" not in found.path[len(folder) :] and not passed.excluded(found.path, whole=True):
                yield found.path, found.size_in_bytes, found.last_updated_in_seconds


def _counted(files: FileSystem, entries: Iterable[_Entry], suffixes: frozenset[str]) -> Iterator[_Entry]:
    """The entries, with the parts of a folder that has a manifest as it names them, whatever else lies there.

    What the manifest names comes from it and not from the listing, which may be older. A manifest that cannot be read
    is a Failure, and none of its folder's parts is listed.
    """
    governed: dict[str, bool] = {}
    for entry in entries:
        folder, _, name = ("", "", "") if isinstance(entry, Failure) else entry[0].rpartition("/")
        if name != MANIFEST and not is_part(name):
            yield entry
            continue
        if folder not in governed:
            governed[folder] = True
            try:
                manifest = read_manifest(folder)
            except Exception as error:
                yield failure_of(join(folder, MANIFEST), "list", error)
                continue
            governed[folder] = manifest is not None
            parts = sorted(part for part in manifest.parts if _suffix(part) in suffixes) if manifest else []
            for path in (join(folder, part) for part in parts):
                try:
                    found = files.metadata(path)
                    yield path, found.size_in_bytes, found.last_updated_in_seconds
                except Exception as error:
                    yield failure_of(path, "list", error)
        if not governed[folder]:
            yield entry


def list_files(
    uri: str,
    root: str,
    suffixes: frozenset[str],
    exclude: str = "",
    globs: Iterable[str] = EXCLUDED,
    counts: Counter[str] | None = None,
) -> Iterator[ListedFile | Failure]:
    """The files that an input stands for, as a stream; a folder that cannot be read comes as a Failure.

    uri: a file, which is always listed; a folder, of which the files with known suffixes are, at any depth; or a glob
        (*, **, ?, []) of either, whose own suffix, if it has one, counts as known. A local file of that very name wins.
    Of a folder's tables and shards of mien's only those count that its manifest names, if it has one; what mien hides
    is passed over. A shard comes as one file.
    root: the folder that names are relative to. exclude: a folder to leave out; empty: none. globs: of names, or where
    they have a slash of paths below the input, of what is passed over there. counts: is added to, by its kind, what was
    passed over: other files, links to folders, what the globs name.
    Raises FileNotFoundError where there is no such file, OSError for one that cannot be looked at, BeamIOError or
    ValueError for a store that cannot be listed.
    """
    if reason := not_for_photos(uri):
        raise ValueError(reason)
    files = FileSystems.get_filesystem(uri)
    if _is_file(files, uri):
        found = files.metadata(uri)
        yield ListedFile(uri, name_under(root, uri), found.size_in_bytes, found.last_updated_in_seconds)
        return
    patterns: list[re.Pattern[str]] = []
    folder = uri
    if _is_pattern(uri):
        folder, pattern = _parted(uri)
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of [[], which is how a [ is named
            patterns = [re.compile(files.translate_pattern(one)) for one in (pattern, f"{pattern}/**")]
        suffixes = suffixes | {_suffix(uri)} - {""}
    if is_local(uri) and not stat.S_ISDIR(_mode(folder or "/") or 0):
        raise FileNotFoundError(f"{uri}: no such file or folder{_hint(uri)}")
    empty = True
    passed = _Passed(folder, globs, Counter() if counts is None else counts)
    entries = _below(files, folder, passed)
    for entry in _counted(files, entries, suffixes) if _PARTS & suffixes else entries:
        if isinstance(entry, Failure):
            empty = False
            yield entry
            continue
        path, size, modified = entry
        if exclude and path.startswith(f"{exclude}/"):
            continue
        if patterns and not any(one.match(path) for one in patterns):
            continue
        if _suffix(path) not in suffixes:
            passed.other(path)
            continue
        empty = False
        yield ListedFile(path, name_under(root, path), size, modified)
    if empty:
        told = f" (passed over: {passed_over(passed.counts)})" if passed.counts else ""
        raise FileNotFoundError(f"{uri}: no file to work on was found there{told}{_hint(uri)}")


def _hint(uri: str) -> str:
    return "; a [ begins a wildcard: [[] names one" if _is_pattern(uri) and "[" in uri else ""


class PhotoReader:
    """Reads photos wherever they are listed; the last shard and the last table stay open, for their next photo."""

    def __init__(self) -> None:
        self._members = MemberReader()
        self._rows = RowReader()

    def read(self, file: ListedFile, max_bytes: int) -> bytes:
        """As read_file."""
        if file.column and not file.path:
            found = self._rows.read(file, max_bytes)
            if isinstance(found, bytes):
                return found
            known = stat_file(found)
            if known is None:
                raise ImageError(f"{found}: no such file")
            file = file.at(found, *known)
        if file.path:
            return read_file(ListedFile(file.path, file.name, file.size, file.modified), max_bytes)
        return self._members.read(file, max_bytes) if file.shard else read_file(file, max_bytes)

    def others(self, file: ListedFile) -> list[tuple[str, bytes]]:
        """As MemberReader.others."""
        return self._members.others(file)

    def close(self) -> None:
        """Closes what is open."""
        self._members.close()
        self._rows.close()


def read_file(file: ListedFile, max_bytes: int = MAX_BYTES) -> bytes:
    """The file's bytes. ImageTooLargeError over max_bytes, before any is read; ImageError for a device or pipe, and for
    a local file that changes while it is read; an object of a store does not, it is replaced. Of many photos of a shard
    or table PhotoReader reads better."""
    if file.shard:
        with contextlib.closing(PhotoReader()) as reader:
            return reader.read(file, max_bytes)
    if file.size > max_bytes:
        raise ImageTooLargeError(f"{file.size} bytes, over the limit of {max_bytes} (--max-bytes)")
    before = os.stat(file.uri) if is_local(file.uri) else None
    if before and not stat.S_ISREG(before.st_mode):
        raise ImageError("not a regular file")
    with (
        circuit_breaker(file.uri),
        FileSystems.open(file.uri, compression_type=CompressionTypes.UNCOMPRESSED) as stream,
    ):
        data: bytes = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ImageTooLargeError(f"grew over the limit of {max_bytes} bytes while it was read (--max-bytes)")
    if before:
        after = os.stat(file.uri)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != after.st_size:
            raise ImageError("changed while it was read")
    return data


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
