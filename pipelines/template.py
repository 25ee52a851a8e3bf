"""mien as a Dataflow flex template: what its launcher starts, and the templates' descriptions.

Dataflow hands a template's parameters over as --name=value, without positions and switches; this module makes a command
line of them. `python -m mien.pipelines.template FOLDER` writes what describes each command's parameters to Dataflow and
its console, FOLDER/COMMAND.json, from the command line's own parser.

Source: https://cloud.google.com/dataflow/docs/guides/templates/configuring-flex-templates
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mien.pipelines import cli
from mien.pipelines.parser import Value, parser
from mien.transforms.setting_kinds import Number, Share
from mien.transforms.stores import printable

# what is for runs on one machine, or for who looks on
_LEFT_OUT = {"help", "workers", "quiet", "verbose"}
_URI = r"^(gs|s3)://[^\s/]+(/.*)?$"
_URIS = r"^(gs|s3)://[^\s/]+(/.*)?(,(gs|s3)://[^\s/]+(/.*)?)*$"
# Beam's options that a job needs to be set for it; others go into the launch's environment
_BEAM = {
    "sdk_container_image": ("The image that workers start: the template's own", r"^[^\s]+/[^\s]+(:|@)[^\s]+$"),
    "number_of_worker_harness_threads": ("How many photos a worker process has in work at once", r"^[1-9][0-9]*$"),
    "resource_hint": ("What a worker needs, as min_ram=6GB", r"^[a-z_]+=.+$"),
    "dataflow_service_options": ("Options of the Dataflow service, as enable_prime", r"^.+$"),
}


def commands() -> dict[str, argparse.ArgumentParser]:
    """The commands that are Beam jobs, by name."""
    (choices,) = [action.choices for action in parser()._actions if isinstance(action.choices, dict)]
    return {name: part for name, part in choices.items() if part.get_default("beam")}


def metadata(command: str) -> dict[str, Any]:
    """What describes the command's template: a TemplateMetadata of Dataflow's API, as JSON has it."""
    part = commands()[command]
    parameters = [
        _parameter("command", f"Which command it is: {command}", [f"^{command}$"], defaultValue=command),
        *(_of_action(action) for action in _actions(part)),
        *(_parameter(name, text, [regex], isOptional=True) for name, (text, regex) in _BEAM.items()),
    ]
    return {"name": f"mien {command}", "description": _description(command), "parameters": parameters}


def words(parameters: Sequence[str]) -> list[str]:
    """The command line of a template's parameters, each --name=value. ValueError for one that cannot be meant."""
    values = {_name(word): word.partition("=")[2] for word in parameters}
    command = values.pop("command", "")
    if command not in commands():
        raise ValueError(f"the parameter command is {command!r}, and must be one of {', '.join(commands())}")
    actions = {parameter_of(action): action for action in _actions(commands()[command])}
    line = [command]
    for name, value in values.items():
        action = actions.get(name)
        if action is None:
            continue
        if not action.option_strings:
            line += re.split(r",(?=(?:gs|s3)://)", value)  # a URI may have a comma in it
        elif action.nargs != 0:
            line.append(f"{_long(action)}={value}")
        elif value.lower() not in ("true", "false"):
            raise ValueError(f"the parameter {name} is {value!r}, and must be true or false")
        elif value.lower() == "true":
            line.append(_long(action))
    engine = [word for word in parameters if _name(word) not in {"command", *actions}]
    return line + engine + ([] if "runner" in values else ["--runner=DataflowRunner"])


def main(parameters: Sequence[str] | None = None) -> int:
    """Launches the job; the exit status, as `mien` has it."""
    try:
        line = words(sys.argv[1:] if parameters is None else parameters)
    except ValueError as error:
        print(printable(f"mien: {error}"), file=sys.stderr)
        return 2
    return cli.main(_known(line))


def _known(line: list[str]) -> list[str]:
    """The line without options that neither mien nor Beam has: a newer launcher may say more than this Beam knows."""
    from mien.pipelines.beam_options import beam_actions

    known = {*beam_actions(), *(name for part in commands().values() for name in part._option_string_actions)}
    kept = []
    for word in line:
        if word.startswith("--") and word.partition("=")[0] not in known:
            print(printable(f"mien: {word} is not known and left out"), file=sys.stderr)
        else:
            kept.append(word)
    return kept


def _name(word: str) -> str:
    if not re.match("--[a-z]", word):
        raise ValueError(f"{word!r} is no parameter: --name=value is one")
    return word.removeprefix("--").partition("=")[0]


def _actions(part: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in part._actions if action.dest not in _LEFT_OUT]


def _long(action: argparse.Action) -> str:
    return next(name for name in action.option_strings if name.startswith("--"))


def parameter_of(action: argparse.Action) -> str:
    """The name of an option's parameter."""
    return _long(action).removeprefix("--").replace("-", "_") if action.option_strings else action.dest


def _of_action(action: argparse.Action) -> dict[str, Any]:
    name = parameter_of(action)
    text = _sentence(action.help or name.replace("_", " "))
    if not action.option_strings:
        return _parameter(name, f"{text}; several are joined by commas", [_URIS])
    if name == "output":
        return _parameter(name, text, [_URI])
    found: dict[str, Any] = {"isOptional": not action.required}
    if action.nargs == 0:
        return _parameter(name, text, ["^(true|false)$"], paramType="BOOLEAN", defaultValue="false", **found)
    if action.default not in (None, "") and not isinstance(action.default, tuple):
        found["defaultValue"] = str(action.default)
    if action.choices is not None:
        choices = [str(choice) for choice in action.choices]
        found["enumOptions"] = [{"value": choice, "label": choice} for choice in choices]
        return _parameter(name, text, [f"^({'|'.join(choices)})$"], paramType="ENUM", **found)
    if isinstance(action.type, Value) and isinstance(action.type.kind, Number | Share):
        whole = isinstance(action.type.kind, Number)
        return _parameter(name, text, ["^[0-9]+$" if whole else r"^[0-9]*\.?[0-9]+$"], paramType="NUMBER", **found)
    return _parameter(name, text, ["^.+$"], **found)


def _parameter(name: str, text: str, regexes: list[str], **more: Any) -> dict[str, Any]:
    """A parameter as Dataflow's API has it; more: what it has beside a required text."""
    label = _sentence(name.replace("_", " "))
    found = {"name": name, "label": label, "helpText": text, "isOptional": False, "regexes": regexes}
    return found | {"paramType": "TEXT"} | more


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _description(command: str) -> str:
    (action,) = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    (text,) = [choice.help for choice in action._choices_actions if choice.dest == command]
    return _sentence(text or command)


if __name__ == "__main__":
    for each in commands():
        path = Path(sys.argv[1]) / f"{each}.json"
        path.write_text(f"{json.dumps(metadata(each), indent=2)}\n", encoding="utf-8")
        print(path)
