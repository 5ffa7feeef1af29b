"""Tables and pictures, each written in one piece: whoever reads one never sees half of it."""

from __future__ import annotations

from collections.abc import Iterable
from gzip import GzipFile
from io import BytesIO
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from classify.files import write_bytes, write_text

__all__ = ["write_csv", "write_figure", "write_gzip_csv"]


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, without its index."""
    write_text(path, table.to_csv(index=False))


def write_gzip_csv(path: Path, parts: Iterable[pd.DataFrame]) -> None:
    """Write tables of the same columns below one another as a compressed CSV, without their index.

    Numbers have six digits. Equal tables give equal bytes: no time stands in the file.
    """
    packed = BytesIO()
    with GzipFile(fileobj=packed, filename="", mode="wb", compresslevel=6, mtime=0) as file:
        for number, part in enumerate(parts):
            text = part.to_csv(index=False, header=number == 0, float_format="%.6g")
            file.write(text.encode())
    write_bytes(path, packed.getvalue())


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG."""
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    write_bytes(path, picture.getvalue())
