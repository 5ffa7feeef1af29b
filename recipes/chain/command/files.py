"""A run's results on disk, each file written in one piece, so that nobody reads half of it; and
files that two folders share.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from classify.files import write_bytes, write_text

__all__ = ["check_folder", "link", "write_csv", "write_figure", "write_parquet"]


def check_folder(out: Path) -> None:
    """Refuse a path at or above which a file stands."""
    if blocking := [p for p in (out, *out.parents) if p.exists() and not p.is_dir()]:
        raise ValueError(f"out is {out}, but {blocking[0]} is a file; give a folder")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, without its index."""
    write_text(path, table.to_csv(index=False))


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet, without its index, where pyarrow is installed to do so."""
    if find_spec("pyarrow"):
        write_bytes(path, table.to_parquet(index=False, engine="pyarrow"))


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG."""
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    write_bytes(path, picture.getvalue())


def link(source: Path, target: Path) -> None:
    """A hard link where the file system can, which takes no room, and a copy elsewhere."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        write_bytes(target, source.read_bytes())
