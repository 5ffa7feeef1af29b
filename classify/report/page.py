"""Write a report: one HTML file that opens offline and needs no script."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from classify.report.report import Report
from classify.report.view import view

__all__ = ["write_report"]


def write_report(path: Path, report: Report) -> None:
    """Write a report as one HTML file, atomically; a report that stands there is replaced.

    Args:
        path: the file to write; its folder is made if need be.
        report: what to show.

    Raises:
        FileNotFoundError, ValueError: a sample image is missing or does not decode.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("template.html.j2").render(view(report))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        os.chmod(temporary, 0o644)  # mkstemp's file is private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
