"""mien audit: who is still recognisable in an output, and what leaked. On this machine, without a Beam pipeline."""

import argparse
import datetime
import hashlib
import itertools
import json
import platform
import posixpath
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from mien.models.audit import (
    Box,
    FaceRecogniser,
    Gallery,
    Leak,
    OriginalFace,
    OutputFace,
    PhotoAuditor,
    face_rows,
    figures,
    file_leaks,
    findings,
    recognisers,
    thresholds,
    trace_leaks,
    traces,
    unfinished,
)
from mien.models.codec import FaceCodec
from mien.models.errors import ContainerError, ImageError, SearchError, one_line
from mien.models.faces import SIZE
from mien.models.images import decode_image
from mien.models.runtime import cores, tune_process
from mien.models.weights import FOLDER as MODELS
from mien.pipelines import JobError
from mien.pipelines.reports.audit_page import page
from mien.pipelines.runs import version_of
from mien.transforms.elements import CodedPhoto, Failure, ListedFile, Pixels
from mien.transforms.formats import PARQUET, Sample, is_shard, list_members, samples
from mien.transforms.restore import restore_photo
from mien.transforms.sources import (
    IMAGE_SUFFIXES,
    MAX_BYTES,
    PHOTO_SUFFIXES,
    folder_of,
    list_files,
    photo_of_blob,
    photo_of_sample,
    photos_of_table,
    read_file,
)
from mien.transforms.stores import join, normal_uri, output_name, printable, write_whole

OK, FOUND = 0, 3
_PACKAGES = ("mien", "torch", "mediapipe", "dlib-bin", "numpy", "opencv-contrib-python")
_PICTURES = 60  # of linked faces on the page
_SAME_SHAPE = 0.01  # by which the sides' ratio of a scaled output may differ


@dataclass(frozen=True)
class Output:
    """A photo of the output. record: box and action of each face, where it has one; coded: what restore would read.
    uri: of its original, where a table or shard says it."""

    name: str
    data: bytes
    record: tuple[tuple[Box, str], ...] | None = None
    coded: CodedPhoto | None = None
    uri: str = ""


@dataclass
class _View:
    """One way of looking at the outputs."""

    faces: list[tuple[int, OutputFace]] = field(default_factory=list)
    undecided: int = 0
    invented: int = 0


@dataclass
class Audit:
    """What the photos gave, one after the other."""

    gallery: list[OriginalFace] = field(default_factory=list)
    views: dict[str, _View] = field(default_factory=dict)
    photos: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def run(args: argparse.Namespace) -> int:
    """Audits; 0, or 3 where something was found or not looked at. MienError for what keeps it from starting."""
    tune_process(cores())
    witnesses = recognisers(Path(args.dlib_models) if args.dlib_models else None)
    output, target = normal_uri(args.audited), normal_uri(args.output)
    audit = Audit()
    originals = Originals(_originals(normal_uri(args.originals), audit.failures))
    files = _listed(output, PHOTO_SUFFIXES | {PARQUET}, target, audit.failures)
    _write(join(target, "audit.json"), b"{}\n")  # now rather than after hours
    quiet = args.quiet or not sys.stderr.isatty()
    with PhotoAuditor(witnesses, args.aligned) as auditor:
        for entry in tqdm(files, unit=" files", disable=quiet, file=sys.stderr):
            for photo in _outputs(entry):
                _look(audit, auditor, originals, photo, args.aligned)
    report, pictures = _report(audit, originals, witnesses, args.aligned)
    _write(join(target, "audit.json"), f"{json.dumps(report, indent=1)}\n".encode())
    _write(join(target, "audit.html"), page(report, pictures).encode())
    for line in audit.failures:
        print(printable(f"mien: {line}"), file=sys.stderr)
    if not args.quiet:
        print(_summary(report))
    return FOUND if report["findings"] else OK


class Originals:
    """The originals, to be found by the names of what was made of them."""

    def __init__(self, files: Sequence[ListedFile]) -> None:
        self.by_name = {file.name: file for file in files}
        self.seen: set[str] = set()
        self._by_uri = {file.uri: file.name for file in files}
        self._by_output = {output_name(name): name for name in self.by_name}
        self._by_stem: dict[str, list[str]] = {}
        for name in self.by_name:
            self._by_stem.setdefault(posixpath.splitext(name)[0], []).append(name)

    def match(self, name: str, uri: str = "") -> ListedFile | None:
        """The original of an output: the one that it says it is made from, by its URI; the same path, or that less one
        or two suffixes (team.jpg.avif), or another suffix (team.png of team.jpg). None where there is none, or several.
        """
        if uri in self._by_uri:
            return self._take(self._by_uri[uri])
        stems = [name]
        while posixpath.splitext(stems[-1])[1].lower() in IMAGE_SUFFIXES and len(stems) < 3:
            stems.append(posixpath.splitext(stems[-1])[0])
        for stem in stems:
            if stem in self.by_name:
                return self._take(stem)
            if stem in self._by_output:
                return self._take(self._by_output[stem])
        for stem in stems[1:]:
            if len(found := self._by_stem.get(stem, [])) == 1:
                return self._take(found[0])
        # OUTPUT may be a folder below the job's; the other way round b/x.jpg would be taken for x.jpg
        for stem in stems:
            found = [original for original in self.by_name if original.endswith(f"/{stem}")]
            if len(found) == 1:
                return self._take(found[0])
        return None

    def _take(self, name: str) -> ListedFile:
        self.seen.add(name)
        return self.by_name[name]


