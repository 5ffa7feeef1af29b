"""The one way to make a command line: a dataclass of settings is the parser.

Every field is a flag, a field without a default a word that is given without one, and a nested
dataclass a group of flags such as `--sampler.steps`. The help is the sentence under the field. All
settings may stand in a file too (`--config FILE.yaml`); `written.py` says how names and values may
be written. `--help` shows the fields and names the groups, `--help GROUP` the flags of a group,
`--help all` everything.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import sys
import warnings
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
from PIL import Image

from classify.names import one_of
from recipes.chain.command.devices import Devices
from recipes.chain.command.sources import SOURCE
from recipes.chain.command.stopping import Stopped, signals_raised
from recipes.chain.command.values import read_mapping, understood
from recipes.chain.command.written import are_pairs, resolved, shaped, takes

__all__ = ["parse", "run"]

Settings = TypeVar("Settings")

_LIBRARIES = {
    "lightning.pytorch": logging.WARNING,  # no tips, no lists of devices
    "lightning.fabric": logging.WARNING,
    # It tells that another process has ended, just before it ends this one.
    "lightning.fabric.strategies.launchers.subprocess_script": logging.INFO,
    "diffusers": logging.ERROR,  # what it warns of in weights is refused
}
"""Libraries that would talk between a command's lines, and what they may say."""
_REMEDIES = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT), "make room, and give the same command to continue"
    ),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "allow it, or give a folder that is yours"
    ),
}
"""What to do about an error of the system; of any other, another path helps."""
_LOST_PROCESS = re.compile(r"gloo.*(closed by peer|reset by peer|Broken pipe)|NCCL.*remote process")
"""How torch says that it waits for a process that is no more."""
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}
_MISTYPED = re.compile(r"Parser key \"(.+?)\": .*\b(?:Got|Given) value: (.*)")
_EXPECTED = re.compile(r"Expected a <class '(\w+)'>")
"""How jsonargparse says that a value is not of its type, or of none of several."""
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

    A list takes several values, `--steps 100 50 25`, a mapping pairs, `--wanted Bald=1:20`, and a
    switch needs none, `--skip_bad`.

    Args:
        kind: the dataclass of the settings.
        arguments: the command line; None for the process's own.
        presets: preset -> dotted setting -> value, where it differs from the dataclass's default;
            `kind` has a field `preset` then.
        skip: dotted settings that are no flags, and that no preset sets.

    Raises:
        ValueError: an unknown flag or a refused value, in one line.
        FileNotFoundError: no file for `--config`.
        SystemExit: help was asked for.
    """
    parser = _parser(kind, skip)
    words = sys.argv[1:] if arguments is None else arguments
    if asked := [word for word in words if word in ("-h", "--help")]:
        following = [*words, ""][list(words).index(asked[0]) + 1]
        print(_help(parser, kind, following))
        raise SystemExit(0)
    given = list(_spelled_out(words, parser, kind))
    with _refused_in_one_line():
        if presets:
            preset = parser.parse_args([w for w in given if w != "--print_config"]).preset
            if preset not in presets:
                raise ValueError(f"preset is {preset}; {one_of(preset, presets)}")
            settings = presets[preset].items()
            parser.set_defaults({name: value for name, value in settings if name not in skip})
        options = parser.instantiate(parser.parse_args(given))
    values = {f.name: options[f.name] for f in _fields(kind) if f.name in options}
    for field in _fields(kind):
        if field.name in values and SOURCE in field.metadata:
            values[field.name] = field.metadata[SOURCE].found(values[field.name], field.name)
    return kind(**values)


def run(main: Callable[[], object]) -> None:
    """Call a command's main; what stops it is said in one line instead of a traceback.

    Raises:
        SystemExit: status 2 for a refusal, 1 where another process of the command has ended, 130
            for Ctrl-C and 143 for SIGTERM.
    """
    for name, level in _LIBRARIES.items():
        logging.getLogger(name).setLevel(level)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `read_image` refuses those
    try:
        with signals_raised():
            main()
    except OSError as error:
        raise _ended(f"error: {_told(error)}", 2) from None
    except (ValueError, MisconfigurationException) as error:
        raise _ended(f"error: {_one_line(error)}", 2) from None
    except RuntimeError as error:
        if not _LOST_PROCESS.search(str(error)):
            raise
        what = "another process of this run has ended; the same command continues"
        raise _ended(f"error: {what}", 1) from None
    except Stopped as stopped:
        raise _ended(str(stopped), 128 + stopped.number) from None


def _told(error: OSError) -> str:
    """What the system refused, with what to do; an error of our own says so itself."""
    if error.errno is None:
        return _one_line(error)
    remedy = _REMEDIES.get(error.errno, "give another path")
    where = f"{error.filename}: " if error.filename else ""
    return _one_line(OSError(f"{where}{error.strerror}; {remedy}"))


def _one_line(error: Exception) -> str:
    """Its text, in which nothing can steer a terminal."""
    words = " ".join(str(error).split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def _ended(line: str, status: int) -> SystemExit:
    """Print why a command ends; the exit carries the line as its text.

    What all its processes meet, a signal or another's end, the first tells; a refusal may be
    another's alone.
    """
    rank = getattr(rank_zero_only, "rank", None) or 0
    if rank == 0 or status == 2:
        print(f"rank {rank}: {line}" if rank else line, file=sys.stderr)
    end = SystemExit(line)
    end.code = status
    return end


@contextmanager
def _refused_in_one_line() -> Iterator[None]:
    """Make the parser's refusal of a command line a ValueError of one line."""
    try:
        yield
    except (jsonargparse.ArgumentError, yaml.YAMLError) as error:
        text = _one_line(error)
        raise ValueError(_mistyped(text) or text) from error


