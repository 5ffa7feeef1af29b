"""Scores by number of labelled images: the curves, what the arms are worth on them, the picture.

An arm of real images alone does not know the labeler; where a table has a column `knowledge`, such
an arm's is `any`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from classify import summarise
from classify.exchange import exchange_rate
from classify.metrics import AVERAGE_PRECISION, FITTED_F1, MACRO, MACRO_RARE
from recipes.chain.results.comparison import best_on_val

__all__ = ["ANY", "chart", "curves", "exchanged", "sentence"]

ANY = "any"
EXCHANGED: Mapping[str, tuple[str, str]] = {
    "f1": (MACRO, "f1"),
    "f1_rare": (MACRO_RARE, "f1"),
    AVERAGE_PRECISION: (MACRO, AVERAGE_PRECISION),
    FITTED_F1: (MACRO, FITTED_F1),
}
"""Metrics that are exchanged for images: name in the summary -> attribute and metric of scores."""
_LABELS = {
    "elsewhere": "a labeler from elsewhere",
    "generator": "a head on the generator's activations",
    "few": "a network trained on the same images",
}
"""Whence labels come -> in words."""
_GREYS, _COLOURS = ("#1a1a1a", "#8c8c8c", "#b9b9b9"), ("#d1495b", "#e59a23", "#2e86ab", "#6a4c93")
"""Colours of arms of real images alone, and of the others, the focus first."""


def curves(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean scores on test by size, knowledge and arm, with 95 % intervals over seeds.

    Args:
        scores: columns `size, knowledge, arm, seed, split, attribute, metric, value`.

    Returns:
        Columns `size, knowledge, arm, metric, mean, low, high, n_seeds`.
    """
    parts = []
    for keys, rows in scores.groupby(["size", "knowledge"], sort=False):
        size, knowledge = cast("tuple[int, str]", keys)
        parts.append(summarise(rows).assign(size=size, knowledge=knowledge))
    columns = ["size", "knowledge", "arm", "metric", "mean", "low", "high", "n_seeds"]
    return pd.concat(parts, ignore_index=True)[columns]


def exchanged(scores: pd.DataFrame, real_arms: Sequence[str]) -> pd.DataFrame:
    """How many labelled real images would give what each arm with synthetic ones gives.

    Args:
        scores: as for `curves`.
        real_arms: arms of real images alone; at every size the best of them on val is the curve.

    Returns:
        One row per size, knowledge, arm and metric: `mean` on test; `images`, which the curve needs
        for it, with `low` and `high` over seeds (0 is fewer than the smallest size, infinity more
        than the largest, NaN not estimable), and all that in words, `says`.
    """
    sizes = sorted(scores["size"].unique())
    rivals = [best_on_val(scores[scores["size"] == size], real_arms) for size in sizes]
    rows = []
    for metric, (attribute, of_scores) in EXCHANGED.items():
        test = scores[
            (scores["split"] == "test")
            & (scores["attribute"] == attribute)
            & (scores["metric"] == of_scores)
        ]
        keys = ["size", "knowledge", "arm"]
        by_arm = test.set_index([*keys, "seed"])["value"].unstack("seed", sort=False).dropna()
        if by_arm.empty:
            continue
        of_curve = [(size, ANY, arm) for size, arm in zip(sizes, rivals, strict=True)]
        curve = by_arm.loc[of_curve].to_numpy().T
        for key, values in by_arm.iterrows():
            size, knowledge, arm = cast("tuple[int, str, str]", key)
            if knowledge != ANY:
                rate = exchange_rate(sizes, curve, values)
                found = (rate.images, rate.low, rate.high)
                says = _says(*found, sizes)
                rows.append((size, knowledge, arm, metric, values.mean(), *found, says))
    columns = ["size", "knowledge", "arm", "metric", "mean", "images", "low", "high", "says"]
    return pd.DataFrame(rows, columns=columns)


def _says(images: float, low: float, high: float, sizes: Sequence[int]) -> str:
    """An exchange rate in words."""
    smallest, largest = f"fewer than {sizes[0]:,}", f"more than all {sizes[-1]:,}"
    ends = ("below", f"{low:,.0f}"), (f"{high:,.0f}", "beyond")
    least, most = ends[0][low > 0], ends[1][bool(np.isinf(high))]
    interval = "" if np.isnan(low) or high == 0 or np.isinf(low) else f" [{least}, {most}]"
    if images == 0:
        return f"{smallest}{interval}"
    return (largest if np.isinf(images) else f"about {images:,.0f}") + interval


