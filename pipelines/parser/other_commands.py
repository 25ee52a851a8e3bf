"""The commands that are no Beam jobs: face, inspect, evaluate, audit, report, policy."""

import argparse
from typing import Any

from mien.pipelines.parser.job_commands import found_and_hidden
from mien.pipelines.parser.options import STATUS, Page, Parser, Value, command, option, verbosity
from mien.transforms.setting_kinds import Names, Number, Share
from mien.transforms.settings import EFFORTS, CompressSettings, FaceSettings

_OBJECTIVES = ("realistic", "identity", "private")
_CODECS = ("JPEG", "JPEG 2000", "WebP", "AVIF", "JPEG XL")
_STRENGTH = "from 0, faithful, to 1, realistic"


def _codecs(text: str) -> tuple[str, ...]:
    known = {"".join(name.lower().split()): name for name in _CODECS}
    names = [] if text == "none" else ["".join(name.lower().split()) for name in text.split(",")]
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"unknown codec {unknown[0]!r}; known are none, {', '.join(known)}")
    return tuple(name for key, name in known.items() if key in names)


def _ceilings(text: str) -> tuple[int, ...]:
    parse = Value(Number(24, 65_536))
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers")
    return tuple(sorted({parse(part) for part in text.split(",")}))


def face(commands: Any) -> None:
    """mien face encode and decode."""
    page = Page(
        "single aligned faces",
        "COMMAND ...",
        "Codes single aligned faces with the face codec, without Beam.",
        ["mien face encode portrait.jpg --output faces", "mien face decode faces/portrait.jpg.mien --output faces"],
    )
    parser = command(commands, "face", page)
    parts = parser.add_subparsers(metavar="COMMAND", required=True, prog=parser.prog, parser_class=Parser)
    page = Page(
        "pictures to payloads, NAME.mien",
        "IMAGE... --output DIR [options]",
        "Codes each picture's face in at most --face-bytes. A picture of 512 x 512 is one aligned face; of others the"
        " largest face is aligned and taken.",
        ["mien face encode portrait.jpg --output faces --effort best"],
    )
    encode = command(parts, "encode", page, module="jobs.face", beam=False, run="encode")
    _files(encode, "IMAGE", "picture")
    codec = encode.add_argument_group("codec")
    option(codec, CompressSettings, "face_bytes", "a face at most", "N")
    option(codec, CompressSettings, "effort", "auto: as much as it takes until recognisers know the person again")
    _objective(codec)
    page = Page(
        "payloads to 512 x 512 pictures, NAME.png",
        "FILE... --output DIR [options]",
        "Decodes what mien face encode wrote, or a prefix of it that ends with a layer.",
        ["mien face decode faces/portrait.jpg.mien --output faces"],
    )
    _files(command(parts, "decode", page, module="jobs.face", beam=False, run="decode"), "FILE", "coded face, .mien")


def inspect(commands: Any) -> None:
    """mien inspect."""
    page = Page(
        "what is inside a file, byte by byte",
        "FILE [options]",
        "Prints what a coded photo, a table or shard of them, or a coded face holds.",
        ["mien inspect coded/team.jpg.avif", "mien inspect tables/photos-0001.parquet --json"],
    )
    parser = command(commands, "inspect", page, module="jobs.inspect_file", beam=False)
    parser.add_argument("file", metavar="FILE", help="coded photo, table, shard or coded face")
    parser.add_argument("--json", action="store_true", help="as JSON")
    verbosity(parser)


def evaluate(commands: Any) -> None:
    """mien evaluate."""
    page = Page(
        "rate against quality on folders of faces, beside other codecs",
        "DIR... --output DIR [options]",
        "Codes the faces of each folder at several sizes with mien and with conventional codecs, measures what comes"
        " back, and writes a page with tables, plots and pictures. With --magnify it measures mien magnify instead.",
        [
            "mien evaluate portraits candid --output figures --effort fast,good",
            "mien evaluate portraits --output figures --magnify",
            "mien evaluate --photos portraits --output figures",
        ],
    )
    parser = command(commands, "evaluate", page, module="reports.evaluate", beam=False)
    _files(parser, "DIR", "folder of 512 x 512 aligned faces; of other pictures the largest face is taken", "folders")
    rate = parser.add_argument_group("codecs")
    rate.add_argument(
        "--bytes",
        type=_ceilings,
        metavar="N[,N]",
        help="a face at most (64,150,320,600,1200); with --photos a photo (500 to 32000)",
    )
    rate.add_argument(
        "--effort",
        type=Value(Names(EFFORTS, "effort")),
        metavar="NAME[,NAME]",
        help=f"of {', '.join(EFFORTS)} (fast; with --photos auto)",
    )
    _objective(rate)
    rate.add_argument(
        "--codecs",
        type=_codecs,
        default=_CODECS,
        metavar="NAME[,NAME]",
        help="to compare with: jpeg, jpeg2000, webp, avif, jpegxl (all), or none",
    )
    rate.add_argument(
        "--photos", action="store_true", help="measure whole photos within budgets of bytes, not single faces"
    )
    magnify = parser.add_argument_group("magnifying")
    magnify.add_argument(
        "--magnify", action="store_true", help="measure mien magnify at 16x and 64x instead, beside bicubic and Lanczos"
    )
    magnify.add_argument("--strength", type=Value(Share()), default=0.0, metavar="X", help=f"{_STRENGTH} (0)")
    models = parser.add_argument_group("models")
    models.add_argument("--weights", metavar="URI", help="folder with other weights than the package's")
    models.add_argument("--lpips-backbone", metavar="FILE", help="SqueezeNet 1.1: ncnn's .bin or torchvision's .pth")
    models.add_argument("--lpips-heads", metavar="FILE", help="squeeze.pth of the PyPI package lpips")
    models.add_argument("--dlib", metavar="DIR", help="the .dat files of the PyPI package face_recognition_models")


