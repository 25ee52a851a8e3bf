"""The commands that are Beam jobs: compress, restore, redact, magnify."""

from typing import Any

from mien.pipelines.parser.options import JOB_STATUS, Page, command, inputs_and_output, option, run_options
from mien.pipelines.settings import CompressJob, MagnifyJob, RedactJob
from mien.transforms.settings import METADATA, FaceSettings, FindSettings, RestoreSettings

_POLICIES = "a built-in policy (compress, background-people, deidentify, redact) or a YAML file"


def compress(commands: Any) -> None:
    """mien compress."""
    page = Page(
        "photos to coded photos",
        "INPUT... --output URI [options]",
        "Finds the faces of photos and stores each in at most --face-bytes with the face codec; --policy says who stays"
        " recognisable, and everything else goes through AVIF, WebP or JPEG. mien restore puts the faces back.",
        [
            "mien compress photos --output tables",
            "mien compress photos --output coded --format blobs --policy background-people",
            "mien compress photos --output small --format blobs --photo-bytes 1000",
        ],
        JOB_STATUS,
    )
    parser = command(commands, "compress", page, module="jobs.compress", beam=True)
    files = inputs_and_output(parser, "photo")
    _tables(files, CompressJob)
    option(files, CompressJob, "format", "Parquet tables, an image a photo, or tar shards")
    _of_shards(files, CompressJob)
    faces = parser.add_argument_group("faces")
    _policy(faces, "compress", "who stays recognisable")
    option(faces, CompressJob, "faces", "preserved ones by the codec, in the photo's own pixels, or whichever is liker")
    _coded_faces(faces, CompressJob)
    found_and_hidden(faces, CompressJob)
    rest = parser.add_argument_group("everything else in the photo")
    option(rest, CompressJob, "background", "how it is coded")
    option(rest, CompressJob, "quality", "1 to 100 (60); or instead of it one of the next three", "N")
    option(rest, CompressJob, "photo_bytes", "a coded photo at most, everything counted", "N")
    option(rest, CompressJob, "ratio", "the source file's bytes to those of the coded photo, at least", "R")
    option(rest, CompressJob, "preview", "the same as --photo-bytes 700")
    run_options(parser, CompressJob)


def redact(commands: Any) -> None:
    """mien redact."""
    page = Page(
        "photos to safe photos, without what a policy hides",
        "INPUT... --output URI [options]",
        "Writes ordinary image files in which every face that --policy hides is filled in, pixelated, blurred, or"
        " replaced by that of a person who does not exist. Each photo is searched again before it is written; one in"
        " which a hidden face is still recognised is withheld.",
        ["mien redact photos --output safe", "mien redact photos --output safe --policy deidentify --dry-run"],
        JOB_STATUS,
    )
    parser = command(commands, "redact", page, module="jobs.redact", beam=True)
    files = inputs_and_output(parser, "photo")
    _tables(files, RedactJob)
    option(files, RedactJob, "format", "an image a photo, tar shards of them, or the tables that they came in")
    _of_shards(files, RedactJob)
    option(files, RedactJob, "image_format", "of the files")
    option(files, RedactJob, "quality", "of the files, 1 to 100", "N")
    option(files, RedactJob, "keep", f"metadata that is written anew, of {', '.join(METADATA)}", "NAME[,NAME]")
    option(files, RedactJob, "keep_blocks", "of JPEG files keep, bit for bit, the blocks that no hidden face touches")
    option(files, RedactJob, "write_boxes", "beside each photo: what was found, or a picture of what was painted over")
    files.add_argument("--dry-run", action="store_true", help="write what would be done with each face, and no photo")
    faces = parser.add_argument_group("faces")
    _policy(faces, "redact", "whose face is seen")
    faces.add_argument("--mask", choices=("face", "head"), help="how much of a hidden face goes (as the policy says)")
    faces.add_argument(
        "--corrections", metavar="FILE|URI", help="what a reviewer wants otherwise, as mien review saves it"
    )
    found_and_hidden(faces, RedactJob)
    new = parser.add_argument_group("new faces (under a policy with realistic or deidentify)")
    option(new, RedactJob, "key_file", "with this key one person gets the same new face in every photo", "FILE|URI")
    _coded_faces(new, RedactJob)
    option(new, RedactJob, "synthesis_mark", "do not say in the files that faces are generated")
    option(new, RedactJob, "visible_mark", "write into a corner that faces are generated")
    run_options(parser, RedactJob)


