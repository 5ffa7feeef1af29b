"""Scores of a study -> means, paired differences and their intervals over seeds.

All intervals are 95 % Student-t intervals over seeds; one seed has none (NaN). They measure the
variation from initial weights and order of the images, not that from the choice of test images.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from classify.metrics import MACRO

_CONFIDENCE = 0.95


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Macro scores on test by arm: columns `arm, metric, mean, low, high, n_seeds`."""
    test = scores[(scores["split"] == "test") & (scores["attribute"] == MACRO)]
    return _intervals(test, ["arm", "metric"], "value", "mean")


def compare(scores: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Differences of every other arm from the baseline on test, paired by seed.

    Returns:
        Columns `arm, baseline, attribute, metric, difference, low, high, n_seeds`; attribute
        `macro` for the means.

    Raises:
        ValueError: No such arm.
    """
    arms = list(scores["arm"].unique())
    if baseline not in arms:
        raise ValueError(
            f"baseline: got {baseline!r}, the arms are {', '.join(arms)}: name one of them"
        )
    test = scores[scores["split"] == "test"]
    keys = ["seed", "attribute", "metric"]
    reference = test.loc[test["arm"] == baseline, [*keys, "value"]]
    paired = test[test["arm"] != baseline].merge(reference, on=keys, suffixes=("", "_baseline"))
    paired["difference"] = paired["value"] - paired["value_baseline"]
    result = _intervals(paired, ["arm", "attribute", "metric"], "difference", "difference")
    result.insert(1, "baseline", baseline)
    return result


def count_scored(scores: pd.DataFrame) -> int:
    """Over how many attributes the macro scores on test are means."""
    test = scores[(scores["split"] == "test") & (scores["attribute"] != MACRO)]
    return int(test.loc[test["value"].notna(), "attribute"].nunique())


def _intervals(rows: pd.DataFrame, by: list[str], value: str, mean: str) -> pd.DataFrame:
    """Mean over seeds within each group, in order of appearance, and its interval."""
    groups = rows.groupby(by, sort=False)[value]
    result = groups.agg(["mean", "std", "count"]).reset_index()
    result.columns = pd.Index([*by, mean, "deviation", "n_seeds"])
    n = result["n_seeds"].to_numpy()
    several = n > 1
    degrees = np.where(several, n - 1, 1)
    half = (
        stats.t.ppf((1 + _CONFIDENCE) / 2, degrees)
        * result["deviation"]
        / np.sqrt(np.where(several, n, 1))
    )
    result["low"], result["high"] = result[mean] - half, result[mean] + half
    return result[[*by, mean, "low", "high", "n_seeds"]]
