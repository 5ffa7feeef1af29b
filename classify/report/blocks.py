"""What a page is made of: sections, and in them a few kinds of blocks.

The template knows these and nothing else. Every text is escaped there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup


@dataclass(frozen=True)
class Cell:
    """A text with small print below it and a coloured dot before it, where there are any."""

    text: str
    small: str = ""
    colour: int | None = None


@dataclass(frozen=True)
class Paragraph:
    """A text; `how` says how to read what follows, `caution` and `headline` stand out."""

    text: str
    style: Literal["text", "how", "caution", "headline", "heading"] = "text"


@dataclass(frozen=True)
class Items:
    """A list."""

    items: Sequence[Cell | str]


@dataclass(frozen=True)
class Pairs:
    """Names, and what belongs to each."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """A table whose rows begin with their names; a wide one scrolls inside its box."""

    header: Sequence[Cell | str]
    rows: Sequence[Sequence[Cell | str]]


@dataclass(frozen=True)
class Figure:
    """A drawing, and what it shows in words for who cannot see it."""

    svg: Markup
    label: str


@dataclass(frozen=True)
class Sheet:
    """Many small images as one PNG (a data URI), its size in pixels, and what it shows."""

    uri: str
    width: int
    height: int
    label: str
    caption: Cell


@dataclass(frozen=True)
class Sheets:
    """Sheets of images beside one another."""

    sheets: Sequence[Sheet]


@dataclass(frozen=True)
class Details:
    """Blocks that show when asked for."""

    summary: str
    blocks: Sequence[Block]


Block = Paragraph | Items | Pairs | Table | Figure | Sheets | Details


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    blocks: Sequence[Block]
    boxed: bool = False
    """Set off from the others by a box, and above them."""


def how(text: str) -> Paragraph:
    """How to read what follows."""
    return Paragraph(text, "how")


def heading(text: str) -> Paragraph:
    """A heading inside a section."""
    return Paragraph(text, "heading")
