"""mien evaluate: rate against quality on folders of faces, beside conventional codecs. Without a Beam job."""

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import features
from tqdm import tqdm

from mien.models.codec import FaceCodec
from mien.models.errors import WeightsError
from mien.models.evaluation import (
    MIEN,
    Bench,
    DlibDescriptor,
    Lpips,
    Meter,
    Missing,
    Row,
    needs,
    packaged_heads,
    packaged_models,
    peak_memory,
    peers,
    reached,
)
from mien.models.images import decode_image
from mien.models.runtime import cores, tune_process
from mien.pipelines import JobError
from mien.pipelines.jobs import FaceFinder
from mien.pipelines.reports import evaluate_report
from mien.pipelines.reports.evaluate_report import FaceSet
from mien.transforms.elements import Failure
from mien.transforms.sources import IMAGE_SUFFIXES, list_files, read_file
from mien.transforms.stores import normal_uri, printable
from mien.transforms.workers import failure_of

LARGEST = 32768  # bytes up to which a conventional codec is followed to mien's quality
BACKBONE, HEADS, DLIB = "MIEN_LPIPS_BACKBONE", "MIEN_LPIPS_HEADS", "MIEN_DLIB"


def run(args: argparse.Namespace) -> int:
    """Measures and writes; 0, or 3 where a picture could not be measured. MienError for what keeps it from starting."""
    if args.magnify:
        from mien.pipelines.reports import evaluate_magnify

        return evaluate_magnify.run(args)
    if args.strength:
        raise JobError("--strength is for --magnify")
    output = make_output(args)
    names = set_names([normal_uri(folder) for folder in args.folders])
    listed = {name: list_pictures(folder, str(output.absolute())) for name, folder in names.items()}
    tune_process(cores())
    notes: list[str] = []
    codec = FaceCodec.load(args.weights)
    meter = Meter(codec.recogniser, find_lpips(args, notes), find_dlib(args, notes))
    conventional = _peers(args.codecs, notes)
    with tempfile.TemporaryDirectory(prefix="mien-evaluate-") as place, contextlib.closing(FaceFinder()) as finder:
        sets: list[FaceSet] = []
        for name, folder in names.items():
            work = Path(place, str(len(sets)))
            work.mkdir()
            sets.append(FaceSet(name, folder))
            read_faces(sets[-1], listed[name], finder, work)
            _measure(sets[-1], args, Bench(codec, meter, work), meter, conventional)
        memory = _memory(args, sets)
        report = {
            "version": version("mien"),
            "model": codec.model,
            "settings": {
                "bytes": list(args.bytes),
                "efforts": list(args.effort),
                "objective": args.objective,
                "codecs": [peer.name for peer in conventional],
                "sides": list(peers.SIDES),
                "criterion": "LPIPS" if meter.lpips else "PSNR",
            },
            "environment": environment(),
            "notes": notes,
            "peak_memory": memory,
        }
        evaluate_report.write(output, sets, report, codec, {peer.name: peer for peer in conventional}, args.quiet)
    failures = [failure for found in sets for failure in found.failures]
    write_failures(output, failures)
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


def find_dlib(args: argparse.Namespace, notes: list[str]) -> DlibDescriptor | None:
    """dlib's descriptors, or None and a note of what is missing."""
    if folder := args.dlib or os.environ.get(DLIB) or packaged_models():
        return DlibDescriptor(folder)
    notes.append(
        f"No distance of dlib's descriptors: `pip install dlib-bin face_recognition_models`, or --dlib or {DLIB} for "
        "the folder of the .dat files."
    )
    return None


def _peers(wanted: Sequence[str], notes: list[str]) -> list[peers.Peer]:
    there = peers.installed()
    for name in wanted:
        if name not in there:
            how = "`pip install imagecodecs`" if name == peers.JPEG_XL else "this Pillow was built without it"
            notes.append(f"No {name}: {how}.")
    return [there[name] for name in wanted if name in there]


