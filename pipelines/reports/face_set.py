"""What both kinds of `mien evaluate` have in common: folders of faces, the networks that look at them, and failures."""

import argparse
import contextlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import features
from tqdm import tqdm

from mien.models.errors import WeightsError
from mien.models.evaluation import (
    DlibDescriptor,
    Features,
    Line,
    Lpips,
    Meter,
    Missing,
    Need,
    Row,
    line_of,
    packaged_heads,
    packaged_models,
)
from mien.models.faces import Recogniser
from mien.models.images import decode_image
from mien.models.runtime import cores, tune_process
from mien.pipelines import JobError
from mien.pipelines.failures import write_failures
from mien.pipelines.jobs import FaceFinder
from mien.transforms.elements import Failure
from mien.transforms.sources import IMAGE_SUFFIXES, list_files, read_file
from mien.transforms.stores import normal_uri, printable
from mien.transforms.workers import failure_of

BACKBONE, HEADS, DLIB = "MIEN_LPIPS_BACKBONE", "MIEN_LPIPS_HEADS", "MIEN_DLIB"


@dataclass
class FaceSet:
    """One folder's results. work: a folder for files meanwhile. faces: the names of its pictures, and where the aligned
    face lies as an array."""

    name: str
    folder: str
    work: Path
    faces: dict[str, Path] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)
    originals: dict[str, dict[str, Features]] = field(default_factory=dict)  # by face and space, for KID

    def add(self, found: Iterable[Row | Missing]) -> None:
        """Rows, or what there is none of."""
        for one in found:
            if isinstance(one, Row):
                self.rows.append(one)
            else:
                self.missing.append(one)

    def line(self, codec: str, effort: str, ceiling: int) -> Line:
        """The faces' figures in one line."""
        rows = [row for row in self.rows if (row.codec, row.effort, row.ceiling) == (codec, effort, ceiling)]
        missing = [none for none in self.missing if (none.codec, none.ceiling) == (codec, ceiling)]
        return line_of(codec, effort, ceiling, rows, self.originals, missing)


@contextlib.contextmanager
def read_sets(args: argparse.Namespace) -> Iterator[tuple[Path, list[FaceSet]]]:
    """The output folder, and the folders' sets with their faces read, while their arrays lie in a temporary folder.

    JobError for an output that cannot be written or may not be replaced, and for a folder without pictures.
    """
    output = make_output(args)
    names = set_names([normal_uri(folder) for folder in args.folders])
    listed = {name: list_pictures(folder, str(output.absolute())) for name, folder in names.items()}
    tune_process(cores())
    with tempfile.TemporaryDirectory(prefix="mien-evaluate-") as place:
        sets: list[FaceSet] = []
        with contextlib.closing(FaceFinder()) as finder:
            for name, folder in names.items():
                work = Path(place, str(len(sets)))
                work.mkdir()
                sets.append(FaceSet(name, folder, work))
                _read_faces(sets[-1], listed[name], finder)
        yield output, sets


def meter_of(recogniser: Recogniser, args: argparse.Namespace, notes: list[str]) -> Meter:
    """What measures faces; notes: get what is missing for it."""
    return Meter(recogniser, find_lpips(args, notes), _find_dlib(args, notes))


def about(notes: list[str]) -> dict[str, Any]:
    """What a report says of the run. notes: of what is missing."""
    return {"version": version("mien"), "environment": _environment(), "notes": notes}


def status_of(output: Path, sets: Sequence[FaceSet]) -> int:
    """Writes the sets' failures; the exit status, 0, or 3 where there are any."""
    failures = [failure for found in sets for failure in found.failures]
    record_failures(output, failures)
    return 3 if failures else 0


def make_output(args: argparse.Namespace) -> Path:
    """The output folder; JobError where it cannot be written or has figures that may not be replaced."""
    output = Path(args.output)
    if (output / "evaluate.json").exists() and not args.overwrite:
        raise JobError(f"{output / 'evaluate.json'} exists; --overwrite replaces it")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(f"{output}: cannot be written: {error.strerror}") from error
    return output


