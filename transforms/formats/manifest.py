"""Which parts of an output, tables or shards, count: a small manifest beside them, written last and whole, names them.

A run places its parts beside the others, where no reader of mien's counts them yet, and a commit puts the new manifest
in the place of the old one. A run that was killed before that has changed nothing. models/FORMAT.md has the layout.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apache_beam.io.filesystems import FileSystems

from mien.transforms.stores import delete, files_named, join, parse_json, read_bytes, stat_file, write_whole

MANIFEST = "_manifest.json"  # readers of folders of tables (pyarrow, Spark, DuckDB's hive layout) pass over a leading _
HIDDEN_PREFIX = ".mien-"  # what begins so is a run's own, and never a result
VERSION = 1
MAX_BYTES = 64_000_000  # of a manifest; some hundred a part
# of a copy, made without the rows of photos that were done anew, a run's id stands behind the name that the part had
_PART = re.compile(r"(photos-[^/]+?-[0-9a-f]{12})(?:\.[^/]+)?(\.parquet|\.tar)")


@dataclass(frozen=True)
class Manifest:
    """parts: names of the parts that count. run: the run that wrote it. gone: parts whose place those take. files:
    bytes and time (Unix seconds) of the parts, as they were when they began to count."""

    run: str
    parts: tuple[str, ...]
    gone: tuple[str, ...] = ()
    files: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """As it lies in the file."""
        record: dict[str, Any] = {"version": VERSION, "run": self.run}
        record |= {"parts": sorted(self.parts), "gone": list(self.gone)}
        if self.files:
            record["files"] = {name: {"bytes": size, "modified": at} for name, (size, at) in sorted(self.files.items())}
        return f"{json.dumps(record, indent=1)}\n".encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """ValueError for what is no manifest, is of a later version, or names files that are no parts of mien's."""
        try:
            record: dict[str, Any] = parse_json(data)
            version, run = record["version"], str(record["run"])
            parts, gone = tuple(record["parts"]), tuple(record["gone"])
            files = {
                name: (int(file["bytes"]), float(file["modified"])) for name, file in record.get("files", {}).items()
            }
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"no manifest of tables: {error!r}") from error
        if version != VERSION:
            raise ValueError(f"a manifest of version {version}, which this mien does not know")
        if strange := [name for name in (*parts, *gone) if not isinstance(name, str) or not is_part(name)]:
            raise ValueError(f"the manifest names {strange[0]!r}, which is no part of a table")
        return cls(run, parts, gone, files)

    def holds(self, name: str) -> bool:
        """Whether the part of that name, or a copy of it without some rows, counts."""
        return bool(self.find(name))

    def find(self, name: str) -> str:
        """The name of the part that counts and is of that name or a copy of it without some rows; empty: there is none.

        A run makes one copy of a part at most, and that takes the part's place.
        """
        return next((part for part in self.parts if _original(name) == _original(part)), "")


def is_part(name: str) -> bool:
    """Whether a file's name is one that WriteParquet or WriteWebDataset gives."""
    return _PART.fullmatch(name) is not None


def suffix_of(name: str) -> str:
    """.parquet or .tar, of a part's name."""
    found = _PART.fullmatch(name)
    return found[2] if found else ""


def _original(name: str) -> str:
    found = _PART.fullmatch(name)
    return found[1] if found else name


def is_copy(name: str) -> bool:
    """Whether a part's name is that of a copy, which has lost some of what the part held."""
    return _original(name) + suffix_of(name) != name


def copy_name(name: str, run_id: str) -> str:
    """What a run's copy of a part is called."""
    return f"{_original(name)}.{run_id}{suffix_of(name)}"


def parts_in(folder: str) -> list[str]:
    """Names of the parts that are in a folder or URI, whether they count or not."""
    names = (path.rpartition("/")[2] for path in files_named(folder, "photos-", ""))
    return [name for name in names if is_part(name)]


def read_manifest(folder: str) -> Manifest | None:
    """The manifest of an output folder or URI, None where there is none. ValueError for one that cannot be read."""
    path = join(folder, MANIFEST)
    try:
        return Manifest.from_json(read_bytes(path, MAX_BYTES)) if FileSystems.exists(path) else None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parts_of(folder: str) -> Manifest:
    """What the manifest says, or, of a folder without one, all parts that are there."""
    found = read_manifest(folder)
    if found is not None:
        return found
    return Manifest("", tuple(parts_in(folder)))


def pending(folder: str, run_id: str) -> str:
    """Where a run's manifest waits until it is committed."""
    return join(join(folder, hidden_folder(run_id)), MANIFEST)


def hidden_folder(run_id: str) -> str:
    """Where what a run has not finished lies below the output; readers of tables pass over such names."""
    return f"{HIDDEN_PREFIX}{run_id}"


def commit(folder: str, run_id: str) -> None:
    """Makes the parts that a run has placed count, all at once; nothing where the run has placed none.

    The parts whose place they take are deleted after that.
    """
    path = pending(folder, run_id)
    if not FileSystems.exists(path):
        return
    manifest = Manifest.from_json(read_bytes(path, MAX_BYTES))
    try:
        before = read_manifest(folder)
    except ValueError:  # it is replaced
        before = None
    known = before.files if before else {}
    found = {name: known.get(name) or stat_file(join(folder, name)) for name in manifest.parts}
    files = {name: file for name, file in found.items() if file}
    write_whole(join(folder, MANIFEST), dataclasses.replace(manifest, files=files).to_json())
    for name in manifest.gone:
        delete(join(folder, name))
    delete(path)


def roll_back(folder: str, run_id: str) -> None:
    """Deletes the parts that a run has placed and never committed; none where its manifest is damaged: then no
    part that it placed counts."""
    path = pending(folder, run_id)
    if not FileSystems.exists(path):
        return
    counted = parts_of(folder).parts
    try:
        placed = Manifest.from_json(read_bytes(path, MAX_BYTES)).parts
    except ValueError:
        return
    for name in placed:
        if name not in counted:
            delete(join(folder, name))