def read_faces(found: FaceSet, listed: Sequence[Any], finder: FaceFinder, work: Path) -> None:
    """Every picture's aligned face, to the folder; a set may be larger than the memory."""
    for i, entry in enumerate(listed):
        if isinstance(entry, Failure):
            found.failures.append(entry)
            continue
        try:
            face = finder.face_of(decode_image(read_file(entry)))
        except Exception as error:
            found.failures.append(failure_of(entry.uri, "read", error))
            continue
        path = work / f"face-{i}.npy"
        np.save(path, face)
        found.faces[entry.name] = path


def _measure(
    found: FaceSet, args: argparse.Namespace, bench: Bench, meter: Meter, conventional: Sequence[peers.Peer]
) -> None:
    for name, path in progress(found.faces.items(), found.name, args.quiet):
        try:
            original = meter.view(np.load(path))
            rows: list[Row | Missing] = [
                bench.mien(name, original, effort, ceiling, args.objective)
                for effort in args.effort
                for ceiling in args.bytes
            ]
            rows += bench.conventional(name, original, conventional, args.bytes, cores())
        except Exception as error:
            found.failures.append(failure_of(f"{found.folder}/{name}", "measure", error))
            del found.faces[name]
            continue
        found.originals[name] = original.spaces
        found.add(rows)
    if not found.faces:
        return
    found.lines = [found.line(MIEN, effort, ceiling) for effort in args.effort for ceiling in args.bytes]
    found.lines += [found.line(peer.name, "", ceiling) for peer in conventional for ceiling in args.bytes]
    _follow(found, args, bench, meter, conventional)
    found.needs = needs(found.lines)


def _follow(
    found: FaceSet, args: argparse.Namespace, bench: Bench, meter: Meter, conventional: Sequence[peers.Peer]
) -> None:
    """More bytes for those conventional codecs that are not yet as good as mien."""
    ceiling = 2 * args.bytes[-1]
    while ceiling <= LARGEST and (behind := [peer for peer in conventional if not reached(found.lines, peer.name)]):
        faces = progress(found.faces.items(), f"{found.name}, {ceiling} bytes", args.quiet)
        for name, path in faces:
            found.add(bench.conventional(name, meter.view(np.load(path)), behind, [ceiling], cores()))
        found.lines += [found.line(peer.name, "", ceiling) for peer in behind]
        ceiling *= 2


def _memory(args: argparse.Namespace, sets: Sequence[FaceSet]) -> dict[str, int | None]:
    """Of each effort, bytes."""
    for found in sets:
        for path in found.faces.values():
            face = np.load(path)
            return {
                effort: peak_memory(face, args.weights, args.bytes[-1], effort, args.objective)
                for effort in args.effort
            }
    return {}


def progress(items: Iterable[Any], what: str, quiet: bool) -> Iterator[Any]:
    """A bar where a person looks on."""
    items = list(items)
    yield from tqdm(items, what, unit="face", disable=quiet or not sys.stderr.isatty())


def environment() -> dict[str, Any]:
    """What the milliseconds and the other codecs' bytes depend on."""
    found = {name: version(name) for name in ("torch", "numpy", "pillow", "opencv-contrib-python")}
    with contextlib.suppress(ImportError):
        found["imagecodecs"] = version("imagecodecs")
    for library in ("jpg", "jpg_2000", "libjpeg_turbo", "webp", "avif"):
        if built := features.version(library):
            found[library] = built
    return {"python": platform.python_version(), "machine": platform.machine(), "cores": cores(), "versions": found}


def write_failures(output: Path, failures: Sequence[Failure]) -> None:
    """failures-evaluate.jsonl, where there are any, and a line each for a person."""
    listed = output / "failures-evaluate.jsonl"
    listed.unlink(missing_ok=True)
    if not failures:
        return
    rows = [{"uri": f.uri, "stage": f.stage, "error": f.error, "message": f.message} for f in failures]
    listed.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for failure in failures:
        print(printable(f"mien: {failure.uri}: {failure.message}"), file=sys.stderr)
