"""Audit of a study's predictions by group: rates, differences between groups, and their change.

Definitions are fairlearn's (https://fairlearn.org): selection rate, true and false positive rate
and F1 of a group; the demographic-parity difference is the range of the groups' selection rates,
the equalised-odds difference the larger of the ranges of their true and of their false positive
rates (both 0 at best, 1 at worst). The figures equal those of fairlearn's `MetricFrame`
(`classify.audit_frames.metric_frame` makes one), which itself takes over a second for one attribute
of one fit of 20,000 images and would take days over 1,000 bootstrap draws of a study; here all
draws of all fits are a few matrix products.

What rests on too few images is not estimable: NaN, never 0, and left out of the differences, which
say whom they leave out. The range of noisy rates is above 0 even where the groups are alike, so
judge by the paired change, not by whether a difference's interval excludes 0. Intervals are for
other seeds and other test images (see `classify.intervals`), each by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classify.groups import Cells, Grouping, divide
from classify.intervals import Floats, holm, mean_interval
from classify.resampling import Counts, Thresholds, check_predictions, count, resample, threshold_of

__all__ = ["BETWEEN", "COLUMNS", "WITHIN", "audit"]

WITHIN = ("selection_rate", "true_positive_rate", "false_positive_rate", "f1")
"""Metrics of a group."""
BETWEEN = ("demographic_parity_difference", "equalized_odds_difference", "worst_group_f1")
"""Metrics of a grouping."""
COLUMNS = (
    "arm", "baseline", "attribute", "grouping", "group", "metric", "value", "low", "high",
    "p_value", "p_holm", "n", "left_out",
)  # fmt: skip
_SELECTION, _TPR, _FPR, _F1 = range(4)


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
        groups: The N images' values, a column a way of dividing them, best among `GROUPS`; of
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
        seed, which tells nothing of others, as in `compare`; one seed's own figures have intervals
        for other images only. `p_value` is of no change,
        `p_holm` adjusted over the attributes of one arm, group and metric; NaN for an arm's own.

    Raises:
        ValueError: Arrays that do not fit, an unknown baseline, or groups that do not divide.
    """
    check_predictions(labels, probabilities, attributes)
    arms = list(probabilities)
    _check(labels, groups, arms, min_count, baseline)
    cells = divide(groups)
    weights = resample(len(labels), draws, seed)
    parts = []
    for column, attribute in enumerate(attributes):
        limit = threshold_of(thresholds, attribute)
        predicted = np.stack([values[..., column] >= limit for values in probabilities.values()])
        counted = _count(weights, labels[:, column], predicted, cells)
        for grouping in cells.groupings:
            if attribute not in grouping.columns:
                rows = pd.concat(_tell(_Figures(grouping, counted, min_count), arms, baseline))
                parts.append(rows.assign(attribute=attribute, grouping=grouping.name))
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    return _adjust(pd.concat(parts, ignore_index=True))[list(COLUMNS)]


class _Figures:
    """All figures of one attribute and one grouping, by draw (B), seed (S) and arm (R)."""

    def __init__(self, grouping: Grouping, counted: Sequence[Counts], min_count: int) -> None:
        by_group = [_sum(counted, of) for of in grouping.members.values()]
        self.groups = list(grouping.members)
        self.n = np.stack([_support(counts) for counts in by_group])
        """(G, 4): images each figure rests on."""
        self.estimable = self.n >= max(min_count, 1)
        within = np.stack([_rates(counts) for counts in by_group], axis=-2)
        self.within = np.where(self.estimable, within, np.nan)
        """(B, S, R, G, 4)."""
        self.between = self._between()
        """(B, S, R, 3)."""

    def _between(self) -> Floats:
        lowest, highest = _extremes(self.within, self.estimable)
        spread = highest - lowest
        odds = np.maximum(spread[..., _TPR], spread[..., _FPR])  # NaN if either is
        return np.stack([spread[..., _SELECTION], odds, lowest[..., _F1]], axis=-1)

    def compared(self) -> tuple[list[int], list[str]]:
        """Of each figure between groups: how many it compares, and the names it leaves out."""
        needed = [(_SELECTION,), (_TPR, _FPR), (_F1,)]
        usable = np.stack([self.estimable[:, list(of)].all(axis=1) for of in needed])
        left_out = [
            "; ".join(group for group, there in zip(self.groups, row, strict=True) if not there)
            for row in usable
        ]
        return usable.sum(axis=1).tolist(), left_out

    def worst(self) -> list[str]:
        """By arm, the group of lowest F1 in the mean over seeds; empty where none can be told."""
        means = self.within[0, ..., _F1].mean(axis=0)  # (R, G)
        if self.estimable[:, _F1].sum() < 2:
            return [""] * len(means)
        return [self.groups[i] for i in np.nanargmin(means, axis=1)]


