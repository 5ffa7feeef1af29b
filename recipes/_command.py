"""The command line of a recipe whose settings are one dataclass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse

from recipes._settings import refused_in_one_line

__all__ = ["parse_settings"]

Settings = TypeVar("Settings")


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
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = jsonargparse.ArgumentParser(exit_on_error=False, description=kind.__doc__)
    parser.add_argument("--config", action="config", help="YAML file with any of these settings")
    for name, what in positional.items():
        parser.add_argument(name, type=Path, help=what)
    for flag, (value, what) in lists.items():
        default = list(getattr(kind, flag))
        parser.add_argument(f"--{flag}", nargs="+", type=value, default=default, help=what)
    parser.add_class_arguments(kind, None, skip={*lists, *positional})
    with refused_in_one_line():
        options = parser.instantiate(parser.parse_args(arguments))
    return kind(**{f.name: options[f.name] for f in fields(kind)})  # type: ignore[arg-type]
