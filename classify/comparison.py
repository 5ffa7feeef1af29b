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

from classify.intervals import LEVEL, holm_within, mean_interval
from classify.metrics import MACRO, MACRO_COMMON, MACRO_RARE
from classify.resampling import (
    Floats,
    Thresholds,
    by_attribute,
    check_predictions,
    count,
    ratio,
    resample,
)

__all__ = ["MACRO_COMMON", "MACRO_RARE", "RARE", "compare", "count_scored", "summarise"]

RARE = 0.05
"""An attribute is rare where its share of positives is below this."""
_COLUMNS = (
    "arm", "baseline", "attribute", "metric", "difference", "low", "high", "p_value", "p_holm",
    "verdict", "n_seeds",
)  # fmt: skip
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
    check_predictions(labels, probabilities, attributes, baseline)
    arms = list(probabilities)
    if len(arms) == 1:
        raise ValueError(f"arm {baseline} is the only one; give another one to compare it with")
    if shares is not None and (unknown := [name for name in attributes if name not in shares]):
        raise ValueError(f"shares has none for {unknown[0]}; give one for every attribute")
    weights, at = resample(len(labels), draws, seed), arms.index(baseline)
    differences: dict[str, Floats] = {}
    for name, y, predicted in by_attribute(labels, probabilities, attributes, thresholds):
        scores = _scores(weights, y, predicted)
        differences[name] = np.delete(scores - scores[:, :, [at]], at, axis=2)
    members = {MACRO: list(attributes)}
    if shares is not None:
        members[MACRO_RARE] = [name for name in attributes if shares[name] < RARE]
        members[MACRO_COMMON] = [name for name in attributes if shares[name] >= RARE]
    means = {mean: _mean([differences[name] for name in of]) for mean, of in members.items()}
    others = arms[:at] + arms[at + 1 :]
    told = {**differences, **means}
    rows = pd.concat([_rows(values, name, others) for name, values in told.items()])
    n_seeds = len(probabilities[baseline])
    rows = rows.reset_index(drop=True).assign(baseline=baseline, n_seeds=n_seeds)
    return _judged(rows, rows["attribute"].isin(list(means)))


def _mean(values: Sequence[Floats]) -> Floats | None:
    """Mean over attributes, from which NaN is left out, draw by draw; None of no attribute."""
    if not values:
        return None
    total = sum(np.nan_to_num(one) for one in values)
    n = sum(~np.isnan(one) for one in values)
    return ratio(np.asarray(total), np.asarray(n), np.asarray(n))


def _scores(
    weights: NDArray[np.float32], labels: NDArray[np.float32], predicted: NDArray[np.bool_]
) -> Floats:
    """F1, precision and recall, float64 (B, S, R, 3), of predictions bool (S, R, N)."""
    counts = count(weights, labels, predicted)
    scores = np.stack([counts.f1(), counts.precision(), counts.true_positive_rate()], axis=-1)
    scores[counts.negatives[:, 0, 0] == 0] = np.nan  # as `attribute_scores`: not to be judged
    return scores


def _rows(differences: Floats | None, attribute: str, arms: Sequence[str]) -> pd.DataFrame:
    """One row an arm and metric, of differences (1 + draws, S, arms, 3), first the sample's."""
    keys = [(arm, attribute, metric) for arm in arms for metric in _METRICS]
    rows = pd.DataFrame(keys, columns=["arm", "attribute", "metric"])
    columns = ["difference", "low", "high", "p_value"]
    rows[columns] = np.nan
    if differences is None:
        return rows
    interval = mean_interval(differences[0], differences[1:])
    rows["difference"] = interval.estimate.ravel()
    if differences.shape[1] > 1:  # one seed tells nothing of others
        rows["low"] = interval.low.clip(-1, 1).ravel()  # no score lies outside [0, 1]
        rows["high"] = interval.high.clip(-1, 1).ravel()
        rows["p_value"] = interval.p_value.ravel()
    return rows


def _judged(rows: pd.DataFrame, is_mean: pd.Series) -> pd.DataFrame:
    """Adjust the attributes' p-values and give every row its verdict."""
    rows["p_holm"] = holm_within(rows[~is_mean], ["arm", "metric"])
    certain = rows["p_value"].where(is_mean, rows["p_holm"]) < LEVEL
    sign = np.sign(rows["difference"])
    rows["verdict"] = np.select(
        [certain & (sign > 0), certain & (sign < 0)], ["gain", "loss"], _NONE
    )
    return rows[list(_COLUMNS)]