def audit(commands: Any) -> None:
    """mien audit."""
    page = Page(
        "who is still recognisable in an output, and what leaked",
        "OUTPUT --originals DIR --output DIR [options]",
        "Compares an output with the photos that it was made from, with recognisers and detectors, and searches the"
        " files for metadata and thumbnails of the originals.",
        ["mien audit safe --originals photos --output report"],
        "0 nothing found; 2 bad command line; 3 a recognisable face or a leak was found, or a photo could not be"
        " audited.",
    )
    parser = command(commands, "audit", page, module="reports.audit", beam=False)
    parser.add_argument(
        "audited", metavar="OUTPUT", help="safe photos, coded photos, tables or shards: file, folder, glob or URI"
    )
    parser.add_argument("--originals", required=True, metavar="DIR", help="the photos that OUTPUT was made from")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for audit.json and audit.html")
    parser.add_argument("--aligned", action="store_true", help="each picture is one FFHQ-aligned face")
    parser.add_argument(
        "--dlib-models", metavar="DIR", help="dlib's .dat files (default: of face_recognition_models, if installed)"
    )
    verbosity(parser)


def report(commands: Any) -> None:
    """mien report."""
    page = Page(
        "what became of the photos of one or several runs, as one page",
        "RUN... --output FILE.html",
        "Writes one HTML page, which needs no other file, from the records of runs: counts, failures, actions, sizes.",
        ["mien report coded tables safe --output report.html"],
        STATUS,
    )
    parser = command(commands, "report", page, module="reports.report", beam=False)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output folder or URI of compress, redact or restore")
    parser.add_argument("--output", required=True, metavar="FILE", help="the page, .html; an older report is replaced")
    verbosity(parser)


def policy(commands: Any) -> None:
    """mien policy."""
    page = Page(
        "what a policy says, in sentences, and would do to photos, in counts",
        "FILE|NAME [PHOTO...] [options]",
        "Explains a policy file, or a built-in policy, in plain sentences. With photos it says how many of their faces"
        " each rule is for, and what would be done with them. It writes nothing.",
        ["mien policy background-people", "mien policy school.yaml photos"],
        "0 all done; 2 bad command line or policy; 3 a photo was not understood; 130 stopped by Ctrl-C.",
    )
    parser = command(commands, "policy", page, module="jobs.policy", beam=False)
    parser.add_argument("policy", metavar="FILE|NAME", help="a YAML file or URI, or a built-in policy")
    parser.add_argument("inputs", nargs="*", metavar="PHOTO", help="file, folder, glob or gs://, s3:// URI")
    found_and_hidden(parser, FaceSettings)
    verbosity(parser)


def review(commands: Any) -> None:
    """mien review."""
    page = Page(
        "a page on which a person confirms and corrects what redact did",
        "RUN... --output FILE.html | --serve [options]",
        "Shows each photo with the boxes and what was done, the most doubtful first. Boxes that were missed are drawn,"
        " others taken away or given another action, photos withheld or released; mien redact --corrections FILE"
        " carries it out. The pictures show no face that the policy hides.",
        ["mien review safe --serve", "mien review safe --output review.html"],
        STATUS,
    )
    parser = command(commands, "review", page, module="reports.review", beam=False)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output folder or URI of redact, or of its dry run")
    parser.add_argument("--output", metavar="FILE", help="the page, .html; an older one is replaced")
    parser.add_argument(
        "--serve", action="store_true",
        help="let this machine alone open the page, and save into RUN/corrections.jsonl, until Ctrl-C",
    )  # fmt: skip
    parser.add_argument("--show-faces", action="store_true", help="show the originals, for those who may see them")
    verbosity(parser)


def _files(parser: Parser, metavar: str, what: str, name: str = "inputs") -> None:
    parser.add_argument(name, nargs="+", metavar=metavar, help=what)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    verbosity(parser)


def _objective(group: Any) -> None:
    group.add_argument("--objective", choices=_OBJECTIVES, default="identity", help="what counts in coding (identity)")
