"""mien magnify: photos, or pictures of one aligned face, in; magnified ones out."""

import argparse
import sys

import apache_beam as beam

from mien.models.codec import SIZE
from mien.models.faces import SAME_PERSON
from mien.models.magnify import FaceMagnifier
from mien.models.weights import MAGNIFIER_FILE
from mien.pipelines import JobError
from mien.pipelines.runs import Job, Plan
from mien.transforms.elements import MagnifiedPhoto, PhotosAndFailures
from mien.transforms.magnify import FACTOR, MagnifyFaces
from mien.transforms.sinks import WriteMagnified
from mien.transforms.sources import PHOTO_SUFFIXES, ReadFiles
from mien.transforms.steps import VERSION


def run(args: argparse.Namespace, beam_words: list[str]) -> int:
    """Runs the job; the exit status. Raises MienError for a job that cannot start."""
    if args.size and not args.aligned:
        raise JobError("--size is of --aligned pictures; how much larger a photo gets is --factor")
    factor, size = args.factor or FACTOR, args.size or SIZE
    job = Job(args, beam_words, [MAGNIFIER_FILE])
    settings = {
        "factor": None if args.aligned else factor,
        "size": size if args.aligned else None,
        "strength": args.strength,
        "samples": args.samples,
        "seed": args.seed,
        "payload": args.payload,
        "image_format": args.image_format,
        "model": FaceMagnifier.load().model,
        "detectors": None if args.aligned else list(args.detector),
        "max_bytes": args.max_bytes,
        "max_pixels": args.max_pixels,
        "version": VERSION,
    }
    magnify = MagnifyFaces(
        factor,
        args.aligned,
        size,
        args.strength,
        args.samples,
        args.seed,
        args.payload,
        args.image_format,
        detectors=args.detector,
        max_pixels=args.max_pixels,
        threads=job.threads,
        limits=job.limits(),
    )

    def work(listed: PhotosAndFailures, _: beam.PCollection) -> PhotosAndFailures:
        made = listed | ReadFiles(args.max_bytes) | magnify
        told = PhotosAndFailures(photos=job.tell_done(made.photos, MagnifiedPhoto), failures=made.failures)
        written: PhotosAndFailures = told | WriteMagnified(job.output, job.overwrite)
        return written

    status = job.run(Plan("magnify", PHOTO_SUFFIXES, settings, work))
    if job.record and not args.quiet:  # a template's job has only been described, and has none yet
        _warn(job.record["counts"])
    return status


def _warn(counts: dict[str, int]) -> None:
    """What a person must know of the pictures before they use them."""
    made, lost, flagged = counts["magnified"], counts["identity_not_preserved"], counts["flagged"]
    if lost:
        print(
            f"mien: warning: identity not preserved in {lost} of {made} magnified faces (similarity under"
            f" {SAME_PERSON}, or too few pixels to tell): do not use them to identify anybody",
            file=sys.stderr,
        )
    if flagged:
        print(f"mien: warning: {flagged} of {made} magnified faces are flagged: see the .jsonl files", file=sys.stderr)
