"""What a reviewer is shown of a run or of a dry run: its photos, the most doubtful first, and a picture of each.

By default a picture shows no face that the policy hides: it is made of the safe photo that was written; after a dry
run, of the original with those faces filled in. A photo that was withheld has none, only its frame.
"""

import functools
import hashlib
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from PIL import Image

from mien.models.errors import ImageError, PrivacyError, one_line
from mien.models.images import decode_image, encode_image
from mien.models.privacy import Hidden, redact_faces
from mien.pipelines import JobError
from mien.pipelines.reports.report_runs import DONE, FAILED, WITHHELD, Seen, read_run
from mien.pipelines.runs import dry_row_of, rows_of
from mien.transforms.elements import ListedFile
from mien.transforms.formats import (
    SHARD,
    Sample,
    is_part,
    is_shard,
    list_members,
    open_table,
    parts_in,
    photo_column,
    photos_of_rows,
    samples,
)
from mien.transforms.policy import SHOWN
from mien.transforms.preview import PHOTOS
from mien.transforms.sources import IMAGE_SUFFIXES, MAX_BYTES, read_file
from mien.transforms.stores import exists, join, key_of, read_bytes, safe_name, stat_file

SIDE, QUALITY = 1600, 75  # pixels of a picture's longer side at most
IN_PARTS = 500  # photos at most whose pictures are taken out of shards, and held
_SURE = 0.6  # a detector's score
_LARGE = 0.02  # share of the frame
_PLACE = re.compile(r"\((\d{1,6}) x (\d{1,6}) at (-?\d{1,6}), (-?\d{1,6})\)")  # as withheld photos' messages name them

Json = dict[str, Any]


@dataclass(frozen=True)
class Looked:
    """What is shown of a photo. frame: width and height when it is upright. picture: WebP. note: why there is none."""

    frame: tuple[int, int] | None = None
    picture: bytes = b""
    note: str = ""


@dataclass(frozen=True)
class Reviewed:
    """A photo of a run's output folder; dry: of a dry run's. doubts: (weight, why) each, the heaviest first."""

    folder: str
    seen: Seen
    dry: bool
    doubts: tuple[tuple[float, str], ...]

    @property
    def places(self) -> list[tuple[int, ...]]:
        """Boxes that the message of a withheld photo names."""
        found = [tuple(map(int, place)) for place in _PLACE.findall(self.seen.message)]
        return [(x, y, width, height) for width, height, x, y in found]

    @property
    def releasable(self) -> bool:
        """Whether it was withheld only because a face was seen in what was to be written."""
        return self.seen.state == WITHHELD and self.seen.error == PrivacyError.__name__ and self.seen.stage == "redact"


def read_reviewed(folder: str) -> list[Reviewed]:
    """The photos of a run of redact, or of its dry run where there was no other, the most doubtful first.

    Photos that could not be read are left out. Raises JobError for a folder that has no such run.
    """
    if exists(join(folder, "run.json")):
        run = read_run(folder)
        if run.record["command"] != "redact":
            raise JobError(f"{folder}: of mien {run.record['command']}: only what redact wrote can be reviewed")
        seen = [photo for photo in run.photos.values() if photo.state != FAILED]
    elif exists(join(folder, PHOTOS)):
        try:
            rows = [row for row in rows_of(join(folder, PHOTOS), dry_row_of) if row is not None]
        except Exception as error:
            raise JobError(f"{folder}: its files cannot be read: {type(error).__name__}: {error}") from error
        seen = [
            Seen(row["uri"], DONE, row["size"], faces=tuple(row["faces"]), modified=row["modified"]) for row in rows
        ]
    else:
        raise JobError(f"{folder}: no output of mien redact: there is neither run.json nor {PHOTOS} in it")
    dry = not exists(join(folder, "run.json"))
    photos = [Reviewed(folder, photo, dry, doubts_of(photo)) for photo in seen]
    return sorted(photos, key=lambda photo: (-sum(weight for weight, _ in photo.doubts), photo.seen.uri))


def doubts_of(photo: Seen) -> tuple[tuple[float, str], ...]:
    """What speaks for looking at a photo: (weight, why), the heaviest first."""
    if photo.state == WITHHELD:
        return ((100.0, "withheld"),)
    faces = photo.faces or ()
    found: list[tuple[float, str]] = []
    if late := sum(not face["decided"] for face in faces):
        found.append((40.0 + late, f"{late} found at the second look"))
    if escalated := sum(face["action"] != face["decided"] for face in faces if face["decided"]):
        found.append((30.0 + escalated, f"{escalated} filled in after all"))
    if doubted := sum(face.get("doubted", False) for face in faces):
        found.append((20.0 + doubted, f"{doubted} in doubt"))
    scores = [face["score"] for face in faces if face["score"] is not None]
    if scores and min(scores) < _SURE:
        found.append((20 * (1 - min(scores)), f"score {min(scores):.2f}"))
    areas = [face["area"] or 0.0 for face in faces if face["action"] in SHOWN]
    if areas and max(areas) >= _LARGE:
        found.append((10 + 30 * max(areas), f"{max(areas):.0%} of the frame shown"))
    if not faces:
        found.append((5.0, "no face found"))
    return tuple(sorted(found, reverse=True))


