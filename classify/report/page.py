"""Write a page: one HTML file that opens offline and needs no script."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from classify.files import write_text
from classify.report.blocks import Section
from classify.report.figures import N_COLOURS

__all__ = ["write_page"]


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
    page = environment.get_template("template.html.j2").render(
        title=title,
        sections=[section for section in sections if section is not None],
        n_colours=N_COLOURS,
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)
