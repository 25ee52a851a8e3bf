"""mien evaluate: rate against quality on folders of faces, beside conventional codecs. Without a Beam job."""

import argparse
import contextlib
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from mien.models import FaceCodec
from mien.models.evaluation import MIEN, Bench, Meter, Missing, Row, needs, peak_memory, peers, reached
from mien.models.runtime import cores, tune_process
from mien.pipelines import JobError
from mien.pipelines.jobs import FaceFinder
from mien.pipelines.reports import evaluate_magnify, evaluate_report
from mien.pipelines.reports.face_set import (
    FaceSet,
    environment,
    find_dlib,
    find_lpips,
    list_pictures,
    make_output,
    progress,
    read_faces,
    set_names,
    write_failures,
)
from mien.transforms.stores import normal_uri
from mien.transforms.workers import failure_of

LARGEST = 32768  # bytes up to which a conventional codec is followed to mien's quality


def run(args: argparse.Namespace) -> int:
    """Measures and writes; 0, or 3 where a picture could not be measured. MienError for what keeps it from starting."""
    if args.magnify:
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


def _peers(wanted: Sequence[str], notes: list[str]) -> list[peers.Peer]:
    there = peers.installed()
    for name in wanted:
        if name not in there:
            how = "`pip install imagecodecs`" if name == peers.JPEG_XL else "this Pillow was built without it"
            notes.append(f"No {name}: {how}.")
    return [there[name] for name in wanted if name in there]


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
