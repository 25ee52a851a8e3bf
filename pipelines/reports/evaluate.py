"""mien evaluate: rate against quality on folders of faces, beside conventional codecs. Without a Beam job."""

import argparse
from collections.abc import Sequence

import numpy as np

from mien.models import FaceCodec
from mien.models.evaluation import MIEN, Bench, Meter, Missing, Row, needs, peak_memory, peers, reached
from mien.models.runtime import cores
from mien.pipelines import JobError
from mien.pipelines.reports import evaluate_magnify, evaluate_photos, evaluate_report
from mien.pipelines.reports.face_set import FaceSet, about, meter_of, progress, read_sets, status_of
from mien.transforms.workers import failure_of

BYTES = (64, 150, 320, 600, 1200)  # a face at most
MOST_BYTES = 4096
LARGEST = 32768  # bytes up to which a conventional codec is followed to mien's quality


def run(args: argparse.Namespace) -> int:
    """Measures and writes; 0, or 3 where a picture could not be measured. MienError for what keeps it from starting."""
    if args.magnify and args.photos:
        raise JobError("--magnify and --photos exclude each other")
    if args.magnify:
        return evaluate_magnify.run(args)
    if args.strength:
        raise JobError("--strength is for --magnify")
    if args.photos:
        return evaluate_photos.run(args)
    args.bytes, args.effort = args.bytes or BYTES, args.effort or ("fast",)
    if args.bytes[-1] > MOST_BYTES:
        raise JobError(f"--bytes: {args.bytes[-1]} is not between 24 and {MOST_BYTES}, but for --photos")
    notes: list[str] = []
    with read_sets(args) as (output, sets):
        codec = FaceCodec.load(args.weights)
        meter = meter_of(codec.recogniser, args, notes)
        conventional = _peers(args.codecs, notes)
        for found in sets:
            _measure(found, args, Bench(codec, meter, found.work), meter, conventional)
        report = {
            **about(notes),
            "model": codec.model,
            "settings": {
                "bytes": list(args.bytes),
                "efforts": list(args.effort),
                "objective": args.objective,
                "codecs": [peer.name for peer in conventional],
                "sides": list(peers.SIDES),
                "criterion": "LPIPS" if meter.lpips else "PSNR",
            },
            "peak_memory": _memory(args, sets),
        }
        evaluate_report.write(output, sets, report, codec, {peer.name: peer for peer in conventional}, args.quiet)
        return status_of(output, sets)


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
