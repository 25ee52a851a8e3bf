"""What a policy would do, without doing it: a line for each face, and contact sheets for a person to look through.

The sheets show no face at all, not even those that would be kept: each is filled in at full size before the photo is
shrunk, and its place is ringed in the colour of its action.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import cv2
import numpy as np
from apache_beam.metrics import Metrics
from PIL import Image

from mien.models.faces import FACE_KIND, Face
from mien.models.images import encode_image
from mien.models.privacy import redact_faces
from mien.transforms.elements import Decision, HandledFace, PhotoInWork, PhotosAndFailures, SafePhoto, Written
from mien.transforms.page import data_uri, render
from mien.transforms.policy import Policy
from mien.transforms.settings import GENERATED, FaceSettings
from mien.transforms.steps import (
    FALLBACK,
    VERSION,
    CorrectFaces,
    DecideFaces,
    DecodePhotos,
    DetectFaces,
    hidden_of,
    refusal,
)
from mien.transforms.stores import create, delete, files_named, join, normal_uri, write_whole
from mien.transforms.workers import (
    NAMESPACE,
    Input,
    IsolatedStages,
    Stage,
    StageTransform,
    as_outputs,
    join_failures,
    stages_of,
    through,
)

LINES, SHEET, PHOTOS = "dry-run.jsonl", "dry-run", "dry-run-photos.jsonl"
THUMBNAIL = 480  # pixels of the longer side
PHOTOS_A_SHEET = 100
COLOURS = {
    "keep": (230, 60, 50),
    "preserve": (230, 60, 50),
    "realistic": (250, 190, 40),
    "deidentify": (80, 190, 90),
    "fill": (70, 120, 230),
    "pixelate": (70, 120, 230),
    "blur": (70, 120, 230),
    "withhold": (20, 20, 20),
}


def preview(photo: PhotoInWork, policy: Policy) -> SafePhoto:
    """The photo's faces with what was decided, and a small JPEG of it that shows none of them."""
    hidden = redact_faces(photo.pixels, [hidden_of(face, "fill", policy.mask) for face in photo.faces])
    height, width = hidden.shape[:2]
    scale = min(1.0, THUMBNAIL / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.array(Image.fromarray(hidden).resize(size, Image.Resampling.LANCZOS))
    done = [would_be(face, decision) for face, decision in zip(photo.faces, photo.decisions, strict=True)]
    for number, (face, decision) in enumerate(zip(photo.faces, done, strict=True), 1):
        x, y, w, h = (side * scale for side in face.box)
        ring = ((x + w / 2, y + h / 2), (max(w, 6.0), max(h, 6.0)), 0.0)
        cv2.ellipse(small, ring, COLOURS[decision.action], 2, cv2.LINE_AA)
        place = round(x + w), round(y + h)
        cv2.putText(small, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 3, cv2.LINE_AA)
        cv2.putText(small, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    faces = tuple(
        HandledFace(
            face.box, shown.action, shown.rule, decision.action, **measured, doubted=decision.doubted, kind=face.kind
        )
        for face, shown, decision, measured in zip(photo.faces, done, photo.decisions, photo.measured, strict=True)
    )
    return SafePhoto(photo.uri, photo.name, encode_image(small, "jpeg", 80), faces, policy.id, VERSION, photo.origin)


def would_be(face: Face, decision: Decision) -> Decision:
    """What would be done, as far as can be told without coding the face: what is not understood shows only then."""
    if not (reason := refusal(face, decision.action)):
        return decision
    return dataclasses.replace(decision, action=FALLBACK[decision.action], rule=f"{decision.rule} ({reason})")


def lines_of(photo: SafePhoto) -> str:
    """A JSON line for each face: uri, box, action, rule, measures (unknown ones are null), and where they are not as
    usual, doubted and kind."""
    rows = []
    for face in photo.faces:
        measures = {
            name: getattr(face, name)
            for name in ("area", "rank", "center", "yaw", "pitch", "score", "sharpness", "count")
        }
        row: dict[str, object] = {"uri": photo.uri, "box": list(face.box), "action": face.action, "rule": face.rule}
        row |= {"doubted": True} if face.doubted else {}
        row |= {"kind": face.kind} if face.kind != FACE_KIND else {}
        rows.append(json.dumps(row | {"measures": measures}))
    return "".join(f"{row}\n" for row in rows)


def row_of(photo: SafePhoto) -> str:
    """A JSON line for the photo, as a run's index has it: uri, size, modified and faces, of which it may have none."""
    size, modified = (photo.origin.size, photo.origin.modified) if photo.origin else (0, 0.0)
    faces = [dataclasses.asdict(face) for face in photo.faces]
    return f"{json.dumps({'uri': photo.uri, 'size': size, 'modified': modified, 'faces': faces})}\n"


def sheet(photos: Sequence[SafePhoto], number: int) -> str:
    """One contact sheet as an HTML page that needs no other file."""
    shown = [
        {
            "uri": photo.uri,
            "image": data_uri(photo.data, "jpeg"),
            "faces": [
                {
                    "action": face.action,
                    "rule": f"{face.rule} (in doubt)" if face.doubted else face.rule,
                    "area": f"{face.area:.4f}",
                    "yaw": "" if face.yaw is None else f"{face.yaw:.0f}",
                    "score": f"{face.score:.2f}",
                }
                for face in photo.faces
            ],
        }
        for photo in sorted(photos, key=lambda photo: photo.uri)
    ]
    return render("preview.html", number=number, policy=photos[0].policy, colours=COLOURS, photos=shown)


class _Preview(Stage):
    stage = "preview"

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def work(self, element: PhotoInWork) -> Iterable[SafePhoto]:
        yield preview(element, self._policy)


class PreviewPhotos(IsolatedStages):
    """Photo -> SafePhoto with a small picture without any face, and what the policy decides on each."""

    def __init__(self, settings: FaceSettings) -> None:
        generates = bool(settings.policy.actions & GENERATED)
        before = (
            DecodePhotos(settings.max_pixels),
            DetectFaces(settings),
            DecideFaces(settings.policy, withholds=False),
            CorrectFaces(generates),
        )
        super().__init__([*stages_of(before), _Preview(settings.policy)], SafePhoto, settings.photo_limits)


class _WriteSheets(beam.DoFn):
    """Writes photo after photo as they come, so that no more than one sheet is held."""

    def __init__(self, output: str) -> None:
        self._output = output

    def process(self, group: tuple[None, Iterable[SafePhoto]]) -> Iterator[Written]:
        _delete_sheets(self._output)
        held: list[SafePhoto] = []
        number = 1
        with create(join(self._output, LINES)) as stream, create(join(self._output, PHOTOS)) as rows:
            for photo in group[1]:
                stream.write(lines_of(photo).encode())
                rows.write(row_of(photo).encode())
                held.append(photo)
                if len(held) == PHOTOS_A_SHEET:
                    self._write(held, number)
                    held, number = [], number + 1
                Metrics.counter(NAMESPACE, "photos_out").inc()
                for face in photo.faces:
                    Metrics.counter(NAMESPACE, f"action_{face.action}").inc()
                yield Written(photo.uri, LINES, photo.origin)
        if held:
            self._write(held, number)

    def _write(self, photos: Sequence[SafePhoto], number: int) -> None:
        page = sheet(photos, number).encode()
        Metrics.counter(NAMESPACE, "bytes_out").inc(len(page))
        write_whole(join(self._output, f"{SHEET}-{number:04d}.html"), page)


def _delete_sheets(output: str) -> None:
    for path in files_named(output, f"{SHEET}-", ".html"):
        delete(path)


def _delete_all(count: int, output: str) -> None:
    """Where no photo came through, there is nothing to write in the place of an earlier run's."""
    if count == 0:
        _delete_sheets(output)
        delete(join(output, LINES))
        delete(join(output, PHOTOS))


class WritePreview(StageTransform):
    """What PreviewPhotos gives -> dry-run.jsonl, dry-run-photos.jsonl and dry-run-*.html in the output folder, instead
    of those of before; of no photo there is none."""

    def __init__(self, output: str) -> None:
        super().__init__()
        self._output = normal_uri(output)
        self._sheets = _WriteSheets(self._output)

    def expand(self, photos: Input) -> PhotosAndFailures:
        photos, failures = as_outputs(photos)
        grouped = (
            photos
            | "OneGroup" >> beam.Map(lambda photo: (None, photo)).with_output_types(tuple[None, SafePhoto])
            | beam.GroupByKey()
        )
        _ = photos | beam.combiners.Count.Globally() | "Gone" >> beam.Map(_delete_all, self._output)
        written: Any = through(grouped, self._sheets, Written)
        return PhotosAndFailures(photos=written.photos, failures=join_failures(written.failures, failures))
