"""The report's page: one file, nothing loaded from elsewhere.

Its pictures are made of what the runs wrote, never of a photo that went in, and show no face that was found: one that
the policy leaves in the output is filled in before the picture is shrunk. A photo that was withheld has none.
"""

import datetime
import functools
import hashlib
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from PIL import Image
from tqdm import tqdm

from mien.models.errors import ImageError
from mien.models.images import decode_image, encode_image, extract
from mien.models.privacy import REDACTIONS, Hidden, redact_faces
from mien.pipelines.reports.report_runs import DONE, FAILED, WITHHELD, Run, Seen, total
from mien.transforms.formats import Sample, is_part, is_shard, parts_in, photo_column, photos_of_rows, samples
from mien.transforms.page import data_uri, render
from mien.transforms.sources import IMAGE_SUFFIXES, MAX_BYTES
from mien.transforms.steps import VERSION
from mien.transforms.stores import join, key_of, read_bytes, safe_name

PHOTOS = 2000  # listed at most
PICTURES, SIDE, QUALITY, BYTES = 300, 400, 55, 6_000_000  # at most so many, pixels of the longer side, bytes in all
_NONE = "\N{EN DASH}"

Box = tuple[float, float, float, float]


def page(runs: Sequence[Run], quiet: bool = True) -> str:
    """The page of one or several runs."""
    listed = sorted(((run, photo) for run in runs for photo in run.photos.values()), key=_order)
    shown = listed[:PHOTOS]
    filters: dict[str, Callable[..., str]] = {
        "bytes": _bytes,
        "seconds": _seconds,
        "number": _number,
        "percent": _percent,
    }
    return render(
        "report.html",
        filters,
        runs=runs,
        names=_names(runs),
        photos=[(run, photo) for run, photo in sorted(shown, key=lambda one: -(one[1].spent or 0))],
        left_out=len(listed) - len(shown),
        pictures=_pictures(shown, quiet),
        states=(DONE, WITHHELD, FAILED),
        total=total,
        version=VERSION,
        created=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
    )


def _names(runs: Sequence[Run]) -> dict[str, str]:
    """What each run is called on the page: its folder's name, the whole path where two have the same."""
    last = [run.folder.rpartition("/")[2] for run in runs]
    return {run.folder: name if last.count(name) == 1 else run.folder for run, name in zip(runs, last, strict=True)}


def _order(one: tuple[Run, Seen]) -> tuple[bool, int]:
    """What was lost is listed first, then what took longest."""
    return one[1].state == DONE, -(one[1].spent or 0)


def _pictures(photos: Sequence[tuple[Run, Seen]], quiet: bool) -> dict[tuple[str, str], str]:
    """(folder, uri) -> the picture as a data URI, as far as the bounds reach."""
    wanted: dict[str, tuple[Run, list[Seen]]] = {}
    for run, photo in [one for one in photos if one[1].state == DONE][:PICTURES]:
        wanted.setdefault(run.folder, (run, []))[1].append(photo)
    found: dict[tuple[str, str], str] = {}
    size = 0
    count = sum(len(some) for _, some in wanted.values())
    with tqdm(total=count, desc="pictures", leave=False, disable=quiet or None) as bar:
        for run, some in wanted.values():
            for photo, picture in _safe_pictures(run, some):
                bar.update()
                size += len(picture)
                if size > BYTES:
                    return found
                found[run.folder, photo.uri] = data_uri(picture, "webp")
    return found


def _safe_pictures(run: Run, photos: Sequence[Seen]) -> Iterator[tuple[Seen, bytes]]:
    """Small WebP pictures of those photos that have one. Restored and magnified photos have none: they show faces."""
    if run.record["command"] not in ("compress", "redact"):
        return
    within = {photo.uri: photo for photo in photos if is_part(photo.name)}
    for photo in photos:
        path = join(run.folder, safe_name(photo.name))
        if photo.uri not in within and (picture := _of_image(functools.partial(read_bytes, path), photo)) is not None:
            yield photo, picture
    yield from _of_parts(run.folder, within)


def _of_image(read: Callable[[], bytes], photo: Seen) -> bytes | None:
    """Of an image file; None for one that is gone, or that is no longer the one that was written."""
    try:
        data = read()
        if not photo.sha256 or hashlib.sha256(data).hexdigest() != photo.sha256:
            return None
        if photo.faces is None:
            boxes = [face.box for face in extract(data).faces if face.action == "keep"]
        else:
            boxes = [tuple(face["box"]) for face in photo.faces if face["action"] not in REDACTIONS]
        return safe_picture(data, boxes)
    except Exception:  # what cannot be understood is not shown
        return None


def _of_parts(folder: str, left: dict[str, Seen]) -> Iterator[tuple[Seen, bytes]]:
    """Those of a folder's tables and shards, the newest part first."""
    for name in sorted(parts_in(folder), reverse=True) if left else []:
        path = join(folder, name)
        try:
            if is_shard(name):
                for photo, data in _of_shard(path, left):
                    if (picture := _of_image(functools.partial(bytes, data), photo)) is not None:
                        yield left.pop(photo.uri), picture
                continue
            with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
                table = pq.ParquetFile(stream)
                if column := photo_column(table):
                    by_key = {key_of(uri): photo for uri, photo in left.items()}
                    for key, data in photos_of_rows(table, column):
                        seen = by_key.get(key)
                        if seen and (picture := _of_image(functools.partial(bytes, data), seen)) is not None:
                            yield left.pop(seen.uri), picture
                    continue
                for uri, picture in _of_table(table, set(left)):
                    yield left.pop(uri), picture
        except (OSError, ValueError, ImageError, tarfile.TarError):
            continue


def _of_shard(path: str, photos: Mapping[str, Seen]) -> Iterator[tuple[Seen, bytes]]:
    by_key = {key_of(uri): photo for uri, photo in photos.items()}
    for sample in samples(path, IMAGE_SUFFIXES, MAX_BYTES):
        photo = by_key.get(sample.photo) if isinstance(sample, Sample) else None
        if photo is not None and isinstance(sample, Sample):
            yield photo, sample.data


def _of_table(table: pq.ParquetFile, uris: set[str]) -> Iterator[tuple[str, bytes]]:
    for group in range(table.num_row_groups):
        if not uris.intersection(table.read_row_group(group, ["uri"]).column("uri").to_pylist()):
            continue
        for row in table.read_row_group(group, ["uri", "background", "faces"]).to_pylist():
            if row["uri"] in uris:
                boxes = [
                    (face["x"], face["y"], face["w"], face["h"]) for face in row["faces"] if face["action"] == "keep"
                ]
                yield row["uri"], safe_picture(row["background"], boxes)


def safe_picture(image_file: bytes, boxes: Sequence[Box]) -> bytes:
    """A WebP of at most SIDE pixels of a written image file, the faces in the boxes filled in. Raises ImageError."""
    pixels = decode_image(image_file)
    hidden = redact_faces(pixels, [Hidden(box, ()) for box in boxes])
    image = Image.fromarray(hidden)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return encode_image(np.asarray(image), "webp", QUALITY)


def _bytes(value: int | None) -> str:
    if value is None:
        return _NONE
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value} B"


def _seconds(milliseconds: float | None) -> str:
    return _NONE if milliseconds is None else f"{milliseconds / 1000:.2f}"


def _number(value: Any) -> str:
    return _NONE if value is None else f"{value:,}"


def _percent(part: float | None, whole: float | None) -> str:
    return _NONE if part is None or not whole else f"{part / whole:.1%}"
