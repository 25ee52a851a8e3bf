"""The command line. Only the parser is loaded here; each command's module is when it runs, so that --help is quick."""

import argparse
import contextlib
import importlib
import io
import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from mien.models.errors import MienError
from mien.pipelines import JobStoppedError
from mien.transforms.stores import printable
from mien.transforms.workers import fork_server

_DETECTORS = ("mediapipe", "centerface")
_EFFORTS = ("auto", "fast", "good", "best")
_OBJECTIVES = ("realistic", "identity", "private")
_PRELOAD = "mien.transforms.preload"  # what the children of a job are forked with
_CODECS = ("JPEG", "JPEG 2000", "WebP", "AVIF", "JPEG XL")
_FIELDS = ("date", "copyright", "artist")
_IMAGE_FORMATS = ("png", "jpeg", "webp", "avif")
_EPILOG = (
    "Exit status: 0 all done; 2 bad command line, policy or missing weights; 3 something was withheld or failed, or the"
    " job was stopped; 130 stopped by Ctrl-C; 141 who read the output has ended."
)
_STOPPED = 128 + signal.SIGINT  # as shells say it


def _number(low: int, high: int) -> "type[int]":
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    parse.__name__ = "number"
    return parse  # type: ignore[return-value]


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{value:g} is not between 0 and 1")
    return value


def _detectors(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in _DETECTORS]:
        raise argparse.ArgumentTypeError(f"unknown detector {unknown[0]!r}; known are {', '.join(_DETECTORS)}")
    return names


def _efforts(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in _EFFORTS]:
        raise argparse.ArgumentTypeError(f"unknown effort {unknown[0]!r}; known are {', '.join(_EFFORTS)}")
    return names


def _codecs(text: str) -> tuple[str, ...]:
    known = {"".join(name.lower().split()): name for name in _CODECS}
    names = [] if text == "none" else ["".join(name.lower().split()) for name in text.split(",")]
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"unknown codec {unknown[0]!r}; known are none, {', '.join(known)}")
    return tuple(name for key, name in known.items() if key in names)


