"""Plain mappings, as YAML and Python write them, into settings and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse
import yaml

from recipes.chain.command.written import dotted, resolved, shaped

__all__ = [
    "Values",
    "difference",
    "merged",
    "nested",
    "plain",
    "read_mapping",
    "read_values",
    "understood",
]

Values = Mapping[str, Any]
Kind = TypeVar("Kind")


def read_values(kind: type[Kind], values: Values, what: str) -> Kind:
    """A dataclass of settings from a mapping, nested as the dataclass is.

    Args:
        kind: the dataclass.
        values: field -> value; what is left out has its default.
        what: what the values are, for a refusal.

    Raises:
        ValueError: an unknown field or a refused value, in one line.
    """
    values = understood(kind, values, what)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, None)
    try:
        options = parser.instantiate(parser.parse_object(plain(values)))
        return kind(**vars(options))
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        raise ValueError(f"{what}: {' '.join(str(error).split())}") from error


def understood(kind: type, values: Values, what: str) -> dict[str, Any]:
    """The settings of a dataclass as it names and nests them; see `written.py` for the ways in
    which they may be written.

    Raises:
        ValueError: an unknown name, at whatever depth, or a value that is refused; one line.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{what} is {values!r}; give a mapping of settings, such as {{}}")
    known = dotted(kind)

    def flat(values: Values, group: str = "") -> Iterator[tuple[str, Any]]:
        for key, value in values.items():
            name = resolved(f"{group}{key}", known, f"{what}: the setting")
            inner = [other for other in known if other.startswith(f"{name}.")]
            if inner and value and isinstance(value, Mapping):
                yield from flat(value, f"{name}.")
            elif is_dataclass(known[name]) and not isinstance(value, Mapping):
                raise ValueError(
                    f"{what}: {name} is {value!r}; give a mapping of settings, such as {{}}"
                )
            else:
                yield name, shaped(known[name], value, f"{what}: {name}")

    return nested(dict(flat(values)))


def merged(base: Values, values: Values) -> dict[str, Any]:
    """The base with the values over it, mapping by mapping."""
    result = dict(base)
    for key, value in values.items():
        below = result.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = merged(below, value)
        result[key] = value
    return result


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping of mappings that dotted names stand for."""
    nested: dict[str, Any] = {}
    for path, value in dotted.items():
        for name in reversed(path.split(".")):
            value = {name: value}
        nested = merged(nested, value)
    return nested


def difference(base: Values, values: Values) -> dict[str, Any]:
    """The values that differ from the base's, mapping by mapping."""
    found = {}
    for name, value in values.items():
        below = base.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = difference(below, value)
            if value:
                found[name] = value
        elif value != below:
            found[name] = value
    return found


def read_mapping(file: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it holds something else; one line, which does not repeat what stands there.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; give a YAML file")
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} is not a YAML file; write it as NAME: {{settings}}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds no mapping; write it as NAME: {{settings}}, one per line")
    return found


def plain(value: Any) -> Any:
    """A value as YAML and JSON hold it: paths as text, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
