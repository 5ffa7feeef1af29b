"""Audit of a study's predictions by group: rates, differences between groups, and their change.

Definitions are fairlearn's (https://fairlearn.org): selection rate, true and false positive rate
and F1 of a group; the demographic-parity difference is the range of the groups' selection rates,
the equalised-odds difference the larger of the ranges of their true and of their false positive
rates (both 0 at best, 1 at worst). The figures equal those of fairlearn's `MetricFrame`, which
takes 0.14 s for one attribute of one fit of 5,000 images, ten hours for 1,000 bootstrap draws of 3
arms, 3 seeds and 10 attributes; here all draws of all fits are a few matrix products, 0.7 s.

What rests on too few images is not estimable: NaN, never 0, and left out of the differences, which
say whom they leave out. The range of noisy rates is above 0 even where the groups are alike, so
judge by the paired change, not by whether a difference's interval excludes 0. Intervals are for
other seeds and other test images (see `classify.intervals`), each by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classify.groups import Cells, Grouping, divide
from classify.intervals import Floats, holm_within, mean_interval
from classify.resampling import (
    Counts,
    Thresholds,
    by_attribute,
    check_predictions,
    count,
    resample,
)

__all__ = ["BETWEEN", "COLUMNS", "WITHIN", "audit"]

WITHIN = ("selection_rate", "true_positive_rate", "false_positive_rate", "f1")
"""Metrics of a group."""
BETWEEN = ("demographic_parity_difference", "equalized_odds_difference", "worst_group_f1")
"""Metrics of a grouping."""
COLUMNS = (
    "arm", "baseline", "attribute", "grouping", "group", "metric", "value", "low", "high",
    "p_value", "p_holm", "n", "left_out",
)  # fmt: skip
_COMPARED = ((0,), (1, 2), (3,))
"""Which of `WITHIN` each of `BETWEEN` compares."""


def audit(
    labels: NDArray[np.float32],
    probabilities: Mapping[str, NDArray[np.float32]],
    groups: pd.DataFrame,
    attributes: Sequence[str],
    thresholds: Thresholds = 0.5,
    *,
    min_count: int = 30,
    baseline: str | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Figures by group of every arm and attribute, means over seeds.

    Args:
        labels: (N, A): 1, 0 or NaN, which counts nowhere.
        probabilities: Arm -> (S, N, A) in [0, 1], fits of the same seeds.
        groups: The N images' values, one column per way of dividing them, best among `GROUPS`; of
            several columns also their intersection. NaN belongs to no group. An attribute is not
            audited by a grouping it takes part in.
        attributes: The A names.
        thresholds: Probability from which on an attribute is predicted.
        min_count: Fewest images a figure may rest on: all of the group for its selection rate, the
            positives for true positive rate and F1, the negatives for the false positive rate.
        baseline: Arm from which the change of every other arm is told besides, paired by seed and
            by image.
        draws: Bootstrap draws of the test images.
        seed: Of the draws.

    Returns:
        Tidy rows with the columns `COLUMNS`. `baseline` is empty for an arm's own figures and names
        the baseline for a change. `group` is empty for `BETWEEN`, except that an arm's own
        `worst_group_f1` names the group whose F1 is lowest in the mean over seeds. `n` is the
        number of images a group's figure rests on, and of groups a figure between them compares;
        `left_out` names those that it could not ("; " between them). `low` and `high` bound a 95 %
        interval; NaN where nothing varied, so that none can be told, and for the change of one
        seed, which tells nothing of others, as in `compare_pairs`; one seed's own figures have
        intervals for other images only. `p_value` is of no change, `p_holm` adjusted over the
        attributes of one arm, group and metric; NaN for an arm's own.

    Raises:
        ValueError: Arrays that do not fit, an unknown baseline, or groups that do not divide.
    """
    check_predictions(labels, probabilities, attributes, baseline)
    if len(groups) != len(labels):
        raise ValueError(f"groups have {len(groups)} rows; give {len(labels)}, one per image")
    if min_count < 1:
        raise ValueError(f"min_count is {min_count}; give at least 1")
    arms, cells, weights = list(probabilities), divide(groups), resample(len(labels), draws, seed)
    parts = []
    for name, y, predicted in by_attribute(labels, probabilities, attributes, thresholds):
        counts = _count(weights, y, predicted, cells)
        for grouping in cells.groupings:
            if name not in grouping.columns:
                figures, keys = _figures(counts, grouping, min_count)
                rows = _rows(figures, keys, arms, baseline)
                parts.append(rows.assign(attribute=name, grouping=grouping.name))
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    rows = pd.concat(parts, ignore_index=True)
    is_change = rows["baseline"] != ""
    family = ["arm", "grouping", "group", "metric"]
    rows["p_holm"] = holm_within(rows[is_change], family) if is_change.any() else np.nan
    return rows[list(COLUMNS)]