def _listed(uri: str, suffixes: frozenset[str], exclude: str, failures: list[str]) -> list[ListedFile]:
    """The files; what cannot be read of them is added to the failures. JobError where there is nothing else."""
    try:
        found = _files(list_files(uri, folder_of(uri, suffixes), suffixes, exclude), failures)
    except Exception as error:  # every store has errors of its own
        raise JobError(f"{uri}: cannot be read: {one_line(error)}") from error
    if not found:
        raise JobError(failures[-1])
    return sorted(found, key=lambda entry: entry.name)


def _originals(uri: str, failures: list[str]) -> list[ListedFile]:
    """Those in shards too; what cannot be read is added to the failures."""
    listed = _listed(uri, PHOTO_SUFFIXES, "", failures)
    alone = [file for file in listed if not is_shard(file.uri)]
    inside = (list_members(file, IMAGE_SUFFIXES) for file in listed if is_shard(file.uri))
    return sorted([*alone, *_files(itertools.chain.from_iterable(inside), failures)], key=lambda entry: entry.name)


def _files(entries: Iterable[ListedFile | Failure], failures: list[str]) -> list[ListedFile]:
    found = []
    for entry in entries:
        if isinstance(entry, Failure):
            failures.append(f"{entry.uri}: cannot be read: {entry.message}")
        else:
            found.append(entry)
    return found


def _outputs(file: ListedFile) -> Iterator[Output | tuple[str, Exception]]:
    """The photos of a file; (name, exception) in place of one that cannot be read."""
    try:
        if file.uri.lower().endswith(PARQUET):
            for photo in photos_of_table(file):
                yield _of_coded(photo, photo.background) if isinstance(photo, CodedPhoto) else (file.name, photo)
            return
        if is_shard(file.uri):
            for sample in samples(file.uri, IMAGE_SUFFIXES, MAX_BYTES):
                yield _of_sample(sample, file) if isinstance(sample, Sample) else (file.name, sample)
            return
        data = read_file(file, MAX_BYTES)
        try:
            coded = photo_of_blob(data, file)
        except ContainerError:  # an ordinary picture
            yield Output(file.name, data)
        else:
            yield _of_coded(coded, data, file.name)
    except Exception as error:
        yield file.name, error


def _of_sample(sample: Sample, shard: ListedFile) -> Output:
    try:
        photo = photo_of_sample(sample, shard)
        return _of_coded(photo, sample.data)
    except ContainerError:  # an ordinary picture
        uri, name = (str(sample.about.get(key, "")) for key in ("uri", "name"))
        return Output(name or join(shard.name, f"{sample.key}{sample.suffix}"), sample.data, uri=uri)


def _of_coded(photo: CodedPhoto, data: bytes, name: str = "") -> Output:
    record = tuple((face.box, face.action) for face in photo.faces)
    restorable = any(face.payload for face in photo.faces)
    coded = photo if restorable else None
    return Output(name or photo.name or photo.uri, data, record, coded, "" if name else photo.uri)


def _look(
    audit: Audit,
    auditor: PhotoAuditor,
    originals: Originals,
    photo: Output | tuple[str, Exception],
    aligned: bool,
) -> None:
    """Adds a photo to the audit; one that cannot be looked at becomes a failure."""
    name = photo.name if isinstance(photo, Output) else photo[0]
    try:
        if not isinstance(photo, Output):
            raise photo[1]
        file = originals.match(name, photo.uri)
        if file is None:
            raise ImageError("no original of that name, or several")
        source = read_file(file)
        original = _aligned(decode_image(source)) if aligned else decode_image(source)
        views = {"shown": decode_image(photo.data)}
        if photo.coded:
            views["restored"] = restore_photo(photo.coded, FaceCodec.load())
        faces = auditor.originals(original)
        number = len(audit.photos)
        seen = {}
        for view, pixels in views.items():
            pixels = _aligned(pixels) if aligned else _scaled(pixels, original)
            seen[view] = auditor.compare(original, faces, pixels, photo.record)
        leaks = [*file_leaks(photo.data), *_traces(source, photo.data)]
    except Exception as error:  # a photo that could not be looked at is a finding, not the end
        audit.failures.append(f"{name}: not audited: {one_line(error)}")
        return
    audit.gallery += faces
    for view, compared in seen.items():
        there = audit.views.setdefault(view, _View())
        there.faces += [(number, face) for face in compared.faces]
        there.undecided += compared.undecided
        there.invented += compared.invented
    audit.photos.append(
        {
            "photo": number,
            "sha256": hashlib.sha256(photo.data).hexdigest(),
            "width": original.shape[1],
            "height": original.shape[0],
            "faces": len(faces),
            "identical_to_original": photo.data == source,
            "leaks": [asdict(leak) for leak in leaks],
        }
    )


