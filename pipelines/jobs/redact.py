"""mien redact: photos in, safe photos out."""

import argparse
import functools
import os
import stat
from typing import Any

import apache_beam as beam

from mien.models.codec import FaceCodec
from mien.models.faces import check_reading
from mien.models.weights import PERSON_FILE, POOL_FILE
from mien.pipelines import JobError
from mien.pipelines.runs import Job, Plan, check_record_uris, warn_unmarked
from mien.transforms.elements import PhotosAndFailures, SafePhoto
from mien.transforms.formats import Together
from mien.transforms.policy import MAX_KEY, SHOWN, KeyFile, Policy, load_policy, read_key
from mien.transforms.preview import PreviewPhotos, WritePreview
from mien.transforms.redact import RedactPhotos, seconds_of, uncoded_policy
from mien.transforms.sinks import WritePhotos, WriteWebDataset
from mien.transforms.sources import PHOTO_SUFFIXES, ReadFiles
from mien.transforms.steps import GENERATED, VERSION, FaceRows, same_decisions, with_galleries
from mien.transforms.stores import is_local, normal_uri, read_start
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
    key_file = _to_be_read_again(args.key_file or "", beam_words)
    key_id = read_key(key_file).id if key_file else None
    job = Job(args, beam_words, [PERSON_FILE, POOL_FILE] if policy.actions & GENERATED else [])
    policy = with_galleries(policy)
    if args.no_synthesis_mark and policy.actions & GENERATED and not args.dry_run:
        warn_unmarked()
    settings = _settings(args, policy, key_id)
    limits = job.limits(seconds_of(policy, args.effort))
    reads = (*policy.galleries, *([key_file] if key_file else []))
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
            rows = everything | Together() | FaceRows(KeyFile.of(key_file), *search)
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
            key_file,
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


def _to_be_read_again(key_file: str, beam_words: list[str]) -> str:
    """The key's file; of a pipe, which is read but once, a copy in memory that this machine's workers can read too."""
    path = normal_uri(key_file) if key_file else ""
    if not (path and is_local(path) and os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode)):
        return key_file
    if not hasattr(os, "memfd_create") or any(word.startswith("--runner") for word in beam_words):
        raise JobError(f"{key_file}: a pipe is read but once, and workers read the key too: name a file")
    copy = os.memfd_create("mien-key")  # gone with this process; only its own user can open it
    os.write(copy, read_start(path, MAX_KEY + 2))
    return f"/proc/{os.getpid()}/fd/{copy}"


def _settings(args: argparse.Namespace, policy: Policy, key_id: str | None) -> dict[str, Any]:
    """All that decides what a photo's output is. No secret and no name of a person is in it."""
    codec = FaceCodec.load()
    check_reading(codec.recogniser)
    return {
        "format": args.format,
        "record_uris": args.record_uris,
        "policy": policy.id,
        "policy_hash": policy.hash,
        "galleries": list(policy.digests.values()),
        "hides": not policy.actions <= SHOWN,
        "mask": policy.mask,
        "key_id": key_id,
        "model": codec.model,
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
