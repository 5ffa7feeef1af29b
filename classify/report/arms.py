"""The arms at a glance: their scores, how far they are from the first, and other means of F1."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from classify.metrics import AVERAGE_PRECISION, FITTED_F1, MACRO, MACRO_RARE, RARE
from classify.report import tables as t
from classify.report.figures import gaps_plot
from classify.report.page import Block, Cell, Details, Figure, Section, Table, heading, how
from classify.report.tables import Colours
from classify.verdict import listed

__all__ = ["arms_section"]

_SCORES = {
    "f1": "F1",
    "f1_rare": "F1, rare",
    AVERAGE_PRECISION: "Average precision",
    f"{AVERAGE_PRECISION}_rare": "Average precision, rare",
    FITTED_F1: "F1 at fitted thresholds",
}
"""Metric of the summary -> what the page calls it."""
_AVERAGINGS = {
    **{f"{name}_samples": f"{title}, images" for name, title in t.METRICS.items()},
    **{f"{name}_micro": f"{title}, cells" for name, title in t.METRICS.items()},
    **{name: f"{title}, attributes" for name, title in t.METRICS.items()},
}
_GAPS = {"f1": "F1 at 0.5", AVERAGE_PRECISION: "average precision", FITTED_F1: "F1, fitted"}


def arms_section(
    summary: pd.DataFrame,
    comparison: pd.DataFrame,
    n_scored: int,
    n_attributes: int,
    colours: Colours,
    meanings: Mapping[str, str],
    *,
    baseline: str = "real",
    published: Mapping[str, Mapping[str, float]] | None = None,
) -> Section:
    """The scores of every arm, and of what is no arm but stands beside them.

    Args:
        summary: of `classify.summarise`; a score that it does not have is shown as none.
        comparison: of `classify.compare_pairs`.
        n_scored: number of attributes that the macro scores are a mean over.
        n_attributes: number of attributes of the study.
        colours: of the arms.
        meanings: arm -> what it tells, for those that need to be explained here.
        baseline: the arm that the figure compares with.
        published: what was trained on -> metric of the summary -> value, of other data.
    """
    t.check_columns("summary", summary, "arm metric mean low high n_seeds")
    if not 0 <= n_scored <= n_attributes:
        raise ValueError(
            f"n_scored is {n_scored}; the macro scores are a mean over 0 to {n_attributes} "
            "attributes; count those behind them"
        )
    seeds = int(summary["n_seeds"].max())
    text = (
        f"Means over {n_scored} of {n_attributes} attributes, those with both values among the "
        f"real test images; rare ones have fewer than {100 * RARE:g} % positives among the real "
        "train images. F1 is that of the positive class, at probability 0.5; fitted thresholds, "
        "one per attribute and fit, are those of the best F1 on val; average precision needs none. "
        f"Every arm was trained for equally many steps. Ranges are 95 % intervals over {seeds} "
        f"training seed{'s' * (seeds != 1)}, for these test and synthetic images; they may overlap "
        "although a paired difference is clear."
    )
    blocks: list[Block] = [how(text), _table(summary, _SCORES, colours, meanings)]
    blocks += _gaps(comparison, baseline, colours)
    blocks.append(_averagings(summary, colours, published or {}))
    return Section("Scores by arm", blocks)


def _table(
    summary: pd.DataFrame, metrics: Mapping[str, str], colours: Colours, meanings: Mapping[str, str]
) -> Table:
    """One row per arm, one column per metric, its interval below it."""
    rows: list[list[Cell | str]] = []
    for arm, told in summary.groupby("arm", sort=False):
        first = Cell(str(arm), meanings.get(str(arm), ""), colours.get(str(arm)))
        found = t.records(told.set_index("metric").reindex(list(metrics)))
        rows.append([first, *(_cell(row, single=told["n_seeds"].max() == 1) for row in found)])
    return Table(["Arm", *metrics.values()], rows)


def _cell(row: t.Row, *, single: bool) -> Cell:
    """A mean and its interval, which a single fit has not."""
    return Cell(t.number(row["mean"]), "" if single else t.interval(row["low"], row["high"]))


def _gaps(comparison: pd.DataFrame, baseline: str, colours: Colours) -> list[Block]:
    """The figure of the differences from the baseline."""
    rows = comparison[
        (comparison["baseline"] == baseline)
        & comparison["attribute"].isin([MACRO, MACRO_RARE])
        & comparison["metric"].isin(list(_GAPS))
    ].dropna(subset="difference")
    if rows.empty:
        return []
    panels = {MACRO: "all attributes", MACRO_RARE: "rare attributes"}
    shown = {title: rows[rows["attribute"] == mean] for mean, title in panels.items()}
    plot = gaps_plot({k: v for k, v in shown.items() if len(v)}, _GAPS, colours)
    arms = listed(list(dict.fromkeys(rows["arm"])))
    label = f"Differences of {arms} from {baseline}; numbers in the table below"
    text = (
        f"Score of each arm minus that of {baseline}, paired by seed and test image, with its 95 % "
        "interval; filled where this excludes 0. A gain in F1 at 0.5 that is missing in the other "
        "two rows is a shift of the prior: the arm calls what is rare present more often, without "
        "knowing it better."
    )
    columns: t.Columns = {
        "Arm": t.key("arm", colours),
        "Over": lambda row: panels[row["attribute"]],
        "Score": lambda row: _GAPS[row["metric"]],
        "Difference": ("difference", t.signed),
        "95 % interval": t.bounds,
    }
    numbers = Details("The numbers", [t.tabulate(rows, columns)])
    return [heading(f"Against {baseline}"), how(text), Figure(plot, label), numbers]


def _averagings(
    summary: pd.DataFrame, colours: Colours, published: Mapping[str, Mapping[str, float]]
) -> Details:
    """F1, precision and recall by all three means."""
    text = (
        "F1, precision and recall at 0.5 have three usual means: over images (scikit-learn’s "
        "“samples”; an image without any positive, labelled or predicted, counts 0), over all "
        "cells (“micro”) and over attributes (“macro”, as above)."
    )
    table = _table(summary, _AVERAGINGS, colours, {})
    if published:
        text += (
            " The paper does not say which it reports; its figures agree with a mean over images "
            "and with no mean over attributes, so they stand in the first three columns. They are "
            "of another data set: compare their direction only."
        )
    rows: list[list[Cell | str]] = [
        [Cell(name, "CelebA at 64 px, one run"), *(t.number(of.get(m, t.NAN)) for m in _AVERAGINGS)]
        for name, of in published.items()
    ]
    return Details(
        "F1, precision and recall, by the three means" + (" and the paper’s" * bool(published)),
        [how(text), Table(table.header, [*table.rows, *rows])],
    )
