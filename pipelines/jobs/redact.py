"""mien redact: photos in, safe photos out."""

import argparse
import dataclasses
import functools
import os
import stat

import apache_beam as beam

from mien import transforms
from mien.models.weights import codec_model
from mien.pipelines import JobError
from mien.pipelines.jobs.boxes import box_file, check_photos
from mien.pipelines.jobs.policy import warn_withheld, weights_for
from mien.pipelines.runs import Job, Plan, check_codec, warn_unmarked
from mien.pipelines.settings import SHARDS, TABLES, RedactJob, settings_of
from mien.transforms import steps
from mien.transforms.elements import PhotosAndFailures, SafePhoto
from mien.transforms.formats import TABLE_SUFFIXES, Colocate
from mien.transforms.policy import MAX_KEY, Corrections, KeyFile, load_policy, read_corrections
from mien.transforms.sinks import WritePhotos, WriteTable, WriteWebDataset
from mien.transforms.sources import PHOTO_SUFFIXES, CheckCorrections, ReadFiles
from mien.transforms.stores import is_local, normal_uri, read_start
from mien.transforms.workers import StageTransform

# what decides on faces, and on nothing else: a photo whose faces are decided on as before need not be done again
_DECIDED = ("policy", "policy_hash", "galleries")


def run(args: argparse.Namespace, beam_words: list[str]) -> int:
    """Runs the job; the exit status. Raises MienError for a job that cannot start."""
    policy = load_policy(args.policy)
    policy = policy.with_mask(args.mask or policy.mask)
    if args.key_file == "":
        raise JobError("--key-file is empty")
    key_file = _to_be_read_again(args.key_file or "", beam_words)
    key = KeyFile.of(key_file) if key_file else None
    settings = settings_of(RedactJob, args, policy=policy, key_file=key, boxes=box_file(args.boxes))
    job = Job(args, beam_words, weights_for(settings.policy, draws=settings.generates))
    if not settings.column:  # the rows of a table are told from each other on the way
        check_photos(settings.boxes, job.inputs, job.exclude, job.globs)
    warn_withheld(policy)
    policy = steps.with_galleries(settings.policy) if settings.policy.galleries else settings.policy
    settings = job.fitted(settings)
    column = settings.photo_column
    corrections = _corrections_of(args)
    if settings.generates and not settings.synthesis_mark and not args.dry_run:
        warn_unmarked()

    def read(listed: PhotosAndFailures) -> PhotosAndFailures:
        checked = listed | CheckCorrections() if corrections else listed
        photos: PhotosAndFailures = checked | ReadFiles(settings.max_bytes)
        return photos

    def look(listed: PhotosAndFailures, _: beam.PCollection) -> PhotosAndFailures:
        from mien.transforms.preview import PreviewPhotos, WritePreview  # brings torch, as none of the above does

        seen = job.with_progress(read(listed) | PreviewPhotos(settings), SafePhoto)
        written: PhotosAndFailures = seen | WritePreview(job.output)
        return written

    def work(listed: PhotosAndFailures, everything: beam.PCollection) -> PhotosAndFailures:
        rows = None
        if settings.named_by:
            rows = everything | Colocate() | steps.FaceRows(settings.named_by, settings, settings.max_bytes)
        safe = read(listed) | transforms.RedactPhotos(settings, rows=rows)
        write: StageTransform = WritePhotos(job.output, job.overwrite)
        parts = {"commits": False, "withdraw": True, "record_uris": settings.record_uris}
        if settings.format == SHARDS:
            write = WriteWebDataset(job.output, job.run_id, **parts)
        elif settings.format == TABLES and column:
            write = WriteTable(job.output, column, job.run_id, **parts)
        written: PhotosAndFailures = job.with_progress(safe, SafePhoto) | write
        return written

    plan = Plan(
        "redact",
        TABLE_SUFFIXES if column else PHOTO_SUFFIXES,
        settings,
        codec_model(),
        look if args.dry_run else work,
        reads=(*policy.galleries, *([key_file] if key_file else []), *([settings.boxes.uri] if settings.boxes else [])),
        check=check_codec,
        whole=settings.whole,
        column=column,
        corrections=corrections,
    )
    if args.dry_run:
        return job.run(dataclasses.replace(plan, dry=True))
    same = functools.partial(steps.same_decisions, policy.uncoded())
    parts = settings.format != "files"
    return job.run(dataclasses.replace(plan, decided=_DECIDED, same=same, withdraw=True, parts=parts))


def _corrections_of(args: argparse.Namespace) -> Corrections | None:
    if args.corrections == "":
        raise JobError("--corrections is empty")
    return read_corrections(args.corrections) if args.corrections else None


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