class Pictures:
    """Looks at photos: makes their pictures. show_faces: of the originals as they are."""

    def __init__(self, photos: Sequence[Reviewed], show_faces: bool) -> None:
        self._show_faces = show_faces
        self._held: dict[str, Looked] = {}
        if not show_faces:
            self._hold_parts(photos)

    def look(self, photo: Reviewed) -> Looked:
        """The photo's frame and picture; what keeps it from being shown is its note."""
        try:
            if photo.seen.uri in self._held:
                return self._held[photo.seen.uri]
            if self._show_faces or photo.dry or photo.seen.state == WITHHELD:
                return self._original(photo)
            if is_part(photo.seen.name):
                return Looked(note="its shard is gone, or has more photos than are shown")
            return _looked(_checked(read_bytes(join(photo.folder, safe_name(photo.seen.name))), photo.seen))
        except Exception as error:  # what cannot be understood is not shown
            return Looked(note=f"cannot be shown: {one_line(error, 300)}")

    def _original(self, photo: Reviewed) -> Looked:
        file = original(photo.seen.uri)
        if file is None:
            return Looked(note="the original is not where it was")
        if photo.seen.modified is not None and (file.size, file.modified) != (photo.seen.source, photo.seen.modified):
            return Looked(note="the original has changed since the run")
        pixels = decode_image(read_file(file))
        if self._show_faces:
            return _looked_at(pixels)
        if photo.seen.state == WITHHELD:
            return Looked((pixels.shape[1], pixels.shape[0]), note="withheld: nothing of it is shown")
        hidden = [face["box"] for face in photo.seen.faces or () if face["action"] not in SHOWN]
        return _looked_at(redact_faces(pixels, [Hidden(tuple(box), ()) for box in hidden]))

    def _hold_parts(self, photos: Sequence[Reviewed]) -> None:
        """Takes the pictures of photos in shards, which are read from their start."""
        within = [photo for photo in photos if is_part(photo.seen.name)][:IN_PARTS]
        for folder in dict.fromkeys(photo.folder for photo in within):
            left = {key_of(photo.seen.uri): photo.seen for photo in within if photo.folder == folder}
            for name in sorted(parts_in(folder), reverse=True):
                try:
                    for key, data in _pictures_of(join(folder, name)):
                        seen = left.get(key)
                        if seen is not None and hashlib.sha256(data).hexdigest() == seen.sha256:
                            self._held[seen.uri] = _looked(data)
                            del left[key]
                except (OSError, ValueError, ImageError, tarfile.TarError):
                    continue


def _pictures_of(part: str) -> Iterator[tuple[str, bytes]]:
    """The image files of a part by key_of their photos' uris. Raises what readers of shards and tables raise."""
    if is_shard(part):
        for sample in samples(part, IMAGE_SUFFIXES, MAX_BYTES):
            if isinstance(sample, Sample):
                yield sample.photo, sample.data
        return
    with FileSystems.open(part, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        table = open_table(stream)
        if column := photo_column(table):
            yield from photos_of_rows(table, column)


def _checked(data: bytes, seen: Seen) -> bytes:
    """The bytes, if they are those that were written. Raises ImageError."""
    if not seen.sha256 or hashlib.sha256(data).hexdigest() != seen.sha256:
        raise ImageError("the output is not the one that was written")
    return data


def _looked(data: bytes) -> Looked:
    return _looked_at(decode_image(data))


def _looked_at(pixels: Any) -> Looked:
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return Looked((pixels.shape[1], pixels.shape[0]), encode_image(np.asarray(image), "webp", QUALITY))


def original(uri: str) -> ListedFile | None:
    """The file that a photo was read from, in a shard or by itself, as it is now; None where it is not there."""
    shard, mark, _ = uri.partition(f"{SHARD}/")
    if mark and (member := _members(f"{shard}{SHARD}").get(uri)):
        return member
    found = stat_file(uri)
    return ListedFile(uri, uri.rpartition("/")[2], *found) if found else None


@functools.lru_cache(maxsize=8)
def _members(shard: str) -> dict[str, ListedFile]:
    found = stat_file(shard)
    if found is None:  # or a folder with such a name
        return {}
    listed = list_members(ListedFile(shard, shard.rpartition("/")[2], *found), IMAGE_SUFFIXES)
    return {file.uri: file for file in listed if isinstance(file, ListedFile)}
