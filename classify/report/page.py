"""A page: sections, and in them a few kinds of blocks, as one HTML file without any script.

The template knows these blocks and nothing else. Every text is escaped there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from classify.files import write_text

N_COLOURS = 8
"""As many as the template's style sheet defines (--arm-0 ...)."""


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


def write_page(path: str | Path, title: str, sections: Iterable[Section | None]) -> None:
    """Write sections as one HTML file, atomically; a page that stands there is replaced.

    Args:
        path: the file to write; its folder is made if need be.
        title: heading of the page.
        sections: what to show, in this order; None is left out.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    shown = [section for section in sections if section is not None]
    template = environment.get_template("template.html.j2")
    page = template.render(title=title, sections=shown, n_colours=N_COLOURS)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)
