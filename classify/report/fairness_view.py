"""The audit's part of a report: differences between groups before and after, and the groups."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd

from classify.fairness import BETWEEN
from classify.intervals import LEVEL
from classify.report.text import NOTHING, interval, number, percent

__all__ = ["audit_view", "composition_view"]

_NAMES = {
    "demographic_parity_difference": "Demographic parity difference",
    "equalized_odds_difference": "Equalised odds difference",
    "worst_group_f1": "F1 of the worst group",
}
_SHOWN = 8


def audit_view(audit: pd.DataFrame, arm: str) -> dict[str, Any]:
    """What the page shows of the audit of one arm and its baseline.

    Returns:
        `means`: a row a grouping and metric, the mean over attributes before and after, and on how
        many attributes it rests; `changes`: the attributes whose change is certain, or else the
        largest ones; `certain`: how many are; `judged`: of how many; `left_out`: groups too small
        to judge, with the number of attributes.
    """
    between = audit[audit["metric"].isin(BETWEEN)]
    changed = between[(between["arm"] == arm) & between["baseline"].ne("")]
    changed = changed.dropna(subset="value")
    certain = changed[changed["p_holm"] < LEVEL]
    largest = changed.reindex(changed["value"].abs().sort_values(ascending=False).index)
    shown = (certain if len(certain) else largest).head(_SHOWN)
    return {
        "means": _means(between, changed, arm),
        "changes": [
            [
                str(row["attribute"]),
                str(row["grouping"]),
                _NAMES[str(row["metric"])],
                number(row["value"], signed=True),
                interval(row["low"], row["high"], signed=True),
            ]
            for row in shown.to_dict("records")
        ],
        "certain": len(certain),
        "judged": len(changed),
        "left_out": _left_out(audit, arm),
    }


def _means(between: pd.DataFrame, changed: pd.DataFrame, arm: str) -> list[list[str]]:
    """Means over the attributes for which the change can be told."""
    keys = ["grouping", "metric"]
    own = between[between["baseline"] == ""]
    rows = []
    # An attribute is not audited by itself, so the first ones may lack a grouping.
    there = dict(iter(changed.groupby(keys)))
    groupings = sorted(changed["grouping"].unique(), key=lambda name: (name.count(" x "), name))
    for grouping, metric in itertools.product(groupings, BETWEEN):
        if (grouping, metric) not in there:
            continue
        cell = there[grouping, metric]
        named = own[(own["grouping"] == grouping) & (own["metric"] == metric)]
        named = named[named["attribute"].isin(cell["attribute"])]
        after = named.loc[named["arm"] == arm, "value"].mean()
        before = named.loc[named["arm"] != arm, "value"].mean()
        figures = [number(before), number(after), number(after - before, signed=True)]
        rows.append([str(grouping), _NAMES[str(metric)], *figures, str(len(cell))])
    return rows


def _left_out(audit: pd.DataFrame, arm: str) -> list[tuple[str, int]]:
    """Groups too small for an equalised odds difference, by how many attributes."""
    rows = audit[
        (audit["arm"] == arm)
        & audit["baseline"].eq("")
        & audit["metric"].eq("equalized_odds_difference")
    ]
    groups = rows["left_out"].replace("", pd.NA).dropna().str.split("; ").explode()
    return [(str(group), int(count)) for group, count in groups.value_counts().items()]


def composition_view(composition: pd.DataFrame) -> dict[str, Any]:
    """Share of each group in each set: `sets`, and `rows` of a group with its shares."""
    table = composition.pivot_table(
        index="group", columns="set", values="share", sort=False, dropna=False
    )
    sets = list(dict.fromkeys(composition["set"]))
    return {
        "sets": sets,
        "rows": [
            [str(group), *(NOTHING if pd.isna(v) else percent(v) for v in row)]
            for group, row in zip(table.index, table[sets].to_numpy(float), strict=True)
        ],
    }
