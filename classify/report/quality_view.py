"""The labels' part of a report: how often the labeler is wrong, for which attributes and groups."""

from __future__ import annotations

from typing import Any

import pandas as pd

from classify.report.order import ordered
from classify.report.text import METRICS, number, percent

__all__ = ["ALL", "policy_view", "quality_view"]

ALL = "all"
"""The `group` of all rows together."""
_WORST = 8


def quality_view(
    quality: pd.DataFrame | None, shares: pd.Series[float] | None
) -> dict[str, Any] | None:
    """What the page shows of a labeler's quality; None without.

    Returns:
        `n` attributes that could be judged and `means` of their F1, precision and recall; `kept`,
        the share of cells that got a label; `worst` and `rows`: attribute and cells; `groups`: a
        row a group, over the `n_shared` attributes that could be judged in every group.
    """
    if quality is None:
        return None
    everyone = quality[quality["group"] == ALL].set_index("attribute")
    return {
        "n": int(everyone["f1"].notna().sum()),
        "means": [number(everyone[metric].mean()) for metric in METRICS],
        "error": percent(everyone["error"].mean()),
        "kept": percent(everyone["kept"].mean()),
        "worst": _rows(everyone.nsmallest(_WORST, "f1")),
        "rows": _rows(ordered(everyone, shares)),
        **_by_group(quality[quality["group"] != ALL]),
    }


def policy_view(policy: pd.DataFrame | None) -> list[tuple[str, list[str]]]:
    """Rows of attribute, thresholds, temperature, calibration error before and after, and kept."""
    if policy is None:
        return []
    figures = policy[["present", "absent", "temperature", "ece_before", "ece_after"]].astype(float)
    return [
        (str(name), [*map(number, row), percent(kept)])
        for name, row, kept in zip(
            policy.index, figures.to_numpy(float), policy["kept"].astype(float), strict=True
        )
    ]


def _rows(quality: pd.DataFrame) -> list[tuple[str, list[str]]]:
    return [
        (
            str(name),
            [*(number(row[m]) for m in METRICS), percent(row["error"]), percent(row["kept"])],
        )
        for name, row in zip(quality.index, quality.to_dict("records"), strict=True)
    ]


def _by_group(quality: pd.DataFrame) -> dict[str, Any]:
    """Means over the same attributes in every group: others would not be comparable."""
    f1 = quality.pivot_table(
        index="attribute", columns="group", values="f1", sort=False, dropna=False
    )
    shared = f1.dropna().index
    rows = quality[quality["attribute"].isin(shared)]
    means = rows.groupby("group", sort=False)[[*METRICS, "error", "kept"]].mean()
    return {"groups": _rows(means), "n_shared": len(shared)}