def _traces(source: bytes, output: bytes) -> list[Leak]:
    """What of the original's metadata is in the output; that it cannot be told is a finding too."""
    try:
        return trace_leaks(traces(source), output)
    except SearchError as error:
        return [unfinished(error)]


def _aligned(pixels: Pixels) -> Pixels:
    if pixels.shape[0] != pixels.shape[1]:
        raise ImageError(f"{pixels.shape[1]} x {pixels.shape[0]} is no aligned face (--aligned)")
    return _scaled(pixels, np.empty((SIZE, SIZE, 3), np.uint8))


def _scaled(pixels: Pixels, like: Pixels) -> Pixels:
    height, width = like.shape[:2]
    if pixels.shape[:2] == (height, width):
        return pixels
    if abs(pixels.shape[1] * height / (pixels.shape[0] * width) - 1) > _SAME_SHAPE:
        raise ImageError(f"the output is {pixels.shape[1]} x {pixels.shape[0]}, the original {width} x {height}")
    way = cv2.INTER_AREA if pixels.shape[1] > width else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=way), np.uint8)


def _report(
    audit: Audit, originals: Originals, witnesses: Sequence[FaceRecogniser], aligned: bool
) -> tuple[dict[str, Any], list[tuple[str, Pixels]]]:
    """audit.json, and the pictures of linked output faces for the page, each with its place."""
    gallery = Gallery(audit.gallery, witnesses)
    views: dict[str, Any] = {}
    found: list[dict[str, Any]] = []
    pictures: list[tuple[str, Pixels]] = []
    for name, view in audit.views.items():
        rows = face_rows(view.faces, gallery)
        told = figures(view.faces, rows, gallery)
        views[name] = {**told, "undecided": view.undecided, "invented": view.invented, "rows": rows}
        found += findings(name, told, view.undecided)
        for (number, face), row in zip(view.faces, rows, strict=True):
            if row["verdict"] == "recognisable" and len(pictures) < _PICTURES:
                pictures.append((f"photo {number}, {name}, by {', '.join(row['linked_by'])}", face.picture))
    kinds: dict[str, int] = {}
    for photo in audit.photos:
        for kind in {leak["kind"] for leak in photo["leaks"] if leak["leak"]}:
            kinds[kind] = kinds.get(kind, 0) + 1
    for kind, count in sorted(kinds.items()):
        found.append({"kind": kind, "view": "file", "count": count, "detail": "files with it"})
    if same := sum(photo["identical_to_original"] for photo in audit.photos):
        found.append({"kind": "file as it was", "view": "file", "count": same, "detail": "equal to the original"})
    if audit.failures or not audit.photos:
        detail = "withheld from the audit; stderr has the reasons"
        found.append({"kind": "not audited", "view": "file", "count": len(audit.failures), "detail": detail})
    return {
        "version": version_of("mien"),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in _PACKAGES}},
        "models": {
            **{one.name: one.sha256 for one in witnesses},
            "codec": FaceCodec.load().model,
            **{name: entry["sha256"] for name, entry in json.loads((MODELS / "manifest.json").read_text()).items()},
        },
        "aligned": aligned,
        "thresholds": thresholds(witnesses),
        "counts": {
            "originals": len(originals.by_name),
            "originals_without_output": len(originals.by_name) - len(originals.seen),
            "audited": len(audit.photos),
            "not_audited": len(audit.failures),
            "original_faces": len(audit.gallery),
            "of_these_aligned": gallery.all,
            "compared_all_with_all": len(gallery.faces),
            "people_as_far_as_told": len(set(gallery.people.tolist())),
        },
        "findings": found,
        "views": views,
        "photos": audit.photos,
    }, pictures


def _write(path: str, data: bytes) -> None:
    try:
        write_whole(path, data)
    except Exception as error:  # every store has errors of its own
        raise JobError(f"{path}: cannot be written: {one_line(error)}") from error


def _summary(report: dict[str, Any]) -> str:
    counts = report["counts"]
    lines = [f"{counts['audited']} photos audited, {counts['not_audited']} not; {counts['original_faces']} faces"]
    lines += [f"{one['count']:>6} {one['kind']} ({one['view']}): {one['detail']}" for one in report["findings"]]
    return "\n".join(lines if report["findings"] else [*lines, "nothing found"])
