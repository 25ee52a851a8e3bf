"""mien compress: photos in, coded photos out."""

import argparse

import apache_beam as beam

from mien.models.codec import FaceCodec
from mien.models.faces import check_reading
from mien.pipelines.jobs.boxes import box_file, check_photos
from mien.pipelines.jobs.policy import warn_withheld, weights_for
from mien.pipelines.runs import Job, Plan
from mien.pipelines.settings import SHARDS, CompressJob, settings_of
from mien.transforms.compress import CompressPhotos
from mien.transforms.elements import CodedPhoto, PhotosAndFailures
from mien.transforms.policy import SHOWN, load_policy
from mien.transforms.sinks import WriteBlobs, WriteParquet, WriteWebDataset
from mien.transforms.sources import PHOTO_SUFFIXES, ReadFiles
from mien.transforms.steps import with_galleries
from mien.transforms.workers import StageTransform


def run(args: argparse.Namespace, beam_words: list[str]) -> int:
    """Runs the job; the exit status. Raises MienError for a job that cannot start."""
    settings = settings_of(CompressJob, args, policy=load_policy(args.policy), boxes=box_file(args.boxes))
    job = Job(args, beam_words, weights_for(settings.policy, draws="deidentify" in settings.policy.actions))
    check_photos(settings.boxes, job.inputs, job.exclude, job.globs)
    warn_withheld(settings.policy)
    policy = with_galleries(settings.policy)
    settings = job.fitted(settings)
    hides = not policy.actions <= SHOWN  # then nothing that shows more than the policy may stay

    def work(listed: PhotosAndFailures, _: beam.PCollection) -> PhotosAndFailures:
        coded = job.tell_done(listed | ReadFiles(settings.max_bytes) | CompressPhotos(settings), CodedPhoto)
        shards = {"commits": False, "withdraw": hides}
        write: StageTransform
        if settings.format == "blobs":
            write = WriteBlobs(job.output, job.overwrite)
        elif settings.format == SHARDS:
            write = WriteWebDataset(job.output, job.run_id, record_uris=settings.record_uris, **shards)
        else:
            write = WriteParquet(job.output, job.run_id, **shards)
        written: PhotosAndFailures = coded | write
        return written

    codec = FaceCodec.load()
    check_reading(codec.recogniser)
    parts, reads = settings.format != "blobs", (*policy.galleries, *([settings.boxes.uri] if settings.boxes else []))
    plan = Plan("compress", PHOTO_SUFFIXES, settings, codec.model, work, withdraw=hides, parts=parts, reads=reads)
    return job.run(plan)
