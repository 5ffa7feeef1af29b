"""A function as a command: its arguments are the flags, its docstring their help."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from jsonargparse import ArgumentError, ArgumentParser, auto_cli, set_parsing_settings
from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException

__all__ = ["fabric_of", "run"]

Result = TypeVar("Result")


def run(
    function: Callable[..., Result],
    arguments: Sequence[str] | None = None,
    *,
    paths: tuple[str, str] | None = None,
) -> Result:
    """Call a function by the command line, the process's own if `arguments` are left out.

    Args:
        function: its arguments without a default are words, the others flags.
        arguments: the command line.
        paths: name and help of an argument that takes all further words, as a list of paths.

    Raises:
        SystemExit: bad input, in one line instead of a traceback.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    given = None if arguments is None else list(arguments)
    try:
        if paths is not None:
            return function(**_parsed(function, given, *paths))
        result = auto_cli(
            function, as_positional=True, args=given, exit_on_error=False, prog=_program()
        )
    except (ArgumentError, FileNotFoundError, ValueError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from None
    return cast(Result, result)


def _program() -> str | None:
    """How this process was started, `python -m augment.metrics` say; None for another way."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return None if spec is None else f"python -m {spec.name.removesuffix('.__main__')}"


def _parsed(
    function: Callable[..., Any], arguments: list[str] | None, name: str, text: str
) -> dict[str, Any]:
    """The function's arguments; `auto_cli` knows no list of words."""
    description = (function.__doc__ or "").strip().split("\n", 1)[0]
    parser = ArgumentParser(prog=_program(), exit_on_error=False, description=description)
    parser.add_argument("--config", action="config", help="path to a configuration file")
    parser.add_function_arguments(function, as_positional=True, skip={name})
    parser.add_argument(name, type=Path, nargs="+", help=text)
    given = parser.instantiate(parser.parse_args(arguments))
    return {key: value for key, value in vars(given).items() if key != "config"}


def fabric_of(accelerator: str, devices: int | str, num_nodes: int) -> Fabric:
    """Lightning's Fabric on the devices asked for.

    Raises:
        ValueError: they are not there.
    """
    try:
        return Fabric(accelerator=accelerator, devices=devices, num_nodes=num_nodes)
    except (ImportError, MisconfigurationException, RuntimeError, TypeError) as error:
        raise ValueError(
            f"accelerator {accelerator} with devices {devices} cannot be had ({error}); give "
            "accelerator auto or cpu, and auto or a number of devices"
        ) from error
