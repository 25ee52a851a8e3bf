"""What the formats of box files say: COCO JSON, CSV, Parquet, YOLO's folders, XMP sidecars with MWG regions."""

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import pyarrow.parquet as pq
import yaml

from mien.models.errors import BoxesError
from mien.models.faces import FACE_KIND, KIND_PATTERN, Face

BOXES_AN_IMAGE = 10_000
_IMAGE = ("image", "file_name", "filename", "path", "uri")  # what the column with an image's name may be called
_COLUMNS = "image, x, y, w, h, and if known kind, score, frame_width, frame_height"
_CLASSES = ("classes.txt", "obj.names")
_RS, _AREA, _DIM = (
    "{http://www.metadataworkinggroup.com/schemas/regions/}",
    "{http://ns.adobe.com/xmp/sType/Area#}",
    "{http://ns.adobe.com/xap/1.0/sType/Dimensions#}",
)
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_NO_REGION = frozenset(("focus",))  # MWG types that say where the camera looked


@dataclass(frozen=True)
class ImageBoxes:
    """What is said of one image. faces: boxes in its pixels, or relative to its width and height. frame: its width and
    height, where they are said. problem: what is wrong with it; nothing that is said of it can then be relied on."""

    name: str
    faces: tuple[Face, ...] = ()
    frame: tuple[int, int] | None = None
    relative: bool = False
    problem: str = ""


Entries = dict[str, ImageBoxes]


def parse_file(data: bytes, name: str) -> Entries:
    """What a file says, by the names of images. BoxesError."""
    if data.startswith(b"PAR1"):
        table = pq.read_table(io.BytesIO(data)).to_pylist()
        return _from_rows(enumerate(table, 1), "row")
    if data.lstrip()[:1] in (b"{", b"["):
        return _from_coco(data)
    if name.lower().endswith((".csv", ".tsv")):
        text = data.decode("utf-8-sig")
        rows = csv.DictReader(io.StringIO(text), delimiter="\t" if name.lower().endswith(".tsv") else ",", strict=True)
        return _from_rows(((rows.line_num, row) for row in rows), "line")
    raise BoxesError("no COCO JSON, CSV or Parquet file, and no folder")


def parse_folder(files: Mapping[str, bytes]) -> Entries:
    """What a folder's files say: YOLO's .txt, or else .xmp sidecars. BoxesError."""
    labels = {name: data for name, data in files.items() if _is_label(name)}
    sidecars = {name: data for name, data in files.items() if name.lower().endswith(".xmp")}
    if labels and sidecars:
        raise BoxesError("both .txt and .xmp files are there: name a folder that has one kind")
    if not labels and not sidecars:
        raise BoxesError("neither .txt files (YOLO) nor .xmp sidecars are there")
    if labels:
        kinds = _classes(files)
        return {f"{os.path.splitext(name)[0]}.": _yolo(name, data, kinds) for name, data in labels.items()}
    return {_pictured(name): _sidecar(name, data) for name, data in sidecars.items()}


def _kind(name: object) -> str:
    """A category's name as a kind. BoxesError for one that cannot be."""
    kind = re.sub(r"[^a-z0-9_-]+", "-", str(name).strip().lower()).strip("-_")[:40]
    if not re.fullmatch(KIND_PATTERN, kind):
        raise BoxesError(f"{name!r:.60} is no name of a kind")
    return kind


def _face(values: Iterable[Any], score: Any, kind: str) -> Face | str:
    """A box, or what is wrong with it."""
    try:
        x, y, w, h = (float(value) for value in values)
        sure = 1.0 if score in (None, "") else float(score)
    except (TypeError, ValueError, OverflowError):
        return "a box that is not four numbers"
    if not all(map(math.isfinite, (x, y, w, h, sure))):
        return "a box that is not finite"
    if w <= 0 or h <= 0:
        return f"a box of {w:g} x {h:g}"
    if not 0 <= sure <= 1:
        return f"a score of {sure:g}"
    return Face((x, y, w, h), sure, kind=kind)


def _image(name: str, found: Iterable[Face | str], frame: tuple[int, int] | None, relative: bool = False) -> ImageBoxes:
    found = list(found)
    problem = next((one for one in found if isinstance(one, str)), "")
    return ImageBoxes(name, tuple(one for one in found if isinstance(one, Face)), frame, relative, problem)


