"""What is needed to run it again: notes, settings, the cards of the weights, versions."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from classify.report.page import Details, Items, Pairs, Section, how
from classify.report.tables import NOTHING

__all__ = ["notes_section", "record_section"]


def notes_section(notes: Sequence[str]) -> Section | None:
    """What the run has to say about itself: warnings, diagnostics, time taken; a sentence each."""
    if not notes:
        return None
    text = "What the run has to say about itself: warnings, images left out, diagnostics, time."
    return Section("Notes", [how(text), Items(notes)])


def record_section(
    settings: Mapping[str, Any],
    cards: Mapping[str, Mapping[str, Any]],
    packages: Sequence[str],
) -> Section | None:
    """Settings, weights and versions.

    Args:
        settings: the resolved configuration, nested.
        cards: name of the weights -> their card, nested.
        packages: distributions whose versions matter, besides Python's own.
    """
    parts = {"Settings": settings, **{f"Weights: {name}": card for name, card in cards.items()}}
    if packages:
        own = {"python": platform.python_version()}
        parts["Versions"] = {**own, **{name: version(name) for name in packages}}
    blocks = [Details(title, [Pairs(list(_flat(part)))]) for title, part in parts.items() if part]
    if not blocks:
        return None
    text = (
        "What is needed to run it again. The figures may still differ in the last digits on "
        "another machine."
    )
    return Section("Settings, weights and versions", [how(text), *blocks])


def _flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested mapping as rows `a.b.c, value`; lists stay in one row."""
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False, default=str)
        else:
            yield f"{prefix}{key}", NOTHING if value is None else str(value)
