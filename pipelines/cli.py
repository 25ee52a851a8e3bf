"""The command `mien`: its words parsed, its command run, its errors in one line, its exit status."""

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

from mien.models.errors import MienError
from mien.pipelines import JobStoppedError
from mien.pipelines.parser import option_names, parser
from mien.transforms.stores import printable
from mien.transforms.workers import fork_server, wake_fork_server

_PRELOAD = "mien.transforms.preload"  # what the children of a job are forked with
_STOPPED = 128 + signal.SIGINT  # as shells say it


class _Formatter(logging.Formatter):
    """Log records as a terminal may get them: names of files may be in them."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status, as --help says it."""
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
        if not _has_index(args):
            wake_fork_server()  # it loads while this process does; else it is seen first whether anything is left to do
        return _run(args, beam_words)


def _has_index(args: argparse.Namespace) -> bool:
    """Whether an earlier run has left its index in the output, as far as this machine can tell."""
    try:
        return any(name.startswith("index-") for name in os.listdir(getattr(args, "output", None) or "."))
    except OSError:
        return False


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
    own = option_names(commands)
    foreign = [word.partition("=")[0] for word in words if word.startswith("--") and len(word) > 2]
    if all(name in own for name in foreign) or "--help" in foreign:
        return words, []
    from mien.pipelines.beam_options import split

    return split(words, own)
