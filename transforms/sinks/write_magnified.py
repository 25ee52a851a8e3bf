"""Magnified photos as files: a picture for each sample, a line of JSON for each face, and the faces' payloads."""

import dataclasses
import json
from collections.abc import Iterable

from mien.transforms.elements import MagnifiedFace, MagnifiedPhoto, PhotosAndFailures, Written
from mien.transforms.sinks.write_files import write_output
from mien.transforms.stores import SUFFIXES, name_under, normal_uri, output_name
from mien.transforms.workers import Input, Stage, StageTransform, as_outputs, join_failures, through

REPORT, PAYLOAD = ".jsonl", ".mien"


def files_of(photo: MagnifiedPhoto) -> dict[str, bytes]:
    """The files of a photo by their names below the output folder, the first picture first.

    For a/x.jpg: a/x.jpg.png, further samples a/x.jpg-2.png, the report a/x.jpg.jsonl, and payloads a/x.jpg.mien, or
    a/x.jpg-face2.mien of a photo with several faces.
    """
    name = output_name(photo.name or name_under("", photo.uri))
    suffix = SUFFIXES[photo.image_format]
    several = any(face.face > 1 for face in photo.faces)
    found = {f"{name}{_number(i)}{suffix}": data for i, data in enumerate(photo.pictures, 1)}
    lines = []
    for face in photo.faces:
        row: dict[str, object] = {"picture": f"{name}{_number(face.sample)}{suffix}", **_row(face)}
        if face.payload:
            payload = f"{name}{_number(face.sample)}{f'-face{face.face}' if several else ''}{PAYLOAD}"
            row["payload"] = payload
            found[payload] = face.payload
        lines.append(json.dumps(row))
    return {**found, f"{name}{REPORT}": "".join(f"{line}\n" for line in lines).encode()}


def _number(sample: int) -> str:
    return "" if sample == 1 else f"-{sample}"


def _row(face: MagnifiedFace) -> dict[str, object]:
    """The report of a face, numbers rounded, without what does not apply."""
    values = {part.name: getattr(face, part.name) for part in dataclasses.fields(face) if part.name != "payload"}
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in values.items()
        if value is not None
    }


class _WriteMagnified(Stage):
    stage = "write"

    def __init__(self, output: str, overwrite: bool) -> None:
        self._output = output
        self._overwrite = overwrite

    def work(self, element: MagnifiedPhoto) -> Iterable[Written]:
        ours = self._overwrite or (element.origin is not None and element.origin.ours)
        files = list(files_of(element).items())
        made = [write_output(self._output, name, data, lambda: ours) for name, data in reversed(files)]
        # the first picture comes last: where it is, all the others are
        actions = {"magnify": len({face.face for face in element.faces if face.magnified})}
        size = sum(len(data) for _, data in files)
        yield Written(
            element.uri, files[0][0], element.origin, made[-1].sha256, bytes=size, actions=actions, files=tuple(made)
        )


class WriteMagnified(StageTransform):
    """MagnifiedPhoto -> its files below the output folder or URI.

    Replaces what an earlier run wrote, with overwrite anything. The result has .photos (Written) and .failures, those
    of the transform before among them.
    """

    def __init__(self, output: str, overwrite: bool = False) -> None:
        super().__init__()
        self._stage = _WriteMagnified(normal_uri(output), overwrite)

    def expand(self, photos: Input) -> PhotosAndFailures:
        photos, failures = as_outputs(photos)
        written = through(photos, self._stage, Written)
        return PhotosAndFailures(photos=written.photos, failures=join_failures(written.failures, failures))