def _tell(figures: _Figures, arms: Sequence[str], baseline: str | None) -> Iterator[pd.DataFrame]:
    """An arm's own figures, then the changes."""
    within, between = figures.within, figures.between
    yield _rows(within, between, figures, arms).assign(baseline="", p_value=np.nan)
    if baseline is None:
        return
    at = arms.index(baseline)
    others = [i for i in range(len(arms)) if i != at]
    changes = [values[:, :, others] - values[:, :, [at]] for values in (within, between)]
    rows = _rows(changes[0], changes[1], figures, [arms[i] for i in others], change=True)
    yield rows.assign(baseline=baseline)


def _rows(
    within: Floats, between: Floats, figures: _Figures, arms: Sequence[str], *, change: bool = False
) -> pd.DataFrame:
    groups = [(group, metric) for group in figures.groups for metric in WITHIN]
    keys = pd.DataFrame(
        [(arm, *pair) for arm in arms for pair in [*groups, *(("", name) for name in BETWEEN)]],
        columns=["arm", "group", "metric"],
    )
    flat = within.reshape(*within.shape[:3], -1)
    values = np.concatenate([flat, between], axis=-1)  # (B, S, R, G * 4 + 3)
    n_compared, left_out = figures.compared()
    keys["n"] = np.tile(np.concatenate([figures.n.ravel(), n_compared]), len(arms)).astype(int)
    keys["left_out"] = ([""] * len(groups) + left_out) * len(arms)
    if not change:
        keys.loc[keys["metric"] == "worst_group_f1", "group"] = figures.worst()
    interval = mean_interval(values[0], values[1:])
    told = interval.high > interval.low
    if change and within.shape[1] == 1:
        told = np.zeros_like(told)  # one seed tells nothing of others
    lowest = -1.0 if change else 0.0
    return keys.assign(
        value=interval.estimate.ravel(),
        low=np.where(told, interval.low.clip(lowest, 1), np.nan).ravel(),
        high=np.where(told, interval.high.clip(lowest, 1), np.nan).ravel(),
        p_value=np.where(told, interval.p_value, np.nan).ravel(),
    )


def _adjust(rows: pd.DataFrame) -> pd.DataFrame:
    """Add `p_holm`."""
    rows["p_holm"] = np.nan
    changes = rows[rows["baseline"] != ""]
    for _, family in changes.groupby(["arm", "grouping", "group", "metric"], sort=False):
        rows.loc[family.index, "p_holm"] = holm(family["p_value"].to_numpy(float))
    return rows


def _count(
    weights: NDArray[np.float32],
    labels: NDArray[np.float32],
    predicted: NDArray[np.bool_],
    cells: Cells,
) -> list[Counts]:
    """Counts (B, S, R) of each cell, of predictions bool (R, S, N).

    The draws' weights stand for the images in the order of the cells: any order is as random.
    """
    labels, predicted = labels[cells.order], predicted.swapaxes(0, 1)[..., cells.order]
    slices = [
        slice(start, stop) for start, stop in zip(cells.bounds, cells.bounds[1:], strict=False)
    ]
    return [count(weights[:, of], labels[of], predicted[..., of]) for of in slices]


def _sum(counted: Sequence[Counts], members: NDArray[np.bool_]) -> Counts:
    chosen = [counts for counts, there in zip(counted, members, strict=True) if there]
    if not chosen:  # nobody is in this group
        return Counts(*(np.zeros_like(field) for field in counted[0]))
    return Counts(*(np.sum(fields, axis=0) for fields in zip(*chosen, strict=True)))


def _support(counts: Counts) -> Floats:
    """(4,): images that each of `WITHIN` rests on in the sample itself."""
    positives, negatives = counts.positives[0].item(), counts.negatives[0].item()
    return np.array([positives + negatives, positives, negatives, positives])


def _rates(counts: Counts) -> Floats:
    """(B, S, R, 4), as `WITHIN`."""
    of = Counts
    metrics = (of.selection_rate, of.true_positive_rate, of.false_positive_rate, of.f1)
    return np.stack([metric(counts) for metric in metrics], axis=-1)


def _extremes(within: Floats, estimable: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Lowest and highest over the groups, (B, S, R, 4); NaN where fewer than two can be told."""
    there = ~np.isnan(within)
    lowest = np.where(there, within, np.inf).min(axis=-2)
    highest = np.where(there, within, -np.inf).max(axis=-2)
    several = there.sum(axis=-2) > 1
    return np.where(several, lowest, np.nan), np.where(several, highest, np.nan)


def _check(
    labels: NDArray[np.float32],
    groups: pd.DataFrame,
    arms: Sequence[str],
    min_count: int,
    baseline: str | None,
) -> None:
    if len(groups) != len(labels):
        raise ValueError(f"groups: got {len(groups)} rows, {len(labels)} are needed: one an image")
    if min_count < 1:
        raise ValueError(f"min_count: got {min_count}, at least 1 is needed")
    if baseline is not None and baseline not in arms:
        raise ValueError(
            f"baseline: got {baseline!r}, the arms are {', '.join(arms)}: name one of them"
        )