def restore(commands: Any) -> None:
    """mien restore."""
    page = Page(
        "coded photos back to pictures",
        "INPUT... --output URI [options]",
        "Decodes what mien compress wrote: the background, and each coded face in its place. Faces that the policy"
        " redacted stay redacted.",
        ["mien restore coded --output pictures --image-format jpeg"],
        JOB_STATUS,
    )
    parser = command(commands, "restore", page, module="jobs.restore", beam=True)
    files = inputs_and_output(parser, "coded photo, table, shard")
    option(files, RestoreSettings, "image_format", "of the files")
    option(files, RestoreSettings, "synthesis_mark", "do not say in the files that faces are generated")
    run_options(parser, RestoreSettings)


def magnify(commands: Any) -> None:
    """mien magnify."""
    page = Page(
        "photos enlarged, with their small faces magnified",
        "INPUT... --output URI [options]",
        "Enlarges photos and draws their small faces anew, as they may look: the result fits the few pixels that are"
        " there, and identifies nobody.",
        [
            "mien magnify photos --output large --factor 4",
            "mien magnify faces --output large --aligned --size 512 --samples 4",
        ],
        JOB_STATUS,
    )
    parser = command(commands, "magnify", page, module="jobs.magnify", beam=True)
    files = inputs_and_output(parser, "photo")
    option(files, MagnifyJob, "image_format", "of the files")
    option(files, MagnifyJob, "payload", "write the faces as payloads of the codec too, .mien")
    faces = parser.add_argument_group("faces")
    kind = faces.add_mutually_exclusive_group()
    option(kind, MagnifyJob, "factor", "how much larger photos become, 2 to 64", "N")
    option(kind, MagnifyJob, "aligned", "each picture is one FFHQ-aligned face, 8 to 256 px")
    option(faces, MagnifyJob, "size", "px of a magnified face, with --aligned")
    parser.set_defaults(factor=None, size=None)  # what was said, and not a default, goes with one kind of picture
    option(faces, MagnifyJob, "strength", "from 0, faithful, to 1, realistic", "X")
    option(faces, MagnifyJob, "samples", "different plausible results of each", "N")
    option(faces, MagnifyJob, "seed", "of the samples after the first", "N")
    _detector(faces, MagnifyJob)
    run_options(parser, MagnifyJob)


def _policy(group: Any, default: str, what: str) -> None:
    group.add_argument("--policy", default=default, metavar="FILE|NAME", help=f"{what}: {_POLICIES} ({default})")


def _of_shards(group: Any, settings: type[CompressJob] | type[RedactJob]) -> None:
    option(group, settings, "record_uris", "write each photo's whole URI into shards, and not its name alone")
    option(
        group,
        settings,
        "drop_members",
        "members of samples, or columns, that are left out, by suffix or a glob of the name",
        "EXT|GLOB[,...]",
    )


def _tables(group: Any, settings: type[CompressJob] | type[RedactJob]) -> None:
    option(group, settings, "column", "INPUT are Parquet or CSV tables, whose photos are in this column", "NAME")
    option(group, settings, "kind", "of the column: pictures, or paths and URIs", "auto|bytes|uri")


def _coded_faces(group: Any, settings: type[FaceSettings]) -> None:
    option(group, settings, "face_bytes", "a coded face at most", "N")
    option(group, settings, "effort", "auto: as much as it takes until recognisers know the person again")


def _detector(group: Any, settings: type[FindSettings]) -> None:
    what = "what several find is joined; mien: the usual ones, none: see --boxes, or your own, module:Class"
    option(group, settings, "detectors", what, "NAME[,NAME]", "--detector")
    option(group, settings, "min_score", "what a detector is less sure of is no face, 0 to 1", "X")


def found_and_hidden(group: Any, settings: type[FaceSettings]) -> None:
    """Options of what is found, and how much of it is hidden."""
    _detector(group, settings)
    what = "boxes that are joined to what is found: COCO JSON, CSV, Parquet, a folder of YOLO .txt or .xmp files"
    option(group, settings, "boxes", what, "FILE")
    option(group, settings, "margin", "how much a box grows on each side, of its size, before it is hidden", "X")
