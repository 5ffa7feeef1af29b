"""The command lines of the recipes: flags from dataclasses, refusals in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import jsonargparse
from lightning.fabric.utilities.exceptions import MisconfigurationException

from classify import FitConfig
from recipes._settings import CONTROLS, OF_THE_RUN, Control, RunConfig

__all__ = ["parse", "parse_settings", "refused_in_one_line", "run"]

_SWITCHES = {
    "skip_bad": "leave out images that do not decode instead of stopping at the first",
    "allow_leak": "go on without the generated images that copy real val or test images",
    "preview": "show 16 images an arm, estimate time, memory and disk of the whole run, and stop",
}
_LISTS = {
    "attributes": (str, "columns to learn; left out, all attributes"),
    "controls": (
        Control | Literal["all"],
        "further arms of real images alone, to tell why an arm gains: all, or some of "
        + ", ".join(CONTROLS),
    ),
}

Settings = TypeVar("Settings")
Config = TypeVar("Config", bound=RunConfig)


def parse(
    config: type[Config], presets: Mapping[str, Mapping[str, Any]], arguments: Sequence[str] | None
) -> Config:
    """Read the command line, on top of `--config FILE.yaml`, on top of the preset's settings.

    Args:
        config: the dataclass whose fields are the flags.
        presets: preset -> dotted setting -> value, where it differs from the dataclass's default.
        arguments: the command line; None for the process's own.

    Raises:
        ValueError: an unknown flag or a refused value, in one line.
    """
    parser = _parser(config)
    for flag, (kind, what) in _LISTS.items():
        parser.add_argument(f"--{flag}", nargs="+", type=kind, default=None, help=what)
    for flag, what in _SWITCHES.items():
        parser.add_argument(f"--{flag}", action="store_true", help=what)
    parser.add_class_arguments(config, None, skip={"train", *_LISTS, *_SWITCHES})
    parser.add_class_arguments(FitConfig, "train", skip=set(OF_THE_RUN))
    with refused_in_one_line():
        preset = parser.parse_args(_without_print(arguments)).preset
        parser.set_defaults(dict(presets[preset]))
        options = parser.instantiate(parser.parse_args(arguments))
    values = {f.name: options[f.name] for f in fields(config) if f.name in options}
    chosen = values["controls"] or []
    values["controls"] = list(CONTROLS) if "all" in chosen else chosen
    return config(**values)


@contextmanager
def refused_in_one_line() -> Iterator[None]:
    """Make the parser's refusal of a command line a ValueError of one line."""
    try:
        yield
    except jsonargparse.ArgumentError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _without_print(arguments: Sequence[str] | None) -> list[str]:
    """The arguments without those that end the process at the first look."""
    given = sys.argv[1:] if arguments is None else arguments
    return [a for a in given if a not in ("-h", "--help") and not a.startswith("--print_config")]


def parse_settings(
    kind: type[Settings],
    arguments: Sequence[str] | None,
    *,
    lists: Mapping[str, tuple[Any, str]] | None = None,
    positional: Mapping[str, str] | None = None,
) -> Settings:
    """Read the command line, on top of `--config FILE.yaml`.

    Args:
        kind: the dataclass whose fields are the flags; its first line is the command's description.
        arguments: the command line; None for the process's own.
        lists: fields that take several values one after another, with a value's type and the help.
        positional: paths that are given without a flag, with the help.

    Raises:
        ValueError: an unknown flag or a refused value, in one line.
    """
    lists, positional = lists or {}, positional or {}
    parser = _parser(kind)
    for name, what in positional.items():
        parser.add_argument(name, type=Path, help=what)
    for flag, (value, what) in lists.items():
        default = list(getattr(kind, flag))
        parser.add_argument(f"--{flag}", nargs="+", type=value, default=default, help=what)
    parser.add_class_arguments(kind, None, skip={*lists, *positional})
    with refused_in_one_line():
        options = parser.instantiate(parser.parse_args(arguments))
    return kind(**{f.name: options[f.name] for f in fields(kind)})  # type: ignore[arg-type]


def _parser(kind: type) -> jsonargparse.ArgumentParser:
    """A parser for a dataclass's settings, which may stand in a file too."""
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = jsonargparse.ArgumentParser(exit_on_error=False, description=kind.__doc__)
    parser.add_argument("--config", action="config", help="YAML file with any of these settings")
    return parser


def run(main: Callable[[], object]) -> None:
    """Call a recipe's main; bad input ends it with one line instead of a traceback."""
    try:
        main()
    except (ValueError, OSError, MisconfigurationException) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from None
