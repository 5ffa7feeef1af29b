"""Pictures of measured sets: how rarity is distributed, and the rarest and commonest images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps
from scipy.stats import gaussian_kde

from augment.images import Read

__all__ = ["ImageSet", "contact_sheet", "density_plot"]

_TITLES = {"avg_knn": "AvgkNN", "lof": "LOF", "rarity": "rarity score"}
_POINTS, _KERNELS = 300, 20_000
_COLUMNS, _ROWS, _GAP, _TITLE, _SMALLEST, _LARGEST = 12, 2, 3, 24, 64, 128
_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
_COLOURS = ("#4d4d4d", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, told apart by the colour-blind too; grey is the real images'."""
_STROKES: tuple[tuple[str, Any], ...] = tuple(
    (colour, style) for style in ("-", "--", ":", "-.") for colour in _COLOURS[1:]
)
"""Strokes of the generated sets; a colour comes back with another kind of line."""


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images under a name."""

    name: str
    """What the set is called, in tables and plots."""
    paths: Sequence[str]
    """The file of each image."""
    file_names: Sequence[str]
    """What each image is called in tables."""

    @classmethod
    def of(cls, name: str, table: pd.DataFrame) -> ImageSet:
        """The images of a table's rows, by its columns `path` and `file_name`."""
        return cls(name=name, paths=list(table["path"]), file_names=list(table["file_name"]))


def density_plot(measured: Mapping[str, pd.DataFrame]) -> bytes:
    """Kernel densities of AvgkNN, LOF and rarity, one line per set, as a PNG.

    Args:
        measured: of each set, by name, the real one first, the columns avg_knn, lof and, if it has
            one, rarity; NaN is left out.
    """
    strokes = dict(zip(measured, [(_COLOURS[0], "-"), *_STROKES * len(measured)], strict=False))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 3.4), dpi=130, layout="constrained")
        for axes, (column, title) in zip(figure.subplots(1, 3), _TITLES.items(), strict=True):
            values = {n: t[column].dropna().to_numpy() for n, t in measured.items() if column in t}
            _densities(axes, values, strokes)
            axes.set_xlabel(f"{title} (rarer to the right)")
        figure.axes[0].set_ylabel("density of images")
        handles = [
            Line2D([], [], color=colour, linestyle=style, linewidth=3, label=name)
            for name, (colour, style) in strokes.items()
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=5, frameon=False)
        file = BytesIO()
        figure.savefig(file, format="png")
    return file.getvalue()


def contact_sheet(
    sets: Sequence[ImageSet], measured: Mapping[str, pd.DataFrame], read: Read, *, rarest: bool
) -> bytes:
    """The images of each set with the highest or lowest AvgkNN, most extreme first, as a PNG.

    Args:
        sets: the sets.
        measured: of each, by name, the column avg_knn, one row per image.
        read: decodes an image file.
        rarest: the highest; else the lowest.
    """
    shown, titles = [], []
    for images in sets:
        scores = measured[images.name]["avg_knn"].to_numpy()
        order = np.argsort(scores * (-1 if rarest else 1), kind="stable")[: _COLUMNS * _ROWS]
        first, last = scores[order[[0, -1]]]
        titles.append(f"{images.name}: AvgkNN from {first:.3g} to {last:.3g}")
        shown.append([read(images.paths[i]).convert("RGB") for i in order])
    # One size for all, by which sets of other sizes can be compared.
    side = min(max(_SMALLEST, *(max(images[0].size) for images in shown)), _LARGEST)
    grids = [_grid(images, side) for images in shown]
    step = _TITLE + 2 * _GAP
    font = ImageFont.load_default(size=15)
    widths = [*(grid.width for grid in grids), *(int(font.getlength(title)) for title in titles)]
    width = max(widths) + 2 * _GAP
    sheet = Image.new("RGB", (width, sum(grid.height + step for grid in grids)), "white")
    pen = ImageDraw.Draw(sheet)
    top = 0
    for title, grid in zip(titles, grids, strict=True):
        pen.text((_GAP, top + _TITLE // 2), title, "black", font, anchor="lm")
        sheet.paste(grid, (_GAP, top + _TITLE))
        top += grid.height + step
    file = BytesIO()
    sheet.save(file, format="PNG")
    return file.getvalue()


def _densities(
    axes: Axes, values: Mapping[str, NDArray[np.float64]], strokes: Mapping[str, tuple[str, Any]]
) -> None:
    """Kernel density of each set, up to where 99.5 % of all values lie."""
    every = np.concatenate([np.zeros(0), *values.values()])
    low, high = (every.min(), np.quantile(every, 0.995)) if len(every) else (0.0, 1.0)
    grid = np.linspace(low - 0.05 * (high - low), high + 0.05 * (high - low), _POINTS)
    for name, x in values.items():
        colour, style = strokes[name]
        if len(x) < 2 or np.ptp(x) <= 1e-9 * abs(x[0]):  # one value has no density
            for value in x[:1]:
                axes.axvline(value, color=colour, linestyle=style, linewidth=2.5)
            continue
        # So many are enough for a line, and a kernel at each of 162,770 would take long.
        density = gaussian_kde(x[:: -(-len(x) // _KERNELS)])(grid)
        axes.plot(grid, density, color=colour, linestyle=style, linewidth=1.6)
        axes.fill_between(grid, density, color=colour, alpha=0.12, linewidth=0)
    axes.set_yticks([])
    axes.set_ylim(bottom=0)


def _grid(images: Sequence[Image.Image], side: int) -> Image.Image:
    """Images in rows, each within a square of so many pixels."""
    columns, rows = min(_COLUMNS, len(images)), -(-len(images) // _COLUMNS)
    step = side + _GAP
    grid = Image.new("RGB", (columns * step - _GAP, rows * step - _GAP), "white")
    for i, image in enumerate(images):
        row, column = divmod(i, _COLUMNS)
        grid.paste(ImageOps.pad(image, (side, side), color="white"), (column * step, row * step))
    return grid
