"""mien magnify: photos, or pictures of one aligned face, in; magnified ones out."""

import argparse
import sys

import apache_beam as beam

from mien.models.faces import SAME_PERSON
from mien.models.magnify import FaceMagnifier
from mien.models.weights import MAGNIFIER_FILE
from mien.pipelines import JobError
from mien.pipelines.runs import Job, Plan
from mien.pipelines.settings import MagnifyJob, settings_of
from mien.transforms.elements import MagnifiedPhoto, PhotosAndFailures
from mien.transforms.magnify import MagnifyFaces
from mien.transforms.sinks import WriteMagnified
from mien.transforms.sources import PHOTO_SUFFIXES, ReadFiles


def run(args: argparse.Namespace, beam_words: list[str]) -> int:
    """Runs the job; the exit status. Raises MienError for a job that cannot start."""
    if args.size and not args.aligned:
        raise JobError("--size is of --aligned pictures; how much larger a photo gets is --factor")
    job = Job(args, beam_words, [MAGNIFIER_FILE])
    settings = job.fitted(settings_of(MagnifyJob, args))

    def work(listed: PhotosAndFailures, _: beam.PCollection) -> PhotosAndFailures:
        made = job.with_progress(listed | ReadFiles(settings.max_bytes) | MagnifyFaces(settings), MagnifiedPhoto)
        written: PhotosAndFailures = made | WriteMagnified(job.output, job.overwrite)
        return written

    status = job.run(Plan("magnify", PHOTO_SUFFIXES, settings, FaceMagnifier.load().model, work))
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
