"""Which words of a command line are Beam's: only options that Beam really has, so that a misspelt one is an error."""

import argparse
from collections.abc import Container
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions


def beam_actions() -> dict[str, argparse.Action]:
    """Every option of Beam's own option classes by its spelling."""
    parser = argparse.ArgumentParser(add_help=False, conflict_handler="resolve")
    for options in _subclasses(PipelineOptions):
        if options.__module__.startswith("apache_beam."):
            options._add_argparse_args(parser)
    return {name: action for action in parser._actions for name in action.option_strings}


def _subclasses(parent: Any) -> list[Any]:
    return [found for child in parent.__subclasses__() for found in (child, *_subclasses(child))]


def split(words: list[str], own: Container[str]) -> tuple[list[str], list[str]]:
    """The words that are not Beam's, and Beam's options with their values. own: mien's options, which come first."""
    actions = beam_actions()
    rest: list[str] = []
    beams: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        name, equals, _ = word.partition("=")
        if name in own or name not in actions or not name.startswith("--"):
            rest.append(word)
            continue
        beams.append(word)
        if actions[name].nargs != 0 and not equals and waiting:
            beams.append(waiting.pop(0))
    return rest, beams