def middle(sizes: Sequence[int]) -> int:
    """The size that sentence and picture speak of: the middle one, of two the smaller."""
    return sorted(sizes)[(len(sizes) - 1) // 2]


def sentence(exchange: pd.DataFrame, focus: str | None) -> str:
    """What the focus is worth at the middle size, by each source of labels."""
    rows = exchange[(exchange["metric"] == "f1") & (exchange["arm"] == focus)]
    size = middle(list(rows["size"].unique()))
    told = [
        f"{row['says']}, where labels come from {_LABELS[row['knowledge']]}"
        for _, row in rows[rows["size"] == size].iterrows()
    ]
    return (
        f"With {focus} images, {size:,} labelled real ones give the macro F1 that takes, without "
        f"them, {'; '.join(told)}."
    )


def chart(worth: pd.DataFrame, exchange: pd.DataFrame, focus: str | None) -> Figure:
    """Macro F1 by number of labelled images, a panel a source of labels; in each an arrow from the
    focus, at the middle size, to where the curve of real images alone gives as much.
    """
    f1 = worth[worth["metric"] == "f1"]
    panels = [one for one in f1["knowledge"].unique() if one != ANY]
    alone = list(f1.loc[f1["knowledge"] == ANY, "arm"].unique())
    others = sorted(set(f1["arm"]) - set(alone), key=lambda arm: (arm != focus, arm))
    colours = dict(zip(alone, np.resize(_GREYS, len(alone)), strict=True))
    colours |= dict(zip(others, np.resize(_COLOURS, len(others)), strict=True))
    figure = Figure(figsize=(3.8 * max(len(panels), 2), 4.2), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    sizes = sorted(f1["size"].unique())
    lowest, highest = np.nanmin(f1[["mean", "low"]]), np.nanmax(f1[["mean", "high"]])
    bottom = lowest - 0.25 * (highest - lowest)  # room for a line of text
    for axes, knowledge in zip(grid, panels, strict=True):
        shown = f1[f1["knowledge"].isin([ANY, knowledge])]
        for arm in (*alone, *others):
            _line(axes, shown[shown["arm"] == arm], colours[arm], dashed=arm in alone[1:])
        of_panel = exchange[(exchange["knowledge"] == knowledge) & (exchange["metric"] == "f1")]
        axes.set_title(f"labels by {_LABELS[knowledge]}", fontsize=10, loc="left", pad=8)
        axes.set_ylim(bottom=bottom)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(axis="y", color="0.92", lw=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelsize=9)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color("0.6")
        rows = of_panel[(of_panel["arm"] == focus) & (of_panel["size"] == middle(sizes))]
        for _, row in rows.iterrows():
            _arrow(axes, row, sizes, colours[row["arm"]])
    grid[0].set_ylabel("macro F1 on real test images", fontsize=9.5)
    grid[len(panels) // 2].set_xlabel("labelled real training images", fontsize=9.5, labelpad=6)
    figure.legend(
        *grid[0].get_legend_handles_labels(),
        loc="outside upper left",
        ncols=len(colours),
        frameon=False,
        fontsize=9.5,
    )
    return figure


def _line(axes: Axes, rows: pd.DataFrame, colour: str, *, dashed: bool) -> None:
    """An arm's means over seeds, with the band of their intervals."""
    rows = rows.sort_values("size")
    arm = str(rows["arm"].iloc[0])
    axes.fill_between(rows["size"], rows["low"], rows["high"], color=colour, alpha=0.13, lw=0)
    style = {"ls": (0, (4, 2))} if dashed else {"ls": "-"}
    axes.plot(
        rows["size"], rows["mean"], color=colour, marker="o", ms=4.5, lw=1.8, label=arm, **style
    )


def _arrow(axes: Axes, row: pd.Series, sizes: Sequence[int], colour: str) -> None:
    """From the focus to the size at which real images alone reach it, and the exchange rate."""
    end = float(np.clip(row["images"], sizes[0], sizes[-1]))
    ink: dict[str, Any] = {"color": colour, "lw": 1.1}
    axes.annotate(
        "",
        xy=(end, row["mean"]),
        xytext=(row["size"], row["mean"]),
        arrowprops={"arrowstyle": "-|>", "shrinkA": 3, "shrinkB": 0, **ink},
    )
    if sizes[0] < row["images"] < sizes[-1]:
        axes.vlines(end, axes.get_ylim()[0], row["mean"], ls=":", **ink)
    axes.text(
        0.98,
        0.05,
        f"{row['size']:,} with {row['arm']} are worth\n{row['says']}",
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        fontsize=9,
        color=colour,
        bbox={"color": "white", "pad": 1},
    )