def _count(
    weights: NDArray[np.float32],
    labels: NDArray[np.float32],
    predicted: NDArray[np.bool_],
    cells: Cells,
) -> Counts:
    """Counts (C, B, S, R) by cell, of predictions bool (S, R, N).

    The draws' weights stand for the images in the order of the cells: any order is as random.
    """
    labels, predicted = labels[cells.order], predicted[..., cells.order]
    bounds = zip(cells.bounds, cells.bounds[1:], strict=False)
    counted = [
        count(weights[:, start:stop], labels[start:stop], predicted[..., start:stop])
        for start, stop in bounds
    ]
    return Counts(*map(np.stack, zip(*counted, strict=True)))


def _figures(counts: Counts, grouping: Grouping, min_count: int) -> tuple[Floats, pd.DataFrame]:
    """All figures (B, S, R, K), NaN where not estimable, and `group, metric, n, left_out` of the K.

    First those of `WITHIN` of every group, then those of `BETWEEN`.
    """
    groups, members = list(grouping.members), np.stack(list(grouping.members.values()))
    by_group = Counts(*(np.tensordot(members.astype(float), field, axes=1) for field in counts))
    positives, negatives = by_group.positives[:, 0, 0, 0], by_group.negatives[:, 0, 0, 0]
    n = np.stack([positives + negatives, positives, negatives, positives], axis=1).astype(int)
    estimable = n >= min_count  # (G, 4)
    metrics = (Counts.selection_rate, Counts.true_positive_rate, Counts.false_positive_rate)
    rates = np.stack([metric(by_group) for metric in (*metrics, Counts.f1)], axis=-1)
    within = np.where(estimable[:, None, None, None], rates, np.nan)  # (G, B, S, R, 4)
    usable = np.stack([estimable[:, list(of)].all(axis=1) for of in _COMPARED])
    keys = pd.DataFrame(
        [(group, metric) for group in groups for metric in WITHIN] + [("", m) for m in BETWEEN],
        columns=["group", "metric"],
    )
    keys["n"] = [*n.ravel(), *usable.sum(axis=1)]
    names = np.array(groups)
    keys["left_out"] = [""] * n.size + ["; ".join(names[~row]) for row in usable]
    flat = np.moveaxis(within, 0, -2).reshape(*within.shape[1:4], -1)
    return np.concatenate([flat, _between(within)], axis=-1), keys


def _between(within: Floats) -> Floats:
    """Figures `BETWEEN` (B, S, R, 3) of those `WITHIN` (G, B, S, R, 4); NaN where fewer than two
    groups can be told.
    """
    there = ~np.isnan(within)
    several = there.sum(axis=0) > 1
    lowest = np.where(several, np.where(there, within, np.inf).min(axis=0), np.nan)
    highest = np.where(several, np.where(there, within, -np.inf).max(axis=0), np.nan)
    parity, true_positives, false_positives, _ = np.moveaxis(highest - lowest, -1, 0)
    odds = np.maximum(true_positives, false_positives)  # NaN if either is
    return np.stack([parity, odds, lowest[..., -1]], axis=-1)


def _rows(
    figures: Floats, keys: pd.DataFrame, arms: Sequence[str], baseline: str | None
) -> pd.DataFrame:
    """An arm's own figures, then the changes from the baseline."""
    own = _told(figures, keys, arms, lowest=0.0).assign(baseline="", p_value=np.nan)
    for arm in arms:
        f1 = own[(own["arm"] == arm) & (own["metric"] == "f1")].dropna(subset="value")
        if len(f1) > 1:
            is_worst = (own["arm"] == arm) & (own["metric"] == "worst_group_f1")
            lowest = f1.sort_values("value", kind="stable")["group"].iloc[0]
            own["group"] = own["group"].mask(is_worst, lowest)
    if baseline is None:
        return own
    at = arms.index(baseline)
    changes = np.delete(figures - figures[:, :, [at]], at, axis=2)
    rows = _told(changes, keys, [arm for arm in arms if arm != baseline], lowest=-1.0)
    if figures.shape[1] == 1:
        rows[["low", "high", "p_value"]] = np.nan  # one seed tells nothing of others
    return pd.concat([own, rows.assign(baseline=baseline)])


def _told(figures: Floats, keys: pd.DataFrame, arms: Sequence[str], lowest: float) -> pd.DataFrame:
    """Means over seeds, none below `lowest`, and their intervals, of figures (B, S, R, K)."""
    interval = mean_interval(figures[0], figures[1:])
    varied = interval.high > interval.low
    rows = pd.concat([keys.assign(arm=arm) for arm in arms], ignore_index=True)
    return rows.assign(
        value=interval.estimate.ravel(),
        low=np.where(varied, interval.low.clip(lowest, 1), np.nan).ravel(),
        high=np.where(varied, interval.high.clip(lowest, 1), np.nan).ravel(),
        p_value=np.where(varied, interval.p_value, np.nan).ravel(),
    )
