"""The parser of all commands."""

import argparse
import textwrap

from mien.pipelines.parser import job_commands, other_commands
from mien.pipelines.parser.options import JOB_STATUS, WIDTH, Parser

_COMMANDS = (
    job_commands.compress,
    job_commands.redact,
    job_commands.restore,
    job_commands.magnify,
    other_commands.face,
    other_commands.inspect,
    other_commands.evaluate,
    other_commands.audit,
    other_commands.report,
    other_commands.policy,
    other_commands.review,
)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands. Its arguments have .module, which runs the command, and .beam: it is a Beam job."""
    top = Parser(
        prog="mien",
        usage="%(prog)s COMMAND ...",
        description="Stores, changes and redacts the faces of photos. mien COMMAND --help describes a command.",
        epilog=textwrap.fill(f"Exit status: {JOB_STATUS}", WIDTH - 2),
    )
    top.add_argument("--version", action="store_true", help="print the version")
    commands = top.add_subparsers(metavar="COMMAND", prog="mien", parser_class=Parser)
    for add in _COMMANDS:
        add(commands)
    return top