def _mistyped(text: str) -> str | None:
    """What jsonargparse says of a value that is no number, as we say it; None if it says another
    thing.
    """
    refused, expected = _MISTYPED.fullmatch(text), _EXPECTED.findall(text)
    kinds = [told for kind, told in _KINDS.items() if kind in expected]
    if refused is None or not kinds:
        return None
    name, value = refused.groups()
    left_out = ", or leave it out" if "NoneType" in expected else ""
    return f"--{name} is {value}; give {' or '.join(kinds)}{left_out}"


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


def _spelled_out(
    arguments: Sequence[str], parser: jsonargparse.ArgumentParser, kind: type
) -> Iterator[str]:
    """The arguments as jsonargparse reads them: full names, and one value a flag.

    `--steps 100 50` becomes `--sampler.steps=["100", "50"]`, and a switch `--skip_bad=true`.
    """
    actions: Mapping[str, Action] = parser._option_string_actions
    hints = {flag: getattr(action, "_typehint", None) for flag, action in actions.items()}
    words = list(arguments)
    while words:
        flag, equals, value = words.pop(0).partition("=")
        if not flag.startswith("--") or _is_item(flag, hints):
            yield f"{flag}{equals}{value}"
            continue
        flag = resolved(flag, actions, "the flag", "--help all shows every one")
        values, hint = [value] if equals else [], hints[flag]
        while words and not words[0].startswith("--") and _goes_on(hint, values, words[0]):
            values.append(words.pop(0))
        yield f"{flag}={_as_one(flag, hint, values, kind)}" if values or hint is bool else flag


def _is_item(flag: str, hints: Mapping[str, Any]) -> bool:
    """Whether it is `--sets.name`, an item of a mapping, which jsonargparse reads itself."""
    return any(
        hint is not None and takes(hint, Mapping) and flag.startswith(f"{known}.")
        for known, hint in hints.items()
    )


def _goes_on(hint: Any, values: Sequence[str], word: str) -> bool:
    """Whether a word after a flag and its values so far is one more of them."""
    if hint is bool:
        return not values and word.lower() in ("true", "false", "yes", "no")
    if hint is not None and takes(hint, Mapping):
        return not values or are_pairs([*values, word])
    return not values or (hint is not None and takes(hint, Sequence))


def _as_one(flag: str, hint: Any, values: Sequence[str], kind: type) -> str:
    """The values of a flag in one word."""
    if flag == "--config":
        settings = understood(kind, read_mapping(Path(values[0])), values[0])
        return str(yaml.safe_dump(settings, sort_keys=False))
    if hint is None or not values or values[0].startswith(("[", "{")):
        return values[0] if values else "true"
    several = takes(hint, Sequence) or (takes(hint, Mapping) and are_pairs(values))
    made = shaped(hint, list(values) if several else values[0], flag)
    return made if isinstance(made, str) else json.dumps(made)


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
    of_the_machine = {f.name for f in fields(Devices)}  # few people set these
    shown = [a for a in flags if "." not in a.dest and a.dest not in groups]
    shown.sort(key=lambda action: action.dest in of_the_machine)
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
