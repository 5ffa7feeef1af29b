"""The differences' part of a report: attribute by attribute, rare and common ones apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from classify.comparison import MACRO_COMMON, MACRO_RARE, RARE
from classify.intervals import LEVEL
from classify.report.figures import forest_plot
from classify.report.order import ordered
from classify.report.quality_view import ALL
from classify.report.report import Report
from classify.report.text import interval, number, percent
from classify.report.verdict import MACRO

__all__ = ["apart_view", "forest_views"]

_APART = {MACRO_RARE: f"rare, below {100 * RARE:g} %", MACRO_COMMON: "common"}
"""The means over some attributes, and what the page calls these."""


def forest_views(
    report: Report, colours: Mapping[str, int], shares: pd.Series[float] | None
) -> list[dict[str, Any]]:
    """A forest plot of F1 a baseline, its numbers, and how many differences are certain.

    Returns:
        Of each baseline that has any difference `baseline`, `figure`, `n` attributes, of which
        `above` and `below` have intervals beside 0, `after_holm` (None without adjusted p) and
        `rows`: attribute, difference, interval, share of wrong labels.
    """
    if report.comparisons is None:
        return []
    chosen = _of_arm(report, report.comparisons)
    chosen = chosen[~chosen["attribute"].isin((MACRO, *_APART))]
    errors = _label_errors(report.label_quality)
    forests = []
    for baseline, rows in chosen.groupby("baseline", sort=False):
        columns = ["difference", "low", "high"]
        table = ordered(rows.set_index("attribute")[columns], shares).dropna(subset="difference")
        if table.empty:
            continue
        label = f"F1 of {report.arm} minus F1 of {baseline}"
        colour = colours.get(report.arm, 0)
        forests.append(
            {
                "baseline": baseline,
                "figure": forest_plot(table, colour, label=label, shares=shares),
                "n": len(table),
                "after_holm": None if "p_holm" not in rows else int((rows["p_holm"] < LEVEL).sum()),
                "above": int((table["low"] > 0).sum()),
                "below": int((table["high"] < 0).sum()),
                "rows": _numbers(table, errors.reindex(table.index)),
            }
        )
    return forests


def apart_view(report: Report) -> list[tuple[str, str, str, str]]:
    """The mean differences of rare and of common attributes: baseline, kind, mean, interval."""
    if report.comparisons is None:
        return []
    rows = _of_arm(report, report.comparisons)
    rows = rows[rows["attribute"].isin(_APART)].dropna(subset="difference")
    return [
        (
            str(row["baseline"]),
            _APART[str(row["attribute"])],
            number(row["difference"], signed=True),
            interval(row["low"], row["high"], signed=True),
        )
        for row in rows.to_dict("records")
    ]


def _of_arm(report: Report, comparisons: pd.DataFrame) -> pd.DataFrame:
    return comparisons[(comparisons["arm"] == report.arm) & (comparisons["metric"] == "f1")]


def _numbers(table: pd.DataFrame, errors: pd.Series[float]) -> list[tuple[str, str, str, str]]:
    return [
        (
            str(name),
            number(row["difference"], signed=True),
            interval(row["low"], row["high"], signed=True),
            percent(error),
        )
        for name, row, error in zip(table.index, table.to_dict("records"), errors, strict=True)
    ]


def _label_errors(quality: pd.DataFrame | None) -> pd.Series[float]:
    """The labeler's share of wrong labels by attribute, on all rows."""
    if quality is None:
        return pd.Series(dtype=float)
    return quality[quality["group"] == ALL].set_index("attribute")["error"]
