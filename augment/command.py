"""A function as a command: its arguments are the flags, its docstring their help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from jsonargparse import ArgumentError, auto_cli, set_parsing_settings

__all__ = ["run"]

Result = TypeVar("Result")


def run(function: Callable[..., Result], arguments: Sequence[str] | None = None) -> Result:
    """Call a function by the command line, the process's own if `arguments` are left out.

    Raises:
        SystemExit: bad input, in one line instead of a traceback.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    try:
        result = auto_cli(
            function,
            as_positional=True,
            args=None if arguments is None else list(arguments),
            exit_on_error=False,
        )
    except (ArgumentError, FileNotFoundError, ValueError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from None
    return cast(Result, result)
