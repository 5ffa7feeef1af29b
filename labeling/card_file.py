"""Cards as JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

from labeling.card import LabelerCard

__all__ = ["read_card", "read_json"]

Card = TypeVar("Card", bound=LabelerCard)


def read_card(path: Path, kind: type[Card], defaults: Mapping[str, Any] | None = None) -> Card:
    """Read a card.

    Args:
        path: of a JSON object with the fields of `kind`; further keys are left alone.
        kind: the card's class.
        defaults: values of fields that the file may leave out, besides those `kind` has.

    Raises:
        ValueError: the file is no such JSON; the message names it.
    """
    content = {**(defaults or {}), **read_json(path)}
    required = [f.name for f in fields(kind) if f.default is MISSING]
    if missing := [name for name in required if name not in content]:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}; a card has all of these; write the card again"
        )
    try:
        return kind(**{f.name: content[f.name] for f in fields(kind) if f.name in content})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; ValueError if it is none."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # covers bad JSON and bad UTF-8
        raise ValueError(f"{path} is not JSON ({error}); write it again") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a {type(content).__name__}; a JSON object is needed; write it again"
        )
    return content
