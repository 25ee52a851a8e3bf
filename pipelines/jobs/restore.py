"""mien restore: coded photos in, pictures out."""

import argparse

import apache_beam as beam

from mien.models.codec import FaceCodec
from mien.pipelines.runs import Job, Plan, warn_unmarked
from mien.transforms.elements import Photo, PhotosAndFailures
from mien.transforms.restore import RestorePhotos
from mien.transforms.sinks import WritePhotos
from mien.transforms.sources import CODED_SUFFIXES, ReadCodedFiles
from mien.transforms.steps import VERSION


def run(args: argparse.Namespace, beam_words: list[str]) -> int:
    """Runs the job; the exit status. Raises MienError for a job that cannot start."""
    job = Job(args, beam_words)
    settings = {"image_format": args.image_format, "model": FaceCodec.load().model, "version": VERSION}
    settings["synthesis_mark"] = not args.no_synthesis_mark
    if args.no_synthesis_mark:
        warn_unmarked()

    def work(listed: PhotosAndFailures, _: beam.PCollection) -> PhotosAndFailures:
        restored = (
            listed
            | ReadCodedFiles()
            | RestorePhotos(
                args.image_format, threads=job.threads, synthesis_mark=not args.no_synthesis_mark, limits=job.limits()
            )
        )
        told = PhotosAndFailures(photos=job.tell_done(restored.photos, Photo), failures=restored.failures)
        written: PhotosAndFailures = told | WritePhotos(job.output, job.overwrite)
        return written

    return job.run(Plan("restore", CODED_SUFFIXES, settings, work))
