"""mien compress: photos in, coded photos out."""

import argparse
from typing import Any

import apache_beam as beam

from mien.models.codec import FaceCodec
from mien.models.faces import check_reading
from mien.models.weights import PERSON_FILE, POOL_FILE
from mien.pipelines.runs import Job, Plan, check_record_uris
from mien.transforms.compress import CompressPhotos
from mien.transforms.elements import CodedPhoto, PhotosAndFailures
from mien.transforms.policy import SHOWN, Policy, load_policy
from mien.transforms.sinks import WriteBlobs, WriteParquet, WriteWebDataset
from mien.transforms.sources import PHOTO_SUFFIXES, ReadFiles
from mien.transforms.steps import SECONDS, VERSION, with_galleries
from mien.transforms.workers import StageTransform


def run(args: argparse.Namespace, beam_words: list[str]) -> int:
    """Runs the job; the exit status. Raises MienError for a job that cannot start."""
    policy = load_policy(args.policy)
    check_record_uris(args)
    job = Job(args, beam_words, [PERSON_FILE, POOL_FILE] if "deidentify" in policy.actions else [])
    policy = with_galleries(policy)
    hides = not policy.actions <= SHOWN  # then nothing that shows more than the policy may stay
    compress = CompressPhotos(
        policy,
        args.face_bytes,
        args.effort,
        args.background,
        args.quality,
        args.detector,
        args.max_pixels,
        job.threads,
        job.limits(SECONDS[args.effort]),
    )

    def work(listed: PhotosAndFailures, _: beam.PCollection) -> PhotosAndFailures:
        coded = listed | ReadFiles(args.max_bytes) | compress
        told = PhotosAndFailures(photos=job.tell_done(coded.photos, CodedPhoto), failures=coded.failures)
        write: StageTransform
        if args.format == "blobs":
            write = WriteBlobs(job.output, job.overwrite)
        elif args.format == "webdataset":
            write = WriteWebDataset(job.output, job.run_id, commits=False, withdraw=hides, record_uris=args.record_uris)
        else:
            write = WriteParquet(job.output, job.run_id, commits=False, withdraw=hides)
        written: PhotosAndFailures = told | write
        return written

    parts, reads = args.format != "blobs", tuple(policy.galleries)
    settings = _settings(args, policy)
    return job.run(Plan("compress", PHOTO_SUFFIXES, settings, work, withdraw=hides, parts=parts, reads=reads))


def _settings(args: argparse.Namespace, policy: Policy) -> dict[str, Any]:
    """All that decides what a photo's output is. No name of a person is in it."""
    codec = FaceCodec.load()
    check_reading(codec.recogniser)
    return {
        "format": args.format,
        "record_uris": args.record_uris,
        "policy": policy.id,
        "policy_hash": policy.hash,
        "galleries": list(policy.digests.values()),
        "model": codec.model,
        "face_bytes": args.face_bytes,
        "effort": args.effort,
        "background": args.background,
        "quality": args.quality,
        "detectors": list(args.detector),
        "max_bytes": args.max_bytes,
        "max_pixels": args.max_pixels,
        "version": VERSION,
    }
