"""Figures as SVG that take their ink and their arm colours from the page's style sheet.

matplotlib draws in placeholder colours; `_to_inline_svg` puts CSS in their place, so that one
drawing is legible on a light page, on a dark page and on paper. Rows are attributes; arms and sets
differ by colour and by marker. There are eight of these; what comes after is a hollow grey ring.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from classify.report.page import N_COLOURS
from classify.report.tables import percent as as_percent

__all__ = ["colours_of", "curves_plot", "dot_plot", "forest_plot", "gaps_plot"]

_MARKERS = "oDs^vPX*"
_INK, _PAPER = "#010203", "#010204"
_ARMS = [f"#0a0b{i:02x}" for i in range(N_COLOURS)]
_WIDTH, _LEFT, _RIGHT, _ROW, _TOP, _BOTTOM = 424, 124, 48, 16, 28, 40  # page pixels at scale 1
_LEGEND, _LETTER, _KEY = 18, 6.5, 28  # of a legend: height of a row, width of a letter, of a marker
_INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
_STYLE: Any = {
    "font.size": 10.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "report",  # the same figures give the same file
    "text.parse_math": False,  # a name may hold dollar signs
    "axes.axisbelow": True,
    **{f"axes.spines.{side}": False for side in ("top", "right", "left", "bottom")},
    **dict.fromkeys((*_INKED, "grid.color"), _INK),
}


def colours_of(names: Iterable[str]) -> dict[str, int]:
    """Name -> index of its colour and marker, for the first eight of the names."""
    return {name: i for i, name in enumerate(list(dict.fromkeys(names))[:N_COLOURS])}


def dot_plot(
    values: pd.DataFrame,
    colours: Mapping[str, int],
    *,
    label: str,
    percent: bool = False,
    shares: pd.Series[float] | None = None,
) -> Markup:
    """One row per attribute, one marker per column.

    Args:
        values: index attribute (top to bottom), columns arms or sets; NaN is left out. A column
            that is not in `colours` is drawn as a hollow grey ring.
        colours: name -> index of its colour and marker.
        label: what the horizontal axis measures.
        percent: values are shares, to be written in percent.
        shares: share of positives by attribute, written at the right.
    """
    with mpl.rc_context(_STYLE):
        per_row = _names_in_a_row(list(values.columns))
        legend_rows = -(-len(values.columns) // per_row)
        figure, axes = _rows(list(values.index), label, shares, legend=_LEGEND * legend_rows)
        y = np.arange(len(values))
        low, high = values.min(axis=1).to_numpy(float), values.max(axis=1).to_numpy(float)
        axes.hlines(y, low, high, colors=_INK, linewidth=1, alpha=0.35)
        for name in values.columns:
            axes.plot(
                values[name].to_numpy(float),
                y,
                linestyle="none",
                label=f"\u200b{name}",  # matplotlib leaves out names that begin with _
                **_marker(colours.get(name)),
            )
        # matplotlib fills a legend column by column; so its rows read in the order of the names
        order = [i for column in range(per_row) for i in range(column, len(axes.lines), per_row)]
        axes.legend(
            handles=[axes.lines[i] for i in order],
            loc="lower center",
            bbox_to_anchor=(0.5, 1),
            ncols=per_row,
            frameon=False,
            borderaxespad=1.9,
            labelspacing=0.2,
            handletextpad=0.1,
            columnspacing=1.4,
        )
        if percent:
            axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:g} %")
            axes.set_xlim(left=-0.02 * max(float(np.nanmax(high)), 0.01))  # whole markers at 0
        return _to_inline_svg(figure)


def forest_plot(
    differences: pd.DataFrame,
    colour: int | None,
    *,
    label: str,
    shares: pd.Series[float] | None = None,
) -> Markup:
    """One row per attribute: the difference and its interval, filled where the interval excludes 0,
    hollow elsewhere.

    Args:
        differences: index attribute (top to bottom), columns `difference, low, high`; bounds may be
            NaN.
        colour: index of the arm's colour and marker; None for grey.
        label: what the horizontal axis measures.
        shares: share of positives by attribute, written at the right.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _rows(list(differences.index), label, shares)
        axes.axvline(0, color=_INK, linewidth=1)
        _draw_intervals(axes, differences, np.arange(len(differences)), colour)
        return _to_inline_svg(figure)


def gaps_plot(
    panels: Mapping[str, pd.DataFrame], metrics: Mapping[str, str], colours: Mapping[str, int]
) -> Markup:
    """Panels beside one another with the same rows: under the name of each arm one row per metric,
    its difference and interval as in `forest_plot`.

    Args:
        panels: heading -> rows `arm, metric, difference, low, high`.
        metrics: metric -> what its rows are called.
        colours: arm -> index of its colour and marker.
    """
    arms = list(dict.fromkeys(arm for rows in panels.values() for arm in rows["arm"]))
    names = [name for arm in arms for name in (arm, *metrics.values())]
    of_arm, of_metric = (1 + len(metrics)), {name: i for i, name in enumerate(metrics, start=1)}
    with mpl.rc_context(_STYLE):
        height = 2 * _TOP + _BOTTOM / 4 + _ROW * len(names)
        figure = Figure(figsize=(_WIDTH / 72, height / 72))
        shared = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        edges = {"left": _LEFT / _WIDTH, "right": 1 - _BOTTOM / 4 / _WIDTH}
        figure.subplots_adjust(
            **edges, bottom=_BOTTOM / 4 / height, top=1 - 2 * _TOP / height, wspace=0.12
        )
        for axes, (title, rows) in zip(shared, panels.items(), strict=True):
            _label_rows(axes, names, most_ticks=4)
            axes.tick_params(labelbottom=False)
            axes.set_title(title, fontsize=10.5, pad=6)
            axes.axvline(0, color=_INK, linewidth=1)
            for line in axes.get_ygridlines()[::of_arm]:  # through an arm's name
                line.set_visible(False)
            for arm, found in rows.groupby("arm", sort=False):
                y = of_arm * arms.index(arm) + found["metric"].map(of_metric).to_numpy(int)
                _draw_intervals(axes, found, y, colours.get(str(arm)))
        for row, text in enumerate(shared[0].get_yticklabels()):
            text.set_alpha(0.75 if row % of_arm else 1)
        return _to_inline_svg(figure)


