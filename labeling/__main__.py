"""Label the images of a table, fit when to trust a label, and judge the labels.

    python -m labeling fit TABLE --labeler SRC --out policy.json
    python -m labeling label TABLE --labeler SRC --policy policy.json --out DIR
    python -m labeling evaluate TABLE --labeler SRC --policy policy.json --out quality.csv
    python -m labeling export --labeler SRC --out NAME.onnx

TABLE is a folder with `metadata.csv`; SRC is what `labeling.load_labeler` takes, and may be given
several times: each attribute is the first labeler's that knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature

from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from labeling import commands

__all__ = ["main"]

_DESCRIPTION = "Label the images of a table, fit when to trust a label, and judge the labels."
_COMMANDS: tuple[Callable[..., None], ...] = (
    commands.label,
    commands.evaluate,
    commands.fit,
    commands.export,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; bad input ends it with one line instead of a traceback."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(
        prog="python -m labeling", description=_DESCRIPTION, exit_on_error=False
    )
    subcommands = parser.add_subcommands()
    for command in _COMMANDS:
        subcommands.add_subcommand(command.__name__, _parser(command))
    try:
        options = parser.instantiate(
            parser.parse_args(None if arguments is None else list(arguments))
        )
        chosen = options[options.subcommand]
        next(c for c in _COMMANDS if c.__name__ == options.subcommand)(**chosen.as_dict())
    except (ArgumentError, FileNotFoundError, ValueError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from None


def _parser(command: Callable[..., None]) -> ArgumentParser:
    """A command's flags are its arguments; `--labeler` may be given several times, and names stand
    one after another.
    """
    text = command.__doc__ or ""
    description = text.splitlines()[0]
    names = {"attributes", "groups"} & set(signature(command).parameters)
    parser = ArgumentParser(exit_on_error=False, description=description)
    parser.add_function_arguments(
        command, as_group=False, as_positional=True, skip={"labeler", *names}
    )
    for name in sorted(names):
        help_text = _documented(text, name)
        parser.add_argument(f"--{name}", nargs="+", type=str, metavar="NAME", help=help_text)
    parser.add_argument(
        "--labeler",
        action="append",
        type=str,
        required=True,
        metavar="SRC",
        help="name, folder, .onnx file, .yaml file of CLIP prompts or hub id; may be repeated",
    )
    return parser


def _documented(docstring: str, argument: str) -> str:
    """What a docstring says of an argument, on its one line."""
    lines = [line.strip().partition(": ") for line in docstring.splitlines()]
    return next(text for name, _, text in lines if name == argument)


if __name__ == "__main__":
    main()
