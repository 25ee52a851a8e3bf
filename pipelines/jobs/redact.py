"""mien redact: photos in, safe photos out."""

import argparse
import functools
from typing import Any

import apache_beam as beam

from mien.models.codec import FaceCodec
from mien.models.weights import PERSON_FILE
from mien.pipelines import JobError
from mien.pipelines.runs import Job, Plan, check_record_uris, warn_unmarked
from mien.transforms.elements import PhotosAndFailures, SafePhoto
from mien.transforms.formats import Together
from mien.transforms.policy import SHOWN, KeyFile, Policy, load_policy, read_key
from mien.transforms.preview import PreviewPhotos, WritePreview
from mien.transforms.redact import RedactPhotos, uncoded_policy
from mien.transforms.sinks import WritePhotos, WriteWebDataset
from mien.transforms.sources import PHOTO_SUFFIXES, ReadFiles
from mien.transforms.steps import GENERATED, SECONDS, VERSION, FaceRows, same_decisions, with_galleries
from mien.transforms.workers import StageTransform

# what decides on faces, and on nothing else: a photo whose faces are decided on as before need not be done again
_DECIDED = ("policy", "policy_hash", "galleries")


def run(args: argparse.Namespace, beam_words: list[str]) -> int:
    """Runs the job; the exit status. Raises MienError for a job that cannot start."""
    policy = load_policy(args.policy)
    policy = policy.with_mask(args.mask or policy.mask)
    check_record_uris(args)
    if args.key_file == "":
        raise JobError("--key-file is empty")
    key_id = read_key(args.key_file).id if args.key_file else None
    job = Job(args, beam_words, [PERSON_FILE] if "deidentify" in policy.actions else [])
    policy = with_galleries(policy)
    if args.no_synthesis_mark and policy.actions & GENERATED and not args.dry_run:
        warn_unmarked()
    settings = _settings(args, policy, key_id)
    limits = job.limits(SECONDS[args.effort])
    reads = (*policy.galleries, *([args.key_file] if args.key_file else []))
    if args.dry_run:
        preview = PreviewPhotos(policy, args.detector, args.max_pixels, job.threads, limits)

        def look(listed: PhotosAndFailures, _: beam.PCollection) -> PhotosAndFailures:
            seen = listed | ReadFiles(args.max_bytes) | preview
            told = PhotosAndFailures(photos=job.tell_done(seen.photos, SafePhoto), failures=seen.failures)
            written: PhotosAndFailures = told | WritePreview(job.output)
            return written

        return job.run(Plan("redact", PHOTO_SUFFIXES, settings, look, dry=True, reads=reads))

    def work(listed: PhotosAndFailures, everything: beam.PCollection) -> PhotosAndFailures:
        rows = None
        if key_id and "deidentify" in policy.actions:
            search = args.detector, args.max_bytes, args.max_pixels, job.threads, limits
            rows = everything | Together() | FaceRows(KeyFile.of(args.key_file), *search)
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
            args.key_file or "",
            rows,
            limits,
        )
        safe = listed | ReadFiles(args.max_bytes) | redact
        told = PhotosAndFailures(photos=job.tell_done(safe.photos, SafePhoto), failures=safe.failures)
        write: StageTransform = WritePhotos(job.output, job.overwrite)
        if args.format == "webdataset":
            uris = args.record_uris
            write = WriteWebDataset(job.output, job.run_id, commits=False, withdraw=True, record_uris=uris)
        written: PhotosAndFailures = told | write
        return written

    same = functools.partial(same_decisions, uncoded_policy(policy))
    shards = args.format != "files"
    plan = Plan("redact", PHOTO_SUFFIXES, settings, work, _DECIDED, same, withdraw=True, parts=shards, reads=reads)
    return job.run(plan)


def _settings(args: argparse.Namespace, policy: Policy, key_id: str | None) -> dict[str, Any]:
    """All that decides what a photo's output is. No secret and no name of a person is in it."""
    return {
        "format": args.format,
        "record_uris": args.record_uris,
        "policy": policy.id,
        "policy_hash": policy.hash,
        "galleries": list(policy.digests.values()),
        "hides": not policy.actions <= SHOWN,
        "mask": policy.mask,
        "key_id": key_id,
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