def _ceilings(text: str) -> tuple[int, ...]:
    parse = _number(24, 4096)
    try:
        return tuple(sorted({parse(part) for part in text.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers") from None


def _fields(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in _FIELDS]:
        raise argparse.ArgumentTypeError(f"unknown field {unknown[0]!r}; known are {', '.join(_FIELDS)}")
    return names


def _job(parser: argparse.ArgumentParser, module: str) -> None:
    parser.set_defaults(module=f"jobs.{module}", beam=True)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder, glob or gs://, s3:// URI")
    parser.add_argument("--output", required=True, metavar="URI", help="folder for the results")
    parser.add_argument(
        "--exclude",
        action="append",
        metavar="GLOB",
        help="names to pass over in folders, or with a slash paths below them; may be repeated (always: ._*, @eaDir,"
        " trash folders)",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--overwrite", action="store_true", help="do everything again, and replace what is there")
    parser.add_argument("--check", action="store_true", help="compare what is done by its sha256, not by size and time")
    parser.add_argument("--prune", action="store_true", help="delete outputs of photos that are no more")
    again.add_argument("--only-failed", action="store_true", help="do only what failed or was withheld before")
    parser.add_argument(
        "--workers", type=_number(1, 1024), metavar="N", help="processes on this machine (default: the cores)"
    )
    parser.add_argument("--weights", metavar="URI", help="folder with other weights than the package's")
    parser.add_argument(
        "--photo-seconds",
        type=_number(1, 10**6),
        metavar="N",
        help="a photo at most, then it is given up (600; with --effort auto and good 3600, best 36000)",
    )
    parser.add_argument(
        "--photo-memory",
        type=_number(500, 10**6),
        default=8000,
        metavar="MB",
        help="a photo's process at most, models included (8000)",
    )
    _verbosity(parser)


def _verbosity(parser: argparse.ArgumentParser) -> None:
    loud = parser.add_mutually_exclusive_group()
    loud.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    loud.add_argument("-v", "--verbose", action="store_true", help="print what the engine says, and errors in full")


def _face_options(parser: argparse.ArgumentParser, effort: str) -> None:
    parser.add_argument("--face-bytes", type=_number(16, 4096), default=320, metavar="N", help="a face at most (320)")
    parser.add_argument(
        "--effort",
        choices=_EFFORTS,
        default=effort,
        help=f"auto: as much as it takes until recognisers know the person again ({effort})",
    )


def _finding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--detector",
        type=_detectors,
        default=("centerface",),
        metavar="NAME[,NAME]",
        help=f"of {', '.join(_DETECTORS)}; what several find is joined (centerface)",
    )
    parser.add_argument("--max-bytes", type=_number(1, 2**31), default=200_000_000, metavar="N", help="a file at most")
    parser.add_argument(
        "--max-pixels", type=_number(1, 2**31), default=100_000_000, metavar="N", help="a photo at most"
    )


def _record_uris(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--record-uris", action="store_true", help="write each photo's whole URI into shards, and not its name alone"
    )


def _marks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-synthesis-mark", action="store_true", help="do not say in the files that faces are generated"
    )


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = _Parser(prog="mien", description="Stores, changes and redacts the faces of photos.", epilog=_EPILOG)
    top.add_argument("--version", action="store_true", help="print the version")
    commands = top.add_subparsers(metavar="COMMAND", parser_class=_Parser)

    compress = commands.add_parser("compress", help="photos to coded photos", epilog="Beam's options are taken too.")
    _job(compress, "compress")
    compress.add_argument(
        "--format",
        choices=("parquet", "blobs", "webdataset"),
        default="parquet",
        help="tables, an image a photo, or tar shards",
    )
    compress.add_argument("--policy", default="compress", metavar="FILE|NAME", help="who stays recognisable (everyone)")
    _record_uris(compress)
    _face_options(compress, "auto")
    compress.add_argument("--background", choices=("avif", "webp", "jpeg"), default="avif", help="coder of the rest")
    compress.add_argument("--quality", type=_number(1, 100), default=60, help="of the background, 1 to 100 (60)")
    _finding(compress)

    redact = commands.add_parser(
        "redact", help="photos to safe photos, without what a policy hides", epilog="Beam's options are taken too."
    )
    _job(redact, "redact")
    redact.add_argument(
        "--format", choices=("files", "webdataset"), default="files", help="an image a photo, or tar shards of them"
    )
    _record_uris(redact)
    redact.add_argument("--policy", default="redact", metavar="FILE|NAME", help="who stays recognisable (nobody)")
    redact.add_argument("--mask", choices=("face", "head"), help="how much of a hidden face goes (as the policy says)")
    redact.add_argument("--image-format", choices=_IMAGE_FORMATS, default="jpeg")
    redact.add_argument("--quality", type=_number(1, 100), default=90, help="of the photos, 1 to 100 (90)")
    redact.add_argument(
        "--keep", type=_fields, default=(), metavar="NAME[,NAME]",
        help=f"metadata that is written anew, of {', '.join(_FIELDS)} (none)",
    )  # fmt: skip
    redact.add_argument(
        "--key-file", metavar="FILE|URI", help="with it one person gets the same new face in every photo"
    )
    redact.add_argument("--dry-run", action="store_true", help="write what would be done with each face, and no photo")
    _face_options(redact, "fast")
    _marks(redact)
    redact.add_argument("--visible-mark", action="store_true", help="write into a corner that faces are generated")
    _finding(redact)

    restore = commands.add_parser(
        "restore", help="coded photos back to pictures", epilog="Beam's options are taken too."
    )
    _job(restore, "restore")
    restore.add_argument("--image-format", choices=_IMAGE_FORMATS, default="png")
    _marks(restore)

    magnify = commands.add_parser(
        "magnify", help="photos enlarged, with their small faces magnified", epilog="Beam's options are taken too."
    )
    _job(magnify, "magnify")
    kind = magnify.add_mutually_exclusive_group()
    kind.add_argument("--factor", type=_number(2, 64), metavar="N", help="how much larger, 2 to 64 (4)")
    kind.add_argument("--aligned", action="store_true", help="each picture is one FFHQ-aligned face, 8 to 256 px")
    magnify.add_argument("--size", type=int, choices=(128, 256, 512), help="px of a magnified aligned face (512)")
    magnify.add_argument(
        "--strength", type=_share, default=0.0, metavar="X", help="from 0, faithful, to 1, realistic (0)"
    )
    magnify.add_argument(
        "--samples", type=_number(1, 64), default=1, metavar="N", help="different plausible results of each (1)"
    )
    magnify.add_argument(
        "--seed", type=_number(0, 2**31), default=0, metavar="N", help="of the samples after the first"
    )
    magnify.add_argument("--payload", action="store_true", help="write the faces as payloads of the codec too, .mien")
    magnify.add_argument("--image-format", choices=_IMAGE_FORMATS, default="png")
    _finding(magnify)

    face = commands.add_parser("face", help="single aligned faces").add_subparsers(metavar="COMMAND", required=True)
    encode = face.add_parser("encode", help="pictures to payloads, NAME.mien")
    encode.add_argument(
        "inputs", nargs="+", metavar="IMAGE", help="512 x 512 aligned; of others the largest face is taken"
    )
    _face_options(encode, "auto")
    encode.add_argument("--objective", choices=_OBJECTIVES, default="identity")
    encode.set_defaults(run="encode")
    decode = face.add_parser("decode", help="payloads to 512 x 512 pictures, NAME.png")
    decode.add_argument("inputs", nargs="+", metavar="FILE")
    decode.set_defaults(run="decode")
    for part in (encode, decode):
        part.set_defaults(module="jobs.face", beam=False)
        part.add_argument("--output", required=True, metavar="DIR")
        part.add_argument("--overwrite", action="store_true", help="replace what is there")
        _verbosity(part)

    inspect = commands.add_parser("inspect", help="what is inside a file, byte by byte")
    inspect.set_defaults(module="jobs.inspect_file", beam=False)
    inspect.add_argument("file", metavar="FILE")
    inspect.add_argument("--json", action="store_true", help="as JSON")
    _verbosity(inspect)

    evaluate = commands.add_parser("evaluate", help="rate against quality on folders of faces, beside other codecs")
    evaluate.set_defaults(module="reports.evaluate", beam=False)
    evaluate.add_argument(
        "folders",
        nargs="+",
        metavar="DIR",
        help="512 x 512 aligned faces; of other pictures the largest face is taken",
    )
    evaluate.add_argument("--output", required=True, metavar="DIR")
    evaluate.add_argument(
        "--bytes",
        type=_ceilings,
        default=(64, 150, 320, 600, 1200),
        metavar="N[,N]",
        help="a face at most (64,150,320,600,1200)",
    )
    evaluate.add_argument(
        "--effort", type=_efforts, default=("fast",), metavar="NAME[,NAME]", help=f"of {', '.join(_EFFORTS)} (fast)"
    )
    evaluate.add_argument("--objective", choices=_OBJECTIVES, default="identity")
    evaluate.add_argument(
        "--codecs",
        type=_codecs,
        default=_CODECS,
        metavar="NAME[,NAME]",
        help="to compare with: jpeg, jpeg2000, webp, avif, jpegxl (all), or none",
    )
    evaluate.add_argument(
        "--magnify", action="store_true", help="measure mien magnify at 16x and 64x instead, beside bicubic and Lanczos"
    )
    evaluate.add_argument(
        "--strength", type=_share, default=0.0, metavar="X", help="of --magnify, from 0, faithful, to 1 (0)"
    )
    evaluate.add_argument("--weights", metavar="URI", help="folder with other weights than the package's")
    evaluate.add_argument("--lpips-backbone", metavar="FILE", help="SqueezeNet 1.1: ncnn's .bin or torchvision's .pth")
    evaluate.add_argument("--lpips-heads", metavar="FILE", help="squeeze.pth of the PyPI package lpips")
    evaluate.add_argument("--dlib", metavar="DIR", help="the .dat files of the PyPI package face_recognition_models")
    evaluate.add_argument("--overwrite", action="store_true", help="replace what is there")
    _verbosity(evaluate)
    audit = commands.add_parser(
        "audit",
        help="who is still recognisable in an output, and what leaked",
        epilog="Exit status: 0 nothing found; 2 bad command line; 3 a recognisable face or a leak was found, or a photo"
        " could not be audited.",
    )
    audit.set_defaults(module="reports.audit", beam=False)
    audit.add_argument(
        "audited", metavar="OUTPUT", help="safe photos, coded photos, tables or shards: file, folder, glob or URI"
    )
    audit.add_argument("--originals", required=True, metavar="DIR", help="the photos that OUTPUT was made from")
    audit.add_argument("--output", required=True, metavar="DIR", help="folder for audit.json and audit.html")
    audit.add_argument("--aligned", action="store_true", help="each picture is one FFHQ-aligned face")
    audit.add_argument(
        "--dlib-models",
        metavar="DIR",
        help="dlib's .dat files (default: of face_recognition_models, if installed)",
    )
    _verbosity(audit)

    report = commands.add_parser("report", help="what became of the photos of one or several runs, as one page")
    report.set_defaults(module="reports.report", beam=False)
    report.add_argument("runs", nargs="+", metavar="RUN", help="output folder or URI of compress, redact or restore")
    report.add_argument("--output", required=True, metavar="FILE", help="the page, .html; an older report is replaced")
    _verbosity(report)
    return top


class _Parser(argparse.ArgumentParser):
    def __init__(self, **settings: object) -> None:
        super().__init__(**settings, allow_abbrev=False)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """One line, where argparse prints the whole usage before it."""
        self.exit(2, f"{self.prog}: {printable(message)} (see {self.prog} --help)\n")


class _Formatter(logging.Formatter):
    """Log records as a terminal may get them: names of files may be in them."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status, see the module's epilog."""
    if argv is not None:
        return _main(list(argv), own=False)
    _open_streams()
    try:
        status = _main(sys.argv[1:], own=True)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        _silence()
        return _STOPPED
    except BrokenPipeError:  # who read what is printed has seen enough
        _silence()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _silence(1)
        name = f"{error.filename}: " if error.filename else ""
        with contextlib.suppress(OSError):
            print(f"mien: stopped: {name}{error.strerror or error}", file=sys.stderr)
        return 3


def _open_streams() -> None:
    """Opens stdin, stdout and stderr where the process was started without, so that no file of the job's gets their
    numbers; what a terminal's encoding lacks is printed as escapes."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115  # for the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _silence(*numbers: int) -> None:
    """Drops what stdout and stderr, or those named, still hold and get, which Python would try to write at its end."""
    for number in numbers or (1, 2):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def _main(words: list[str], own: bool) -> int:
    """own: this process is the command's own."""
    commands = parser()
    words, beam_words = _split_beam(words, commands)
    try:
        args = commands.parse_args(words)
    except SystemExit as stop:  # argparse has printed what is wrong
        return int(stop.code or 0)
    if args.version:
        from importlib.metadata import version

        print(f"mien {version('mien')}")
        return 0
    if not hasattr(args, "module"):
        commands.print_usage(sys.stderr)
        return 2
    if own and not args.verbose:
        threading.excepthook = lambda error: None  # Beam's threads: what stops the job is told where it stops
    here = args.beam and not any(word.partition("=")[0] == "--runner" for word in beam_words)
    with fork_server(_PRELOAD) if own and here else contextlib.nullcontext():
        return _run(args, beam_words)


def _from_worker(record: logging.LogRecord) -> bool:
    """Gives a worker's line about a photo back as it was, out of the text in which Beam wraps it."""
    found = re.search(r'message: ("\{\\"photo\\"(?:[^"\\]|\\.)*")', record.getMessage())
    if found:
        record.name, record.msg, record.args = "mien.photo", json.loads(found[1]), ()
    return True


def _run(args: argparse.Namespace, beam_words: list[str]) -> int:
    # Beam logs the traceback of each try of a store as an error; what stops the job is told in one line
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO if args.verbose else logging.CRITICAL, handlers=[handler])
    logging.getLogger("apache_beam.runners.portability.local_job_service").addFilter(_from_worker)
    if not args.verbose:  # MediaPipe's and TensorFlow Lite's native logs, in the workers too
        os.environ.setdefault("GLOG_minloglevel", "3")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        if beam_words and not args.beam:
            raise MienError(f"unknown option {beam_words[0]}")
        module = importlib.import_module(f"mien.pipelines.{args.module}")
        status: int = module.run(args, beam_words) if args.beam else module.run(args)
        return status
    except KeyboardInterrupt:
        print("mien: stopped", file=sys.stderr)
        return _STOPPED
    except MienError as error:
        if args.verbose:
            logging.exception("stopped")
        print(f"mien: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 3 if isinstance(error, JobStoppedError) else 2


def _split_beam(words: list[str], commands: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """The command's own words and Beam's options. Beam is loaded only if there is an option that is not mien's."""
    own = _options(commands)
    foreign = [word.partition("=")[0] for word in words if word.startswith("--") and len(word) > 2]
    if all(name in own for name in foreign) or "--help" in foreign:
        return words, []
    from mien.pipelines.beam_options import split

    return split(words, own)


def _options(commands: argparse.ArgumentParser) -> set[str]:
    names: set[str] = set()
    for action in commands._actions:
        names.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for part in action.choices.values():
                names |= _options(part)
    return names
