"""What commands and options are made of: a page of help, an option from a field of settings, groups of options."""

import argparse
import dataclasses
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from mien.transforms.setting_kinds import Choice, Flag, Maybe, Names, Number, Ratio, Share, Texts, kind_of
from mien.transforms.settings import Settings
from mien.transforms.stores import printable

JOB_STATUS = (
    "0 all done; 2 bad command line, policy or missing weights; 3 something was withheld or failed, and the failures"
    " file says what, or the job was stopped; 130 stopped by Ctrl-C; 141 who read the output has ended."
)
STATUS = "0 all done; 2 bad command line or missing weights; 3 a file failed; 130 stopped by Ctrl-C."
BEAM = "Beam's own options are taken too, as --runner. Without it the job runs on this machine."
WIDTH = 100


class Parser(argparse.ArgumentParser):
    """argparse's, with one line for a mistake and without abbreviations."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False, formatter_class=_Page)

    def error(self, message: str) -> NoReturn:
        """One line, where argparse prints the whole usage before it."""
        self.exit(2, f"{self.prog}: {printable(message)} (see {self.prog} --help)\n")


class _Page(argparse.RawDescriptionHelpFormatter):
    """Options beside what they mean, and paragraphs as they were laid out."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=WIDTH)


@dataclass(frozen=True)
class Page:
    """A command's help. short: its line in the list of commands; usage: behind its name; text: what it does;
    examples: command lines; status: what its exit status says."""

    short: str
    usage: str
    text: str
    examples: Sequence[str]
    status: str = STATUS


def command(commands: Any, name: str, page: Page, **defaults: Any) -> Parser:
    """A new command. commands: of add_subparsers(). defaults: what the parsed arguments say beside its options."""
    examples = "\n".join(f"  {line}" for line in page.examples)
    status = textwrap.fill(f"Exit status: {page.status}", WIDTH - 2)
    made: Parser = commands.add_parser(
        name,
        help=page.short,
        usage=f"%(prog)s {page.usage}",
        description=textwrap.fill(page.text, WIDTH - 2),
        epilog=f"examples:\n{examples}\n\n{status}",
    )
    made.set_defaults(**defaults)
    return made


@dataclass(frozen=True)
class Value:
    """The type of an option whose value is of a kind."""

    kind: Number | Share | Names | Texts | Ratio | Maybe

    def __call__(self, text: str) -> Any:
        """The value; ArgumentTypeError says what is wrong with the text."""
        try:
            return self.kind.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None


def option(
    group: Any, settings: type[Settings], name: str, text: str, metavar: str | None = None, word: str = ""
) -> None:
    """The option of a field of settings, which has its name, what it may be, and its default.

    text: what it means. word: its spelling, where that is not the field's name.
    """
    (each,) = (each for each in dataclasses.fields(settings) if each.name == name)
    kind, default = kind_of(each), each.default
    if isinstance(kind, Flag):
        word = word or f"--{'no-' if default else ''}{name.replace('_', '-')}"
        group.add_argument(word, dest=name, action="store_false" if default else "store_true", help=text)
        return
    about: dict[str, Any] = {"dest": name, "default": default, "help": text + _shown(default)}
    if isinstance(kind, Choice):
        about |= {"choices": kind.known, "type": type(kind.known[0]), "metavar": metavar}
    elif kind:
        about |= {"type": Value(kind), "metavar": metavar}
    else:
        about["metavar"] = metavar
    group.add_argument(word or f"--{name.replace('_', '-')}", **about)


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        default = ",".join(default) or "none"
    return "" if default in (None, "") else f" ({default:g})" if isinstance(default, float) else f" ({default})"


def option_names(parser: argparse.ArgumentParser) -> set[str]:
    """The spellings of all options of a parser and its commands."""
    names: set[str] = set()
    for action in parser._actions:
        names.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for part in action.choices.values():
                names |= option_names(part)
    return names


def inputs_and_output(parser: Parser, what: str) -> Any:
    """The group with what a job reads and writes; what: an INPUT is, beside a folder or a glob."""
    group = parser.add_argument_group("input and output")
    group.add_argument("inputs", nargs="+", metavar="INPUT", help=f"{what}, folder, glob or gs://, s3:// URI")
    group.add_argument("--output", required=True, metavar="URI", help="folder for the results")
    group.add_argument(
        "--exclude",
        action="append",
        metavar="GLOB",
        help="names to pass over in folders, or with a slash paths below them; may be repeated (always: ._*, @eaDir,"
        " trash folders)",
    )
    return group


def run_options(parser: Parser, settings: type[Settings]) -> None:
    """The groups that every job has: what is done again, what a photo may take, how the job runs."""
    again = parser.add_argument_group("what is done again (by default what is new, changed or failed)")
    one = again.add_mutually_exclusive_group()
    one.add_argument("--overwrite", action="store_true", help="do everything again, and replace what is there")
    one.add_argument("--only-failed", action="store_true", help="do only what failed or was withheld before")
    again.add_argument("--check", action="store_true", help="compare what is done by its sha256, not by size and time")
    again.add_argument("--prune", action="store_true", help="delete outputs of photos that are no more")
    limits = parser.add_argument_group("what a photo may take")
    for name, text in (("max_bytes", "bytes of a file at most"), ("max_pixels", "pixels of a photo at most")):
        if name in settings.__dataclass_fields__:
            option(limits, settings, name, text, "N")
    limits.add_argument(
        "--photo-seconds",
        type=Value(Number(1, 10**6)),
        metavar="N",
        help="processor time of a photo at most, then it is given up "
        "(600; with --effort auto and good 3600, best 36000)",
    )
    limits.add_argument(
        "--photo-memory",
        type=Value(Number(500, 10**6)),
        default=8000,
        metavar="MB",
        help="a photo's process at most, models included (8000)",
    )
    run = parser.add_argument_group("how it runs", BEAM)
    run.add_argument(
        "--workers", type=Value(Number(1, 1024)), metavar="N", help="processes on this machine (default: the cores)"
    )
    run.add_argument("--weights", metavar="URI", help="folder with other weights than the package's")
    verbosity(run)


def verbosity(group: Any) -> None:
    """--quiet and --verbose."""
    loud = group.add_mutually_exclusive_group()
    loud.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    loud.add_argument("-v", "--verbose", action="store_true", help="print what the engine logs, and errors in full")
