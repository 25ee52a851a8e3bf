"""mien inspect: what is inside a file, byte by byte: a coded photo, a table or shard of them, or a coded face."""

import argparse
import json
import stat
import tarfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mien.models.codec import describe as describe_payload
from mien.models.errors import ContainerError, ImageError, PayloadError
from mien.models.images import describe as describe_container
from mien.models.images import extract, image_size, strip
from mien.pipelines import JobError
from mien.transforms.formats import ROOT_KEY, SCHEMA, is_part, open_table, parts_of, samples
from mien.transforms.sources import IMAGE_SUFFIXES, MAX_BYTES
from mien.transforms.stores import printable

_PARQUET, _TAR, _IMAGES = b"PAR1", b"ustar", (b"\xff\xd8", b"RIFF")
_FACE_COLUMNS = ("x", "y", "w", "h", "action", "rule", "model", "score")


def run(args: argparse.Namespace) -> int:
    """Prints what the file holds; 0. Raises MienError for a file that is none of mien's or is damaged."""
    found = inspect(Path(args.file))
    print(json.dumps(found, indent=1) if args.json else "\n".join(map(printable, _text(found))))
    return 0


def inspect(path: Path) -> dict[str, Any]:
    """What the file holds, as JSON can say it; `kind` is photo, picture, table, shard or face."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise JobError(f"{path}: not a regular file")
        with path.open("rb") as stream:
            start = stream.read(512)
    except OSError as error:
        raise JobError(f"{path}: {error.strerror}") from error
    if start[:4] == _PARQUET:
        return _table(path)
    if start.startswith(_IMAGES) or start[4:8] == b"ftyp":
        return _photo(_whole(path))
    if start[257:262] == _TAR:
        return _shard(path)
    try:
        return {"kind": "face", "bytes": path.stat().st_size, "payload": _fields(_whole(path))}
    except PayloadError as error:
        raise JobError(f"{path}: no AVIF, WebP, JPEG, Parquet or tar file, nor a coded face: {error}") from error


def _whole(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise JobError(f"{path}: over the limit of {MAX_BYTES} bytes")
    return path.read_bytes()


def _photo(data: bytes) -> dict[str, Any]:
    pieces = describe_container(data)
    try:
        photo = extract(data)
    except ContainerError as error:
        if any(piece.name.startswith("mien.") for piece in pieces):
            raise
        return {
            "kind": "picture",
            "bytes": len(data),
            "note": str(error),
            "pieces": [asdict(piece) for piece in pieces],
        }
    faces = [
        {
            **{key: getattr(face, key) for key in ("box", "action", "rule", "model", "score")},
            "bytes": len(face.payload),
            "payload": _fields(face.payload) if face.payload else [],
        }
        for face in photo.faces
    ]
    return {
        "kind": "photo",
        "bytes": len(data),
        "chunk_bytes": len(data) - len(strip(data)),
        "width": photo.width,
        "height": photo.height,
        "picture": "{} x {}".format(*image_size(data)),
        "faces_in_pixels": photo.unlisted,
        "policy": photo.policy,
        "version": photo.version,
        "faces": faces,
        "pieces": [asdict(piece) for piece in pieces],
    }


def _table(path: Path) -> dict[str, Any]:
    try:
        table = open_table(str(path))
        meta = table.metadata
        columns: dict[str, dict[str, int]] = {}
        for group in range(meta.num_row_groups):
            for i in range(meta.num_columns):
                chunk = meta.row_group(group).column(i)
                size = columns.setdefault(chunk.path_in_schema, {"bytes": 0, "unpacked": 0})
                size["bytes"] += chunk.total_compressed_size
                size["unpacked"] += chunk.total_uncompressed_size
        found = {
            "kind": "table",
            "bytes": path.stat().st_size,
            "rows": meta.num_rows,
            "row_groups": meta.num_row_groups,
            "counted": _counted(path),
            "root": (meta.metadata or {}).get(ROOT_KEY, b"").decode(errors="replace"),
            "schema": {field.name: str(field.type) for field in table.schema_arrow},
            "columns": columns,
        }
        if set(SCHEMA.names) <= set(table.schema_arrow.names):
            found["photos"] = list(_rows(table))
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise JobError(f"{path}: not a Parquet table that can be read: {error}") from error
    return found


def _counted(path: Path) -> bool:
    return not is_part(path.name) or path.name in parts_of(str(path.absolute().parent)).parts


def _shard(path: Path) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    try:
        for sample in samples(str(path), IMAGE_SUFFIXES, MAX_BYTES):
            if isinstance(sample, Exception):
                found.append({"note": str(sample)})
            else:
                found.append({"key": sample.key, "suffix": sample.suffix, "bytes": len(sample.data), **sample.about})
        return {"kind": "shard", "bytes": path.stat().st_size, "counted": _counted(path), "samples": found}
    except (OSError, ValueError, ImageError, tarfile.TarError) as error:
        raise JobError(f"{path}: not a shard that can be read: {error}") from error


def _rows(table: pq.ParquetFile) -> Iterable[dict[str, Any]]:
    wanted = ["uri", "source_bytes", "width", "height", "background", "background_codec", "faces", "policy", "version"]
    for batch in table.iter_batches(16, columns=wanted):
        sizes = pc.binary_length(batch.column("background")).to_pylist()
        rows = pa.Table.from_batches([batch]).drop_columns(["background"]).to_pylist()
        for row, size in zip(rows, sizes, strict=True):
            faces = [
                {**{name: face[name] for name in _FACE_COLUMNS}, "bytes": len(face["payload"])} for face in row["faces"]
            ]
            yield {**row, "background_bytes": size, "faces": faces}


def _fields(payload: bytes) -> list[dict[str, Any]]:
    return [
        {"offset": offset, "length": length, "name": name, "value": value}
        for offset, length, name, value in describe_payload(payload)
    ]


def _text(found: dict[str, Any]) -> Iterable[str]:
    """The same for eyes: one line a piece."""
    plain = {key: value for key, value in found.items() if not isinstance(value, list | dict)}
    yield ", ".join(f"{key} {value}" for key, value in plain.items() if key != "kind" and value != "")
    for name, kind in found.get("schema", {}).items():
        yield f"  column {name}: {kind}"
    for name, size in found.get("columns", {}).items():
        yield f"  {size['bytes']:>10} bytes ({size['unpacked']} unpacked)  {name}"
    for photo in found.get("photos", []):
        head = f"{photo['width']} x {photo['height']}, {photo['source_bytes']} -> {photo['background_bytes']}"
        yield f"photo {photo['uri']}: {head} bytes + {sum(face['bytes'] for face in photo['faces'])} of faces"
        yield from _face_lines(photo["faces"])
    for sample in found.get("samples", []):
        yield from _sample_lines(sample)
    yield from _piece_lines(found.get("pieces", []))
    for face in found.get("faces", []):
        yield from _face_lines([face])
        yield from (f"  {line}" for line in _piece_lines(face["payload"]))
    yield from _piece_lines(found.get("payload", []))


def _sample_lines(sample: dict[str, Any]) -> Iterable[str]:
    """In another's shard what lies beside an image may say anything."""
    if "note" in sample:
        yield f"sample {sample['note']}"
        return
    yield f"sample {sample['key']}{sample['suffix']}: {sample['bytes']} bytes"
    try:
        place = f"{sample['width']} x {sample['height']}, {sample['source_bytes']} bytes"
        yield from [f"  of {sample.get('uri', sample['name'])}, {place}", *_face_lines(sample["faces"])]
    except (KeyError, TypeError, ValueError):  # another's
        return


def _face_lines(faces: list[dict[str, Any]]) -> Iterable[str]:
    for face in faces:
        x, y, w, h = face["box"] if "box" in face else (face[side] for side in "xywh")
        place = f"{w:.0f} x {h:.0f} at {x:.0f}, {y:.0f}"
        coded = f", {face['bytes']} bytes" if "bytes" in face else ""
        score = "" if face["score"] is None else f", score {face['score']:.2f}"
        yield f"  face {place}: {face['action']} by {face['rule']!r}{coded}{score}"


def _piece_lines(pieces: list[dict[str, Any]]) -> Iterable[str]:
    for piece in pieces:
        yield f"  {piece['offset']:>9} {piece['length']:>9}  {piece['name']}  {piece['value']}".rstrip()
