"""A file or folder of boxes that somebody else has found or drawn: read as a whole before a job starts, and looked up
photo by photo on the way.
"""

import functools
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mien.models.errors import BoxesError
from mien.models.faces import FACE_KIND, Face, bad_box
from mien.transforms.boxes.formats import BOXES_AN_IMAGE, ImageBoxes, parse_file, parse_folder
from mien.transforms.stores import is_local, read_start

_MAX_BYTES = 500_000_000
_FOLDER = (".txt", ".xmp", ".yaml", ".yml", ".names")  # what of a folder is read


@dataclass(frozen=True)
class Unmatched:
    """What of a box file is about none of the photos: names of images, as the file has them."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class BoxFile:
    """What travels in a box file's place: where it lies, the digest of what it holds, and the kinds of its boxes."""

    uri: str
    digest: str
    kinds: tuple[str, ...]

    @classmethod
    def at(cls, uri: str) -> "BoxFile":
        """The file as it is now: COCO JSON, CSV, Parquet; or a folder of YOLO's .txt or of .xmp sidecars. BoxesError
        for one that cannot be read."""
        digest, entries = _read(uri)
        kinds = {face.kind for entry in entries.values() for face in entry.faces}
        return cls(uri, digest, tuple(sorted(kinds or {FACE_KIND})))

    def of(self, name: str, uri: str, size: tuple[int, int], alone: bool) -> list[Face]:
        """What the file says of a photo. name: below the inputs' common folder; size: width, height in pixels.

        alone: nobody else looks for faces in it. BoxesError for what cannot be so: a box that is none or lies outside
        the photo, a frame of another size, and, where the file is alone, a photo of which it says nothing.
        """
        found = _find(_entries(self.uri, self.digest), name, uri)
        if found is None:
            if alone:
                raise BoxesError("withheld: the box file says nothing about this photo, and no detector looks at it")
            return []
        return _faces(found, size)

    def check_photos(self, photos: Iterable[tuple[str, str]]) -> Unmatched:
        """What is about none of the photos (name, uri). BoxesError for an image whose name two photos have."""
        entries = _entries(self.uri, self.digest)
        seen: Counter[str] = Counter()
        for name, uri in photos:
            if (key := _key(entries, name, uri)) is not None:
                seen[key] += 1
        if several := next((key for key, count in seen.items() if count > 1), None):
            told = f"{seen[several]} photos have this name: their paths are needed"
            raise BoxesError(f"{self.uri}: {entries[several].name}: {told}")
        return Unmatched(tuple(entry.name for key, entry in entries.items() if key not in seen))


def _faces(entry: ImageBoxes, size: tuple[int, int]) -> list[Face]:
    width, height = size
    if entry.problem:
        raise BoxesError(f"withheld: the box file says of it: {entry.problem}")
    if entry.frame and entry.frame != size:
        told = f"a frame of {entry.frame[0]} x {entry.frame[1]}, and the upright photo has {width} x {height}"
        raise BoxesError(f"withheld: the box file has {told}")
    if len(entry.faces) > BOXES_AN_IMAGE:
        raise BoxesError(f"withheld: the box file has over {BOXES_AN_IMAGE} boxes for it")
    found = []
    for face in entry.faces:
        x, y, w, h = face.box
        box = (x * width, y * height, w * width, h * height) if entry.relative else face.box
        if reason := bad_box(box, width, height):
            raise BoxesError(f"withheld: the box file has a box {reason}")
        found.append(Face(box, face.score, kind=face.kind))
    return found


def _find(entries: Mapping[str, ImageBoxes], name: str, uri: str) -> ImageBoxes | None:
    key = _key(entries, name, uri)
    return None if key is None else entries[key]


def _key(entries: Mapping[str, ImageBoxes], name: str, uri: str) -> str | None:
    """The key of the entry that is about a photo: by its URI, its name, or the longest end of its path that there is,
    with its suffix or (as in YOLO's folders) without."""
    parts = uri.partition("://")[2].split("/") if "://" in uri else uri.split("/")
    ends = ["/".join(parts[i:]) for i in range(len(parts))]
    for path in (uri, name, *ends):
        for key in (path, os.path.splitext(path)[0] + "."):  # a dot at its end marks a name without its suffix
            if key in entries:
                return key
    return None


@functools.lru_cache(maxsize=4)
def _entries(uri: str, digest: str) -> Mapping[str, ImageBoxes]:
    found, entries = _read(uri)
    if found != digest:
        raise BoxesError(f"{uri}: the boxes were changed while the job ran")
    return entries


def _read(uri: str) -> tuple[str, Mapping[str, ImageBoxes]]:
    """The digest of what is there, and what it says. BoxesError."""
    try:
        if is_local(uri) and os.path.isdir(uri):
            files = _files(uri)
            sums = [hashlib.sha256(data).hexdigest() + name for name, data in files.items()]
            return hashlib.sha256("\n".join(sums).encode()).hexdigest()[:16], parse_folder(files)
        data = read_start(uri, _MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise BoxesError(f"over {_MAX_BYTES} bytes")
        return hashlib.sha256(data).hexdigest()[:16], parse_file(data, uri)
    except BoxesError as error:
        raise BoxesError(f"{uri}: {error}") from error
    except Exception as error:  # every store has errors of its own
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise BoxesError(f"{uri}: the boxes cannot be read: {reason[:300] or type(error).__name__}") from error


def _files(folder: str) -> dict[str, bytes]:
    """By their paths below the folder, in order, the files that may say something."""
    found = {}
    for place, folders, names in os.walk(folder, onerror=_refuse):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(_FOLDER) and not name.startswith("."):
                path = os.path.join(place, name)
                with open(path, "rb") as stream:
                    found[os.path.relpath(path, folder)] = stream.read(_MAX_BYTES)
    return found


def _refuse(error: OSError) -> None:
    raise error
