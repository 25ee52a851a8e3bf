"""mien restore: coded photos in, pictures out."""

import argparse

import apache_beam as beam

from mien import transforms
from mien.models import codec
from mien.models.weights import codec_model
from mien.pipelines.runs import Job, Plan, warn_unmarked
from mien.pipelines.settings import settings_of
from mien.transforms.elements import Photo, PhotosAndFailures
from mien.transforms.settings import RestoreSettings
from mien.transforms.sinks import WritePhotos
from mien.transforms.sources import CODED_SUFFIXES, ReadCodedFiles


def run(args: argparse.Namespace, beam_words: list[str]) -> int:
    """Runs the job; the exit status. Raises MienError for a job that cannot start."""
    job = Job(args, beam_words)
    settings = job.fitted(settings_of(RestoreSettings, args))
    if not settings.synthesis_mark:
        warn_unmarked()

    def work(listed: PhotosAndFailures, _: beam.PCollection) -> PhotosAndFailures:
        restored = job.with_progress(listed | ReadCodedFiles() | transforms.RestorePhotos(settings), Photo)
        written: PhotosAndFailures = restored | WritePhotos(job.output, job.overwrite)
        return written

    return job.run(Plan("restore", CODED_SUFFIXES, settings, codec_model(), work, check=lambda: codec.FaceCodec.load()))
