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

Thresholds that were fitted on val belong to a fit as its weights do: what they vary by from seed to
seed is in the interval, what another val split would change is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from classify.intervals import LEVEL, holm_within, mean_interval
from classify.metrics import (
    AVERAGE_PRECISION,
    FITTED_F1,
    MACRO,
    MACRO_COMMON,
    MACRO_RARE,
    MEANS,
    METRICS,
    MICRO,
    RARE,
    SAMPLES,
)
from classify.progress import progress
from classify.resampling import (
    Floats,
    Thresholds,
    average_precision,
    check_predictions,
    count,
    ratio,
    resample,
    threshold_of,
)

__all__ = ["PRIOR_SHIFT", "compare_pairs", "count_scored", "pairs_with", "summarise"]

PRIOR_SHIFT = "prior_shift"
"""Metric of a comparison: what of the difference in F1 at 0.5 is gone at fitted thresholds."""
Fitted = Mapping[str, NDArray[np.float32]]
"""Arm -> (S, A), thresholds of each fit; of `Predictions.best_thresholds` on val."""
_COLUMNS = (
    "arm", "baseline", "attribute", "metric", "difference", "low", "high", "p_value", "p_holm",
    "verdict", "n_seeds",
)  # fmt: skip
_METRICS = (*METRICS, AVERAGE_PRECISION, FITTED_F1, PRIOR_SHIFT)
_NONE = "no evidence of gain"
_SUFFIXES = {
    MACRO: "", MACRO_RARE: "_rare", MACRO_COMMON: "_common", MICRO: "_micro", SAMPLES: "_samples"
}  # fmt: skip
"""What the summary calls the metrics of a mean."""


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean scores on test by arm, with 95 % Student-t intervals over seeds.

    The intervals are about other seeds on these very test images; one seed has none (NaN).

    Returns:
        Columns `arm, metric, mean, low, high, n_seeds`. Metrics of the macro mean have their own
        name, those of another mean it and `_micro`, `_samples`, `_rare` or `_common`.
    """
    test = scores[(scores["split"] == "test") & scores["attribute"].isin(MEANS)]
    test = test.assign(metric=test["metric"] + test["attribute"].map(_SUFFIXES))
    groups = test.groupby(["arm", "metric"], sort=False)["value"]
    result = groups.agg(mean="mean", n_seeds="count").reset_index()
    half = groups.sem().to_numpy() * stats.t.ppf(1 - LEVEL / 2, result["n_seeds"] - 1)
    result["low"] = (result["mean"] - half).clip(lower=0)
    result["high"] = (result["mean"] + half).clip(upper=1)
    arms = list(dict.fromkeys(test["arm"]))
    result = result.sort_values("arm", key=lambda arm: arm.map(arms.index), kind="stable")
    return result[["arm", "metric", "mean", "low", "high", "n_seeds"]].reset_index(drop=True)


def count_scored(scores: pd.DataFrame) -> int:
    """Over how many attributes the macro scores on test are means."""
    test = scores[(scores["split"] == "test") & ~scores["attribute"].isin(MEANS)]
    return int(test.loc[test["value"].notna(), "attribute"].nunique())


def pairs_with(baseline: str, arms: Iterable[str]) -> list[tuple[str, str]]:
    """Every other arm and the baseline, as `compare_pairs` takes them."""
    return [(arm, baseline) for arm in arms if arm != baseline]


def compare_pairs(
    labels: NDArray[np.float32],
    probabilities: Mapping[str, NDArray[np.float32]],
    attributes: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    thresholds: Thresholds = 0.5,
    *,
    fitted: Fitted | None = None,
    shares: Mapping[str, float] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Differences between arms on the test images.

    Args:
        labels: (N, A): 1, 0 or NaN, which counts nowhere.
        probabilities: Arm -> (S, N, A) in [0, 1], fits of the same seeds.
        attributes: The A names.
        pairs: (arm, baseline), the arm that is subtracted.
        thresholds: Probability from which on an attribute is predicted.
        fitted: Thresholds of every fit, fitted on val; adds F1 at these.
        shares: Attribute -> share of positives in [0, 1], best among the real training images; adds
            the means over rare and over common attributes.
        draws: Bootstrap draws of the test images.
        seed: Of the draws.

    Returns:
        Tidy rows, one per combination of pair, attribute (or `macro`, and with shares `macro, rare`
        and `macro, common`) and metric, columns `arm, baseline, attribute, metric, difference, low,
        high, p_value, p_holm, verdict, n_seeds`. Metrics are `f1`, `precision`, `recall`,
        `average_precision` and, with `fitted`, `f1_fitted` and `prior_shift`: how much of the
        difference in F1 is not there at fitted thresholds. Intervals are 95 %, each by itself.
        `p_holm` is adjusted over the attributes of one pair and metric, NaN for the means.
        `verdict` is `gain`, `loss` or `no evidence of gain`: for an attribute by `p_holm`, for a
        mean by its interval. One seed has neither interval nor p (NaN), so no evidence; so does an
        attribute with one value only, which no mean counts.

    Raises:
        ValueError: An arm that there is not, nothing to compare, an attribute without a share, or
            arrays that do not fit.
    """
    _check(labels, probabilities, attributes, pairs, shares, fitted)
    weights, arms = resample(len(labels), draws, seed), list(probabilities)
    by_image = np.ascontiguousarray(weights.T)
    ahead, behind = ([arms.index(arm) for arm in side] for side in zip(*pairs, strict=True))
    of = _members(attributes, shares)
    means, parts = {mean: _Mean() for mean in of}, []
    bar = progress(attributes, "comparing", unit="attribute")
    for column, name in enumerate(bar):
        p = np.stack([values[..., column] for values in probabilities.values()], axis=1)
        scores = _scores(weights, by_image, labels[:, column], p, threshold_of(name, thresholds))
        if fitted is not None:
            limits = np.stack([fitted[arm][:, column] for arm in arms], axis=1)
            scores = _with_fitted(scores, weights, labels[:, column], p >= limits[..., None])
        differences = scores[:, :, ahead] - scores[:, :, behind]
        for mean in (mean for mean, members in of.items() if name in members):
            means[mean].add(differences)
        parts.append(_rows(differences, name, pairs))
    parts += [_rows(mean.differences(), name, pairs) for name, mean in means.items()]
    rows = pd.concat(parts).sort_values("pair", kind="stable", ignore_index=True)
    rows["n_seeds"] = len(probabilities[arms[0]])
    return _judged(rows, rows["attribute"].isin(MEANS))


