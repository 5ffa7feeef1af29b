"""Names that are not known: what was probably meant, and what there is."""

from __future__ import annotations

from collections.abc import Collection
from difflib import SequenceMatcher

__all__ = ["closest", "known_names", "meant", "one_of"]

_ALIKE = 0.75
"""Least likeness of a suggestion, in [0, 1]; two letters of three that changed places have it."""
_SHORTEST = 3
"""Letters of the shortest abbreviation."""
_MOST = 3
"""Suggestions at once."""


def closest(name: str, known: Collection[str]) -> list[str]:
    """The known names that a name is most like, equally; none if it is like none.

    Case, dashes, underscores and spaces make no difference. Of dotted names such as
    `guidance.scale` the last parts alone are compared too, since the first may be left out or
    wrong, and the beginning of a last part stands for the whole.
    """
    likeness = {other: _likeness(_key(name), _key(other)) for other in known}
    best = max(likeness.values(), default=0.0)
    return [other for other, alike in likeness.items() if _ALIKE <= alike == best][:_MOST]


def one_of(name: str, known: Collection[str]) -> str:
    """`did you mean Bald? give one of Bald, Male`, as a refusal of a name ends."""
    return f"{meant(name, known)}give one of {known_names(known)}"


def meant(name: str, known: Collection[str]) -> str:
    """`did you mean Bald? `, before what there is; empty where the name is like none."""
    near = closest(name, known)
    return f"did you mean {' or '.join(near)}? " if near else ""


def known_names(names: Collection[str], most: int = 16) -> str:
    """The names in a row; of many the first."""
    first = ", ".join(map(str, list(names)[:most]))
    return first + (f" and {len(names) - most} more" if len(names) > most else "")


def _key(name: str) -> list[str]:
    """The parts of a dotted name, in letters and digits alone."""
    parts = str(name).casefold().split(".")
    return ["".join(filter(str.isalnum, part)) for part in parts]


def _likeness(got: list[str], known: list[str]) -> float:
    """In [0, 1]; 1 for the same. Whole names weigh more than last parts."""
    whole, last = _ratio(".".join(got), ".".join(known)), _ratio(got[-1], known[-1])
    if len(got[-1]) >= _SHORTEST and known[-1].startswith(got[-1]):
        last = max(last, 0.9)
    if len(got) > 1 and len(known) > 1:
        last *= (1 + _ratio(got[-2], known[-2])) / 2
    elif len(got) != len(known):
        last *= 0.95
    return max(whole, last)


def _ratio(a: str, b: str) -> float:
    return SequenceMatcher(None, a, b, autojunk=False).ratio()
