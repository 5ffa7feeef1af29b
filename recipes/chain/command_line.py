"""The one way to make a command line: a dataclass of settings is the parser.

Every field is a flag, a field without a default a word that is given without one, and a nested
dataclass a group of flags such as `--sampler.steps`. The help is the sentence under the field. All
settings may stand in a file too (`--config FILE.yaml`). `--help` shows the fields and names the
groups, `--help GROUP` the flags of a group, `--help all` everything.
"""

from __future__ import annotations

import sys
from argparse import SUPPRESS, Action
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import docstring_parser
import jsonargparse
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only

from recipes.chain.stopping import Stopped, signals_raised

__all__ = ["parse", "run"]

Settings = TypeVar("Settings")

_WIDTH = 100
"""Columns of a help line."""


def parse(
    kind: type[Settings],
    arguments: Sequence[str] | None = None,
    *,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    skip: Collection[str] = (),
) -> Settings:
    """Read settings from the command line, on top of `--config FILE.yaml`, on top of a preset.

    A list takes several values, `--steps 100 50 25`, and a switch needs none, `--skip_bad`.

    Args:
        kind: the dataclass of the settings.
        arguments: the command line; None for the process's own.
        presets: preset -> dotted setting -> value, where it differs from the dataclass's default;
            `kind` has a field `preset` then.
        skip: dotted settings that are no flags, and that no preset sets.

    Raises:
        ValueError: an unknown flag or a refused value, in one line.
        SystemExit: help was asked for.
    """
    parser = _parser(kind, skip)
    given = _spelled_out(sys.argv[1:] if arguments is None else arguments, parser)
    if asked := [word for word in given if word in ("-h", "--help")]:
        following = given[given.index(asked[0]) + 1 :]
        print(_help(parser, kind, following[0] if following else ""))
        raise SystemExit(0)
    with _refused_in_one_line():
        if presets:
            preset = parser.parse_args([w for w in given if w != "--print_config"]).preset
            settings = presets[preset].items()
            parser.set_defaults({name: value for name, value in settings if name not in skip})
        options = parser.instantiate(parser.parse_args(given))
    return kind(**{f.name: options[f.name] for f in _fields(kind) if f.name in options})


def run(main: Callable[[], object]) -> None:
    """Call a command's main; what stops it is said in one line instead of a traceback.

    Raises:
        SystemExit: status 1 for a refusal, 130 for Ctrl-C and 143 for SIGTERM.
    """
    try:
        with signals_raised():
            main()
    except (ValueError, OSError, MisconfigurationException) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from None
    except Stopped as stopped:
        if getattr(rank_zero_only, "rank", 0) == 0:
            print(stopped, file=sys.stderr)
        raise SystemExit(128 + stopped.number) from None


@contextmanager
def _refused_in_one_line() -> Iterator[None]:
    """Make the parser's refusal of a command line a ValueError of one line."""
    try:
        yield
    except (jsonargparse.ArgumentError, yaml.YAMLError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def _parser(kind: type, skip: Collection[str]) -> jsonargparse.ArgumentParser:
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = jsonargparse.ArgumentParser(exit_on_error=False, add_help=False)
    parser.add_argument("--config", action="config", help="YAML file with any of these settings")
    hints = get_type_hints(kind)
    words = [f.name for f in _fields(kind) if _is_required(f)]
    for name in words:
        several = get_origin(hints[name]) in (list, Sequence)
        parser.add_argument(
            name,
            type=get_args(hints[name])[0] if several else hints[name],
            nargs="+" if several else None,
            help=_sentences(kind).get(name, ""),
        )
    groups = {name.split(".")[0] for name in skip if "." in name}
    parser.add_class_arguments(kind, None, skip={*words, *groups, *skip})
    for group in groups:
        inner = {name.removeprefix(f"{group}.") for name in skip if name.startswith(f"{group}.")}
        parser.add_class_arguments(hints[group], group, skip=inner)
    return parser


def _spelled_out(arguments: Sequence[str], parser: jsonargparse.ArgumentParser) -> list[str]:
    """The arguments as jsonargparse reads them: one value a flag.

    `--steps 100 50` becomes `--steps=[100, 50]`, and a switch without value `--skip_bad=true`.
    """
    actions: Mapping[str, Action] = parser._option_string_actions
    spelled: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        if equals and _is_list(str(getattr(actions.get(flag), "_typehint", ""))):
            word, words = flag, [value, *words]
        kind = str(getattr(actions.get(word), "_typehint", ""))
        values: list[str] = []
        while actions.get(word) is not None and words and not words[0].startswith("--"):
            values.append(words.pop(0))
            if not _is_list(kind):
                break
        if _is_list(kind) and values and not values[0].startswith("["):
            spelled.append(f"{word}={yaml.safe_dump(values, default_flow_style=True).strip()}")
        elif "bool" in kind and not values:
            spelled.append(f"{word}=true")
        else:
            spelled += [word, *values]
    return spelled


def _is_list(kind: str) -> bool:
    return "list[" in kind.lower() or "sequence[" in kind.lower()


def _help(parser: jsonargparse.ArgumentParser, kind: type, topic: str) -> str:
    """The whole help, that of a group, or the flags that most people set and the groups' names."""
    hidden = (SUPPRESS, "Path to a configuration file")  # the latter stands for a whole group
    flags = [a for a in parser._actions if a.option_strings and not str(a.help).startswith(hidden)]
    groups = dict.fromkeys(a.dest.split(".")[0] for a in flags if "." in a.dest)
    if topic == "all":
        return str(parser.format_help())
    if topic in groups:
        shown = [a for a in flags if a.dest.startswith(f"{topic}.")]
        return "\n".join([f"--{topic}.*: {_first_sentence(kind, topic)}", "", *map(_line, shown)])
    words = [a for a in parser._actions if not a.option_strings]
    usage = " ".join([Path(sys.argv[0]).name, *(a.dest.upper() for a in words), "[--flag VALUE]"])
    shown = [a for a in flags if "." not in a.dest and a.dest not in groups]
    lines = [f"usage: {usage}", "", _first_paragraph(kind), "", *map(_line, [*words, *shown])]
    if groups:
        lines += ["", "Groups of further flags; --help NAME shows one, --help all everything:"]
        lines += [_cut(f"  --{name + '.*':<22}{_first_sentence(kind, name)}") for name in groups]
    return "\n".join(lines)


def _line(action: Action) -> str:
    name = action.option_strings[0] if action.option_strings else action.dest.upper()
    default = "" if action.default in (None, "", [], {}) else f" ({action.default})"
    text = " ".join(str(action.help or "").split()).split(" (type:")[0]
    return _cut(f"  {name:<23} {text.split('. ')[0].rstrip('.')}{default}")


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else line[: _WIDTH - 4].rsplit(" ", 1)[0] + " ..."


def _first_sentence(kind: type, name: str) -> str:
    return " ".join(_sentences(kind).get(name, "").split())


def _first_paragraph(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def _sentences(kind: type) -> dict[str, str]:
    """What stands under each field of a dataclass, and of those that it extends."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        for parameter in docstring_parser.parse_from_object(base).params:
            found[parameter.arg_name] = parameter.description or ""
    return found


def _fields(kind: type) -> tuple[Field[Any], ...]:
    return fields(kind)


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING
