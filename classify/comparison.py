"""Predictions of a study -> means by arm, paired differences, their intervals and a verdict.

Differences are paired by seed and by test image: both arms of a pair start from the same weights,
and every bootstrap draw of the images is the same for all arms, seeds and attributes. How the
interval is made of both, and why not by resampling the seeds, stands in `classify.intervals`.

Coverage of the nominal 95 % interval of the difference in macro F1 over 1,000 simulated studies of
400 test images (`tests/test_classify_intervals.py`); what most of the noise comes from:

    seeds   difference   the seeds   the images   each
    3       none         95.0        96.5         95.5
    3       0.05, 0.10   93.8        96.5         95.5
    5       none         95.0        95.5         95.1
    5       0.05, 0.10   93.5        95.6         95.4

Where there is no difference, it is also how often the verdict is "no evidence of gain".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from classify.intervals import LEVEL, holm, mean_interval
from classify.metrics import MACRO
from classify.resampling import (
    Floats,
    Thresholds,
    check_predictions,
    count,
    resample,
    threshold_of,
)

__all__ = ["MACRO_COMMON", "MACRO_RARE", "RARE", "compare", "count_scored", "summarise"]

RARE = 0.05
"""An attribute is rare where its share of positives is below this."""
MACRO_RARE, MACRO_COMMON = "macro, rare", "macro, common"
"""The `attribute` of a mean over the rare ones, and over the others."""
_METRICS = ("f1", "precision", "recall")
_NONE = "no evidence of gain"


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Macro scores on test by arm, with 95 % Student-t intervals over seeds.

    The intervals are about other seeds on these very test images; one seed has none (NaN).

    Returns:
        Columns `arm, metric, mean, low, high, n_seeds`.
    """
    test = scores[(scores["split"] == "test") & (scores["attribute"] == MACRO)]
    groups = test.groupby(["arm", "metric"], sort=False)["value"]
    result = groups.agg(mean="mean", n_seeds="count").reset_index()
    half = groups.sem().to_numpy() * stats.t.ppf(1 - LEVEL / 2, result["n_seeds"] - 1)
    result["low"] = (result["mean"] - half).clip(lower=0)
    result["high"] = (result["mean"] + half).clip(upper=1)
    return result[["arm", "metric", "mean", "low", "high", "n_seeds"]]


def count_scored(scores: pd.DataFrame) -> int:
    """Over how many attributes the macro scores on test are means."""
    test = scores[(scores["split"] == "test") & (scores["attribute"] != MACRO)]
    return int(test.loc[test["value"].notna(), "attribute"].nunique())


def compare(
    labels: NDArray[np.float32],
    probabilities: Mapping[str, NDArray[np.float32]],
    attributes: Sequence[str],
    baseline: str,
    thresholds: Thresholds = 0.5,
    *,
    shares: Mapping[str, float] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Differences of every other arm from the baseline on the test images.

    Args:
        labels: (N, A): 1, 0 or NaN, which counts nowhere.
        probabilities: Arm -> (S, N, A) in [0, 1], fits of the same seeds.
        attributes: The A names.
        baseline: The arm that is subtracted.
        thresholds: Probability from which on an attribute is predicted.
        shares: Attribute -> share of positives in [0, 1], best among the real training images; adds
            the means over rare and over common attributes.
        draws: Bootstrap draws of the test images.
        seed: Of the draws.

    Returns:
        Tidy rows, one a combination of arm, attribute (or `macro`, and with shares `macro, rare`
        and `macro, common`) and metric (`f1`, `precision`, `recall`), columns
        `arm, baseline, attribute, metric, difference, low, high, p_value, p_holm, verdict,
        n_seeds`. Intervals are 95 %, each by itself. `p_holm` is adjusted over the attributes of
        one arm and metric, NaN for the means. `verdict` is `gain`, `loss` or `no evidence of gain`:
        for an attribute by `p_holm`, for a mean by its interval. One seed has neither interval nor
        p (NaN), so no evidence; so does an attribute with one value only, which no mean counts.

    Raises:
        ValueError: No such baseline, nothing to compare it with, an attribute without a share, or
            arrays that do not fit.
    """
    check_predictions(labels, probabilities, attributes)
    others = _others(list(probabilities), baseline)
    if shares is not None and (unknown := [name for name in attributes if name not in shares]):
        raise ValueError(f"shares: got none for {unknown[0]}, give one for every attribute")
    weights = resample(len(labels), draws, seed)
    means = {MACRO: _Mean()}
    if shares is not None:
        means |= {MACRO_RARE: _Mean(), MACRO_COMMON: _Mean()}
    parts = []
    for column, name in enumerate(attributes):
        limit = threshold_of(thresholds, name)
        predicted = {arm: values[..., column] >= limit for arm, values in probabilities.items()}
        minuend = np.stack([predicted[arm] for arm in others], axis=1)
        differences = _scores(weights, labels[:, column], minuend)
        differences -= _scores(weights, labels[:, column], predicted[baseline][:, None])
        means[MACRO].add(differences)
        if shares is not None:
            means[MACRO_RARE if shares[name] < RARE else MACRO_COMMON].add(differences)
        parts.append(_rows(differences, name, others))
    rows = pd.concat([*parts, *(_rows(mean.value(), name, others) for name, mean in means.items())])
    rows.insert(1, "baseline", baseline)
    rows = rows.assign(p_holm=np.nan, n_seeds=len(next(iter(probabilities.values()))))
    return _judged(rows.reset_index(drop=True), list(means))


class _Mean:
    """Mean over attributes, one after the other; NaN is left out, draw by draw."""

    def __init__(self) -> None:
        self._sum: Floats | float = 0.0
        self._n: NDArray[np.int64] | int = 0

    def add(self, values: Floats) -> None:
        self._sum = self._sum + np.nan_to_num(values)
        self._n = self._n + ~np.isnan(values)

    def value(self) -> Floats | None:
        """None if nothing was added."""
        if isinstance(self._n, int):
            return None
        mean: Floats = np.full(self._n.shape, np.nan)
        np.divide(self._sum, self._n, out=mean, where=self._n > 0)
        return mean


def _others(arms: Sequence[str], baseline: str) -> list[str]:
    if baseline not in arms:
        raise ValueError(
            f"baseline: got {baseline!r}, the arms are {', '.join(arms)}: name one of them"
        )
    if len(arms) == 1:
        raise ValueError(f"got the arm {baseline} only: a comparison needs another one")
    return [arm for arm in arms if arm != baseline]


def _scores(
    weights: NDArray[np.float32], labels: NDArray[np.float32], predicted: NDArray[np.bool_]
) -> Floats:
    """F1, precision and recall, float64 (B, S, arms, 3), of predictions bool (S, arms, N)."""
    counts = count(weights, labels, predicted)
    scores = np.stack([counts.f1(), counts.precision(), counts.true_positive_rate()], axis=-1)
    scores[counts.negatives[:, 0, 0] == 0] = np.nan  # as `attribute_scores`: not to be judged
    return scores


def _rows(differences: Floats | None, attribute: str, arms: Sequence[str]) -> pd.DataFrame:
    """One row an arm and metric, of differences (1 + draws, S, arms, 3), first the sample's."""
    columns = ["difference", "low", "high", "p_value"]
    if differences is None:
        values = np.full((len(arms) * len(_METRICS), len(columns)), np.nan)
    else:
        interval = mean_interval(differences[0], differences[1:])
        low, high = interval.low.clip(-1, 1), interval.high.clip(-1, 1)  # no score outside [0, 1]
        values = np.stack([interval.estimate, low, high, interval.p_value], axis=-1)
        values = values.reshape(-1, len(columns))
        if differences.shape[1] == 1:
            values[:, 1:] = np.nan  # one seed tells nothing of others
    rows = pd.DataFrame(values, columns=columns)
    pairs = [(arm, attribute, metric) for arm in arms for metric in _METRICS]
    keys = pd.DataFrame(pairs, columns=["arm", "attribute", "metric"])
    return pd.concat([keys, rows], axis=1)


def _judged(rows: pd.DataFrame, means: Sequence[str]) -> pd.DataFrame:
    """Adjust the attributes' p-values and give every row its verdict."""
    by_attribute = rows[~rows["attribute"].isin(means)]
    for _, family in by_attribute.groupby(["arm", "metric"]):
        rows.loc[family.index, "p_holm"] = holm(family["p_value"].to_numpy(float))
    deciding = rows["p_value"].where(rows["attribute"].isin(means), rows["p_holm"])
    certain, sign = deciding < LEVEL, np.sign(rows["difference"])
    verdict = np.select([certain & (sign > 0), certain & (sign < 0)], ["gain", "loss"], _NONE)
    columns = ["arm", "baseline", "attribute", "metric", "difference", "low", "high"]
    return rows.assign(verdict=verdict)[[*columns, "p_value", "p_holm", "verdict", "n_seeds"]]