def _from_coco(data: bytes) -> Entries:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BoxesError(f"no JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise BoxesError("no COCO file: a mapping with images, annotations and categories is wanted")
    try:
        kinds = {one["id"]: _kind(one["name"]) for one in content.get("categories", [])}
        images = {one["id"]: one for one in content["images"]}
        boxes: dict[Any, list[Face | str]] = {key: [] for key in images}
        for number, one in enumerate(content.get("annotations", []), 1):
            if one["image_id"] not in boxes:
                raise BoxesError(f"annotation {number} is of the image {one['image_id']!r:.40}, which is not there")
            if "category_id" in one and kinds and one["category_id"] not in kinds:
                raise BoxesError(
                    f"annotation {number} is of the category {one['category_id']!r:.40}, which is not there"
                )
            kind = kinds.get(one.get("category_id"), FACE_KIND)
            boxes[one["image_id"]].append(_face(one["bbox"], one.get("score"), kind))
        found: Entries = {}
        for key, one in images.items():
            name = str(one["file_name"])
            if name in found:
                raise BoxesError(f"{name:.200}: twice among the images")
            frame = (int(one["width"]), int(one["height"])) if one.get("width") and one.get("height") else None
            found[name] = _image(name, boxes[key], frame)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BoxesError(f"no COCO file: {type(error).__name__}: {error}") from error
    return found


def _from_rows(rows: Iterable[tuple[int, Mapping[str, Any]]], what: str) -> Entries:
    """Of a table with a box a row; a row without one says that its image has none."""
    found: dict[str, list[Face | str]] = {}
    frames: dict[str, tuple[int, int]] = {}
    for number, row in rows:
        name = next((str(row[column]) for column in _IMAGE if row.get(column)), "")
        if not name or not {"x", "y", "w", "h"} <= row.keys():
            raise BoxesError(f"{what} {number}: the columns {_COLUMNS} are wanted")
        boxes = found.setdefault(name, [])
        values = [row[side] for side in "xywh"]
        if any(value not in (None, "") for value in values):
            boxes.append(_face(values, row.get("score"), _kind(row.get("kind") or FACE_KIND)))
        if row.get("frame_width") and row.get("frame_height"):
            try:
                frame = int(float(row["frame_width"])), int(float(row["frame_height"]))
            except (ValueError, OverflowError):
                raise BoxesError(f"{what} {number}: a frame that is no numbers") from None
            if frames.setdefault(name, frame) != frame:
                boxes.append("frames of several sizes")
    return {name: _image(name, boxes, frames.get(name)) for name, boxes in found.items()}


def _is_label(name: str) -> bool:
    return name.lower().endswith(".txt") and os.path.basename(name).lower() not in _CLASSES


def _classes(files: Mapping[str, bytes]) -> dict[int, str]:
    """The kinds by their numbers: of classes.txt, obj.names or data.yaml; without any of them 0 is a face."""
    for name, data in files.items():
        base = os.path.basename(name).lower()
        if base in _CLASSES:
            return {i: _kind(line) for i, line in enumerate(data.decode("utf-8-sig").split("\n")) if line.strip()}
        if base in ("data.yaml", "data.yml"):
            names = (yaml.safe_load(data) or {}).get("names", [])
            pairs = names.items() if isinstance(names, dict) else enumerate(names)
            return {int(i): _kind(one) for i, one in pairs}
    return {0: FACE_KIND}


def _yolo(name: str, data: bytes, kinds: Mapping[int, str]) -> ImageBoxes:
    """Lines of a class, the box's middle and its size relative to the frame, and perhaps a score."""
    found: list[Face | str] = []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        parts = line.split()
        if not parts:
            continue
        if not parts[0].isdigit() or int(parts[0]) not in kinds or len(parts) not in (5, 6):
            found.append(f"line {number} is no class, box and score")
            continue
        box = _face(parts[1:5], parts[5] if len(parts) == 6 else None, kinds[int(parts[0])])
        if isinstance(box, Face):
            x, y, w, h = box.box
            box = Face((x - w / 2, y - h / 2, w, h), box.score, kind=box.kind)
        found.append(box)
    return _image(name, found, None, relative=True)


def _pictured(name: str) -> str:
    """The key of the picture that a sidecar is of: a.jpg.xmp is of a.jpg, a.xmp of any a."""
    stem = os.path.splitext(name)[0]
    return stem if re.search(r"\.[A-Za-z0-9]{2,5}$", stem) else f"{stem}."


def _sidecar(name: str, data: bytes) -> ImageBoxes:
    """The regions of an XMP file; their names, which may be of people, are not read."""
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        return ImageBoxes(name, problem="an XMP sidecar with a document type")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError):
        return ImageBoxes(name, problem="an XMP sidecar that is no XML")
    found: list[Face | str] = []
    frame = None
    for regions in root.iter(f"{_RS}Regions"):
        for size in regions.iter(f"{_RS}AppliedToDimensions"):
            try:
                frame = int(_value(size, f"{_DIM}w")), int(_value(size, f"{_DIM}h"))
            except ValueError:
                found.append("dimensions that are no numbers")
        for listed in regions.iter(f"{_RS}RegionList"):
            found += [region for item in listed.iter(f"{_RDF}li") if (region := _region(item)) is not None]
    return _image(name, found, frame, relative=True)


def _region(item: ElementTree.Element) -> Face | str | None:
    kind = _value(item, f"{_RS}Type") or FACE_KIND
    if kind.lower() in _NO_REGION:
        return None
    area = next(item.iter(f"{_RS}Area"), None)
    if area is None or (_value(area, f"{_AREA}unit") or "normalized") != "normalized":
        return "a region without a normalized area"
    face = _face([_value(area, f"{_AREA}{side}") for side in "xywh"], None, _kind(kind))
    if isinstance(face, str):
        return face
    x, y, w, h = face.box
    return Face((x - w / 2, y - h / 2, w, h), 1.0, kind=face.kind)


def _value(element: ElementTree.Element, name: str) -> str:
    """A property as XMP writes it: as an attribute or an element, here or in a description within."""
    for place in _places(element):
        if name in place.attrib:
            return place.attrib[name]
        if (child := place.find(name)) is not None:
            return (child.text or "").strip()
    return ""


def _places(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
    yield element
    yield from element.findall(f"{_RDF}Description")
