"""How settings may be written, on a command line and in YAML alike.

Dashes stand for underscores, the end of a dotted name for the whole where no other ends so. One
value may stand for a list of one, and a mapping may be a list: `Bald=1:20 Eyeglasses=1:50`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from classify.names import known_names, meant, one_of

__all__ = ["are_pairs", "dotted", "resolved", "shaped", "takes"]

_PAIR = re.compile(r"\s*([^\s{\[:][^{\[]*?):\s*([^\s:/\\{\[]+)(?:\s|$)")
"""NAME:VALUE; a path such as C:\\sets.yaml is none."""


def resolved(name: str, known: Collection[str], what: str, remedy: str = "") -> str:
    """The known name that a written one stands for.

    Args:
        name: as it is written, such as `num-real`, `sampler.steps` or `steps`.
        known: the full names; where they begin with dashes, so may this one.
        what: what the names are, for a refusal.
        remedy: where they are listed, for a refusal; left out, those of the same group are.

    Raises:
        ValueError: it stands for none, or for several.
    """
    full = {other.lstrip("-"): other for other in known}
    bare = name.lstrip("-").replace("-", "_")
    found = [bare] if bare in full else [other for other in full if other.endswith(f".{bare}")]
    if len(found) == 1:
        return full[found[0]]
    if found:
        several = " and ".join(full[other] for other in found)
        raise ValueError(f"{what} {name} may be {several}; write one of them in full")
    suggested = meant(name, [other for other in known if not other.endswith("+")])
    group = bare.rpartition(".")[0]
    beside = [other for other in full if other.rpartition(".")[0] == group] or list(full)
    remedy = remedy or f"give one of {known_names(beside)}"
    raise ValueError(f"{what} {name} is not known; {suggested}{remedy}")


def dotted(kind: type, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> type of every setting of a dataclass, and of its groups of settings."""
    hints, found = get_type_hints(kind), {}
    for field in fields(kind):
        found[prefix + field.name] = hints[field.name]
        for member in _members(hints[field.name]):
            if isinstance(member, type) and is_dataclass(member):
                found |= dotted(member, f"{prefix}{field.name}.")
    return found


def shaped(hint: Any, value: Any, what: str) -> Any:
    """A value in the form that its type has.

    Args:
        hint: the type.
        value: as YAML gives it.
        what: the setting, for a refusal.

    Returns:
        A list of one for a value where only a list is allowed, a mapping for pairs, and everything
        else as it is.

    Raises:
        ValueError: none of the words that are allowed, or a pair that stands twice.
    """
    members = _members(hint)
    if takes(hint, Mapping):
        pairs = _pairs(value, what)
        if pairs is None and isinstance(value, str) and not (takes(hint, str) or takes(hint, Path)):
            raise ValueError(
                f"{what} is {value}; give NAME:VALUE, several apart by spaces, such as Bald=1:20 "
                "Male=0:5"
            )
        return value if pairs is None else pairs
    if takes(hint, Sequence):
        inner = next(get_args(member)[0] for member in members if takes(member, Sequence))
        if isinstance(value, (list, tuple)):
            return [shaped(inner, one, what) for one in value]
        alone = value is None or isinstance(value, Mapping) or takes(hint, str)
        return value if alone else [shaped(inner, value, what)]
    choices = [
        choice for member in members if get_origin(member) is Literal for choice in get_args(member)
    ]
    if choices and isinstance(value, str) and not takes(hint, str) and value not in choices:
        raise ValueError(f"{what} is {value}; {one_of(value, choices)}")
    return value


def takes(hint: Any, kind: type) -> bool:
    """Whether a type, or one of a union, is of that kind; text is no sequence."""
    found = [get_origin(member) or member for member in _members(hint)]
    return any(
        isinstance(one, type) and issubclass(one, kind) and (one is not str or kind is str)
        for one in found
    )


def are_pairs(words: Sequence[str]) -> bool:
    """Whether every word is NAME:VALUE."""
    return bool(words) and all(_PAIR.fullmatch(word) for word in words)


def _members(hint: Any) -> Sequence[Any]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _pairs(value: Any, what: str) -> dict[str, Any] | None:
    """The mapping that pairs make; None if the value is none: text, or a list of text or of
    mappings.
    """
    found: dict[str, Any] = {}
    for one in value if isinstance(value, list) else [value] if isinstance(value, str) else []:
        items = list(one.items()) if isinstance(one, Mapping) else list(_split(str(one)))
        if not items:
            return None
        for name, item in items:
            if name in found:
                raise ValueError(f"{what} has {name} twice; give it once")
            found[name] = item
    return found or None


def _split(text: str) -> Iterator[tuple[str, Any]]:
    """Name and value of each NAME:VALUE; nothing if anything else is among them."""
    if not _PAIR.sub("", text):
        yield from ((name.strip(), yaml.safe_load(item)) for name, item in _PAIR.findall(text))
