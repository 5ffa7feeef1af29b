"""The verdict of a study: a word for each paired comparison."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

__all__ = ["Verdict", "judge", "verdicts"]

MACRO = "macro"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One arm against one baseline."""

    arm: str
    """The arm judged."""
    baseline: str
    """The arm it is compared with."""
    word: str
    """`gain`, `loss` or `no evidence of gain`."""
    difference: float
    """Mean over seeds of the paired difference, arm minus baseline."""
    low: float
    """Lower bound of the 95 % interval; NaN for one seed."""
    high: float
    """Upper bound of the 95 % interval; NaN for one seed."""
    n_seeds: int
    """Number of paired fits."""


def judge(low: float, high: float) -> str:
    """The word for an interval of the difference arm minus baseline.

    `gain` only where the whole interval is above 0 and `loss` where it is below; everything else,
    an interval that cannot be estimated (NaN) included, is `no evidence of gain`.
    """
    if low > 0:
        return "gain"
    if high < 0:
        return "loss"
    return "no evidence of gain"


def verdicts(comparisons: pd.DataFrame, arm: str, metric: str = "f1") -> list[Verdict]:
    """The verdicts on one arm's macro score, one a baseline, in the order of the table.

    Args:
        comparisons: columns `arm, baseline, attribute, metric, difference, low, high, n_seeds`.
        arm: the arm to judge.
        metric: the metric to judge it by.
    """
    rows = comparisons[
        (comparisons["arm"] == arm)
        & (comparisons["attribute"] == MACRO)
        & (comparisons["metric"] == metric)
    ]
    return [
        Verdict(
            arm=arm,
            baseline=str(row["baseline"]),
            word=judge(row["low"], row["high"]),
            difference=float(row["difference"]),
            low=float(row["low"]),
            high=float(row["high"]),
            n_seeds=int(row["n_seeds"]),
        )
        for row in rows.to_dict("records")
    ]
