"""mien compress: photos in, coded photos out."""

import argparse
import dataclasses

import apache_beam as beam

from mien import transforms
from mien.models.weights import codec_model
from mien.pipelines.jobs.boxes import box_file, check_photos
from mien.pipelines.jobs.policy import warn_withheld, weights_for
from mien.pipelines.runs import Job, Plan, check_codec
from mien.pipelines.settings import SHARDS, CompressJob, settings_of
from mien.transforms import steps
from mien.transforms.elements import CodedPhoto, PhotosAndFailures
from mien.transforms.formats import TABLE_SUFFIXES
from mien.transforms.policy import SHOWN, load_policy
from mien.transforms.sinks import WriteBlobs, WriteParquet, WriteWebDataset
from mien.transforms.sources import PHOTO_SUFFIXES, ReadFiles
from mien.transforms.workers import StageTransform


def run(args: argparse.Namespace, beam_words: list[str]) -> int:
    """Runs the job; the exit status. Raises MienError for a job that cannot start."""
    settings = settings_of(CompressJob, args, policy=load_policy(args.policy), boxes=box_file(args.boxes))
    job = Job(args, beam_words, weights_for(settings.policy, draws="deidentify" in settings.policy.actions))
    if not settings.column:  # the rows of a table are told from each other on the way
        check_photos(settings.boxes, job.inputs, job.exclude, job.globs)
    warn_withheld(settings.policy)
    policy = steps.with_galleries(settings.policy) if settings.policy.galleries else settings.policy
    settings = job.fitted(settings)
    hides = not policy.actions <= SHOWN  # then nothing that shows more than the policy may stay

    def work(listed: PhotosAndFailures, _: beam.PCollection) -> PhotosAndFailures:
        coded = job.with_progress(
            listed | ReadFiles(settings.max_bytes) | transforms.CompressPhotos(settings), CodedPhoto
        )
        shards = {"commits": False, "withdraw": hides}
        write: StageTransform
        if settings.format == "blobs":
            write = WriteBlobs(job.output, job.overwrite)
        elif settings.format == SHARDS:
            write = WriteWebDataset(job.output, job.run_id, record_uris=settings.record_uris, **shards)
        else:
            write = WriteParquet(job.output, job.run_id, column=settings.photo_column, **shards)
        written: PhotosAndFailures = coded | write
        return written

    parts, reads = settings.format != "blobs", (*policy.galleries, *([settings.boxes.uri] if settings.boxes else []))
    suffixes = TABLE_SUFFIXES if settings.column else PHOTO_SUFFIXES
    plan = Plan("compress", suffixes, settings, codec_model(), work, withdraw=hides, parts=parts, reads=reads)
    return job.run(dataclasses.replace(plan, check=check_codec, whole=settings.whole, column=settings.photo_column))