def curves_plot(
    curves: pd.DataFrame, titles: Mapping[str, str], colours: Mapping[str, int]
) -> Markup:
    """Panels beside one another, one per metric: one line per arm over the optimiser steps.

    Args:
        curves: rows `arm, metric, step, value`, by ascending steps.
        titles: metric -> heading of its panel.
        colours: arm -> index of its colour and marker; others are grey.
    """
    arms = list(dict.fromkeys(curves["arm"]))
    with mpl.rc_context(_STYLE):
        per_row = _names_in_a_row(arms)
        figure = Figure(
            figsize=(_WIDTH / 72, 2.2 + _LEGEND * -(-len(arms) // per_row) / 72),
            layout="constrained",
        )
        panels = figure.subplots(1, len(titles), sharex=True, squeeze=False)[0]
        for axes, (metric, title) in zip(panels, titles.items(), strict=True):
            for arm in arms:
                rows = curves[(curves["arm"] == arm) & (curves["metric"] == metric)]
                style = {**_marker(colours.get(arm)), "markersize": 3}
                line = {"color": _ink(colours.get(arm)), "linewidth": 1, "label": f"\u200b{arm}"}
                axes.plot(rows["step"], rows["value"], **line, **style)
            axes.set_title(title, fontsize=10.5)
            axes.set_xlabel("steps")
            axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
            axes.tick_params(length=0)
            axes.grid(alpha=0.18, linewidth=0.8)
        figure.legend(
            handles=panels[0].lines, loc="outside upper center", ncols=per_row, frameon=False
        )
        return _to_inline_svg(figure)


def _draw_intervals(
    axes: Axes, differences: pd.DataFrame, y: NDArray[np.integer[Any]], colour: int | None
) -> None:
    """Differences and their intervals, filled where the interval excludes 0."""
    mean, low, high = (differences[c].to_numpy(float) for c in ("difference", "low", "high"))
    axes.hlines(y, low, high, colors=_ink(colour), linewidth=1.5)
    certain = (low > 0) | (high < 0)
    for rows, face in ((certain, _ink(colour)), (~certain, _PAPER)):
        style = {**_marker(colour), "markerfacecolor": face}
        axes.plot(mean[rows], y[rows], linestyle="none", **style)


def _ink(colour: int | None) -> str:
    return _INK if colour is None else _ARMS[colour]


def _marker(colour: int | None) -> dict[str, Any]:
    if colour is None:
        ring = {"marker": "o", "markersize": 8, "markerfacecolor": "none", "alpha": 0.6}
        return {**ring, "markeredgecolor": _INK}
    face = {"markerfacecolor": _ink(colour), "markeredgecolor": _ink(colour)}
    return {"marker": _MARKERS[colour], "markersize": 5.5, **face}


def _names_in_a_row(names: Sequence[str]) -> int:
    """How many of a legend fit beside one another; its columns are as wide as the longest name."""
    widest = _KEY + _LETTER * max(len(str(name)) for name in names)
    return min(len(names), max(1, int(_WIDTH // widest)))


def _rows(
    names: Sequence[str], label: str, shares: pd.Series[float] | None, *, legend: int = 0
) -> tuple[Figure, Axes]:
    """Axes with one labelled row per name, of constant row height whatever their number."""
    height = _TOP + legend + _BOTTOM + _ROW * len(names)
    figure = Figure(figsize=(_WIDTH / 72, height / 72))
    width, rows = 1 - (_LEFT + _RIGHT) / _WIDTH, _ROW * len(names) / height
    axes = figure.add_axes((_LEFT / _WIDTH, _BOTTOM / height, width, rows))
    _label_rows(axes, names)
    axes.set_xlabel(label)
    if shares is not None:
        cells = [as_percent(share) for share in shares.reindex(list(names))]
        for y, text in enumerate(["share", *cells], start=-1):
            at = axes.get_yaxis_transform()
            axes.text(1.18, y, text, transform=at, ha="right", va="center", alpha=0.75)
    return figure, axes


def _label_rows(axes: Axes, names: Sequence[str], *, most_ticks: int = 5) -> None:
    """One row per name, from the top, and a grid."""
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    axes.xaxis.set_major_locator(MaxNLocator(most_ticks, steps=[1, 2, 5, 10]))
    axes.tick_params(length=0, labeltop=True)
    axes.grid(alpha=0.18, linewidth=0.8)


def _to_inline_svg(figure: Figure) -> Markup:
    """An `<svg>` element without size, links or metadata, its placeholders turned into CSS."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    tag, body = svg.split(">", 1)
    tag = re.sub(r' (width|height|version|xmlns(:xlink)?)="[^"]*"', "", tag)
    # Names of groups would occur once a figure, that is, several times in the page.
    body = re.sub(r'<g id="[^"]*"', "<g", body.replace("xlink:href", "href"))
    svg = f"{tag}>{body}"
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px system-ui, sans-serif", svg)
    svg = svg.replace(_INK, "currentColor").replace(_PAPER, "var(--paper)")
    for i, colour in enumerate(_ARMS):
        svg = svg.replace(colour, f"var(--arm-{i})")
    return Markup(svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1))
