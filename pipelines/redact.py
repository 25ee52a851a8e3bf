"""mien redact: photos in, safe photos out."""

import argparse
import sys

from mien.models.codec import FaceCodec
from mien.pipelines.run import Job, Plan
from mien.transforms.background import VERSION
from mien.transforms.code_faces import GENERATED
from mien.transforms.elements import PhotosAndFailures, SafePhoto
from mien.transforms.policy import load_policy
from mien.transforms.read import IMAGE_SUFFIXES, ReadFiles
from mien.transforms.redact import RedactPhotos
from mien.transforms.write_blobs import WritePhotos


def warn_unmarked() -> None:
    """Says once that the outputs will not tell that faces in them are generated."""
    print("mien: warning: nothing in the pictures will say that faces in them are generated", file=sys.stderr)


def run(args: argparse.Namespace, beam_words: list[str]) -> int:
    """Runs the job; the exit status. Raises MienError for a job that cannot start."""
    policy = load_policy(args.policy)
    if args.mask:
        policy = policy.with_mask(args.mask)
    job = Job(args, beam_words)
    if args.no_synthesis_mark and policy.actions & GENERATED:
        warn_unmarked()
    settings = {
        "policy": policy.id,
        "policy_hash": policy.hash,
        "mask": policy.mask,
        "model": FaceCodec.load().model,
        "image_format": args.image_format,
        "quality": args.quality,
        "keep": list(args.keep),
        "face_bytes": args.face_bytes,
        "effort": args.effort,
        "synthesis_mark": not args.no_synthesis_mark,
        "visible_mark": args.visible_mark,
        "detectors": list(args.detector),
        "max_bytes": args.max_bytes,
        "max_pixels": args.max_pixels,
        "version": VERSION,
    }
    redact = RedactPhotos(
        policy,
        args.image_format,
        args.quality,
        args.keep,
        args.detector,
        not args.no_synthesis_mark,
        args.visible_mark,
        args.face_bytes,
        args.effort,
        args.max_pixels,
        job.threads,
    )

    def work(listed: PhotosAndFailures) -> PhotosAndFailures:
        safe = listed | ReadFiles(args.max_bytes) | redact
        told = PhotosAndFailures(photos=job.tell_done(safe.photos, SafePhoto), failures=safe.failures)
        written: PhotosAndFailures = told | WritePhotos(job.output, job.overwrite)
        return written

    return job.run(Plan("redact", IMAGE_SUFFIXES, settings, work))