def set_names(folders: Sequence[str]) -> dict[str, str]:
    """Folders by the shortest end of their path that tells them apart."""
    found: dict[str, str] = {}
    for folder in dict.fromkeys(folders):
        parts = [part for part in folder.split("/") if part] or ["root"]
        ends = ["-".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        found[next((end for end in ends if end not in found), f"{ends[-1]}-{len(found)}")] = folder
    return found


def list_pictures(folder: str, output: str) -> list[Any]:
    """The folder's pictures; JobError where there are none."""
    if os.path.isfile(folder):
        raise JobError(f"{folder} is a file; mien evaluate takes folders of pictures")
    try:
        return sorted(list_files(folder, folder, IMAGE_SUFFIXES, output), key=lambda entry: entry.uri)
    except Exception as error:  # every store has errors of its own
        raise JobError(str(error)) from error


def find_lpips(args: argparse.Namespace, notes: list[str]) -> Lpips | None:
    """LPIPS, or None and a note of what is missing."""
    backbone = args.lpips_backbone or os.environ.get(BACKBONE)
    heads = args.lpips_heads or os.environ.get(HEADS) or packaged_heads()
    if backbone and heads:
        return Lpips(backbone, heads)
    if args.lpips_backbone or args.lpips_heads:
        raise WeightsError(f"LPIPS needs both: --lpips-backbone ({backbone}) and --lpips-heads ({heads})")
    lacking = {
        f"SqueezeNet 1.1 by --lpips-backbone or {BACKBONE} (torchvision's squeezenet1_1 .pth)": backbone,
        f"its heads by --lpips-heads or {HEADS} (squeeze.pth of `pip install --no-deps lpips`)": heads,
    }
    notes.append(f"No LPIPS: name {' and '.join(what for what, path in lacking.items() if not path)}.")
    return None


def _find_dlib(args: argparse.Namespace, notes: list[str]) -> DlibDescriptor | None:
    """dlib's descriptors, or None and a note of what is missing."""
    if folder := args.dlib or os.environ.get(DLIB) or packaged_models():
        return DlibDescriptor(folder)
    notes.append(
        f"No distance of dlib's descriptors: `pip install dlib-bin face_recognition_models`, or --dlib or {DLIB} for "
        "the folder of the .dat files."
    )
    return None


def _read_faces(found: FaceSet, listed: Sequence[Any], finder: FaceFinder) -> None:
    """Every picture's aligned face, to its folder; a set may be larger than the memory."""
    for i, entry in enumerate(listed):
        if isinstance(entry, Failure):
            found.failures.append(entry)
            continue
        try:
            face = finder.face_of(decode_image(read_file(entry)))
        except Exception as error:
            found.failures.append(failure_of(entry.uri, "read", error))
            continue
        path = found.work / f"face-{i}.npy"
        np.save(path, face)
        found.faces[entry.name] = path


def progress(items: Iterable[Any], what: str, quiet: bool) -> Iterator[Any]:
    """A bar where a person looks on."""
    items = list(items)
    yield from tqdm(items, what, unit="face", disable=quiet or not sys.stderr.isatty())


def _environment() -> dict[str, Any]:
    """What the milliseconds and the other codecs' bytes depend on."""
    found = {name: version(name) for name in ("torch", "numpy", "pillow", "opencv-contrib-python")}
    with contextlib.suppress(ImportError):
        found["imagecodecs"] = version("imagecodecs")
    for library in ("jpg", "jpg_2000", "libjpeg_turbo", "webp", "avif"):
        if built := features.version(library):
            found[library] = built
    return {"python": platform.python_version(), "machine": platform.machine(), "cores": cores(), "versions": found}


def record_failures(output: Path, failures: Sequence[Failure]) -> None:
    """failures-evaluate.jsonl, where there are any, and a line each for a person."""
    write_failures(output, "evaluate", [asdict(failure) for failure in failures])
    for failure in failures:
        print(printable(f"mien: {failure.uri}: {failure.message}"), file=sys.stderr)