def _check(
    labels: NDArray[np.float32],
    probabilities: Mapping[str, NDArray[np.float32]],
    attributes: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    shares: Mapping[str, float] | None,
    fitted: Fitted | None,
) -> None:
    for arm in {arm: None for pair in pairs for arm in pair} or [None]:
        check_predictions(labels, probabilities, attributes, arm)
    if not pairs:
        arms = list(probabilities)
        only = f"arm {arms[0]} is the only one" if len(arms) == 1 else "no pair is given"
        raise ValueError(f"{only}; give another one to compare it with")
    if shares is not None and (unknown := [name for name in attributes if name not in shares]):
        raise ValueError(f"shares has none for {unknown[0]}; give one for every attribute")
    if fitted is None:
        return
    for arm, values in probabilities.items():
        wanted, got = (len(values), len(attributes)), fitted[arm].shape if arm in fitted else ()
        if got != wanted:
            raise ValueError(
                f"fitted thresholds of arm {arm} have shape {got}; give {wanted}, one per fit and "
                "attribute"
            )


def _members(
    attributes: Sequence[str], shares: Mapping[str, float] | None
) -> dict[str, Sequence[str]]:
    """Mean -> the attributes it is over."""
    if shares is None:
        return {MACRO: attributes}
    rare = [name for name in attributes if shares[name] < RARE]
    common = [name for name in attributes if shares[name] >= RARE]
    return {MACRO: attributes, MACRO_RARE: rare, MACRO_COMMON: common}


@dataclass
class _Mean:
    """Mean over attributes, draw by draw; NaN is left out."""

    total: Floats | float = 0.0
    n: Floats | float = 0.0

    def add(self, values: Floats) -> None:
        self.total = self.total + np.nan_to_num(values)
        self.n = self.n + ~np.isnan(values)

    def differences(self) -> Floats | None:
        """None of no attribute."""
        total, n = np.asarray(self.total), np.asarray(self.n)
        return ratio(total, n, n) if total.ndim else None


def _scores(
    weights: NDArray[np.float32],
    by_image: NDArray[np.float32],
    labels: NDArray[np.float32],
    p: NDArray[np.float32],
    threshold: float,
) -> Floats:
    """F1, precision, recall and average precision, float64 (B, S, R, 4), of probabilities p
    (S, R, N); `by_image` are the weights (B, N) turned over.
    """
    counts = count(weights, labels, p >= threshold)
    found = [counts.f1(), counts.precision(), counts.true_positive_rate()]
    fits = [average_precision(by_image, labels, one) for one in p.reshape(-1, p.shape[-1])]
    scores = np.stack([*found, np.stack(fits, axis=1).reshape(found[0].shape)], axis=-1)
    scores[counts.negatives[:, 0, 0] == 0] = np.nan  # as `attribute_scores`: not to be judged
    return scores


def _with_fitted(
    scores: Floats,
    weights: NDArray[np.float32],
    labels: NDArray[np.float32],
    predicted: NDArray[np.bool_],
) -> Floats:
    """The scores, then F1 of predictions at fitted thresholds, bool (S, R, N), and F1 less it."""
    f1 = scores[..., 0]
    fitted = np.where(np.isnan(f1), np.nan, count(weights, labels, predicted).f1())
    return np.concatenate([scores, np.stack([fitted, f1 - fitted], axis=-1)], axis=-1)


def _rows(
    differences: Floats | None, attribute: str, pairs: Sequence[tuple[str, str]]
) -> pd.DataFrame:
    """One row per pair and metric, of differences (1 + draws, S, pairs, M), first the sample's."""
    metrics = _METRICS if differences is None else _METRICS[: differences.shape[-1]]
    keys = [
        (number, *pair, attribute, metric)
        for number, pair in enumerate(pairs)
        for metric in metrics
    ]
    rows = pd.DataFrame(keys, columns=["pair", "arm", "baseline", "attribute", "metric"])
    rows[["difference", "low", "high", "p_value"]] = np.nan
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
    rows["p_holm"] = holm_within(rows[~is_mean], ["arm", "baseline", "metric"])
    certain = rows["p_value"].where(is_mean, rows["p_holm"]) < LEVEL
    sign = np.sign(rows["difference"])
    rows["verdict"] = np.select(
        [certain & (sign > 0), certain & (sign < 0)], ["gain", "loss"], _NONE
    )
    return rows[list(_COLUMNS)]
