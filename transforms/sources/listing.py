"""What an input stands for: the files of folders, globs and stores, and what is passed over there."""

import errno
import fnmatch
import glob
import os
import posixpath
import re
import stat
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from apache_beam.io.filesystem import FileSystem
from apache_beam.io.filesystems import FileSystems

from mien.transforms.elements import Failure, ListedFile
from mien.transforms.formats import (
    HIDDEN_PREFIX,
    MANIFEST,
    SHARD,
    is_part,
    kind_of,
    read_manifest,
)
from mien.transforms.stores import (
    is_local,
    join,
    name_under,
    not_for_photos,
)
from mien.transforms.workers import (
    failure_of,
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
                    if entry.name.startswith(HIDDEN_PREFIX) or passed.excluded(entry.path):
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
            if f"/{HIDDEN_PREFIX}" not in found.path[len(folder) :] and not passed.excluded(found.path, whole=True):
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
