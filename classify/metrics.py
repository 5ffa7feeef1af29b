"""Scores of a multi-label classifier, by attribute and on average.

F1, precision and recall are those of the positive class, counted by torchmetrics at a threshold;
average precision (scikit-learn's) needs none. An empty label is ignored. An attribute that has only
one value in the split cannot be judged there: its scores are NaN and every mean leaves it out. An
attribute that can be judged but is never predicted scores 0 in F1, precision and recall alike
(scikit-learn's `zero_division=0`).

Three means are usual for many attributes, and all are called F1:

- `macro`, over attributes: each rare one counts as much as a common one. It judges the arms here.
- `micro`: over all cells, an image and an attribute each; common attributes weigh most.
- `samples` (scikit-learn's word): the score of one image's attributes, averaged over the images;
  an image that shows none of them and is given none scores 0 (`zero_division=0`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_f1_score,
    binary_precision,
    binary_recall,
)

MACRO, MICRO, SAMPLES = "macro", "micro", "samples"
"""The `attribute` of a mean: over attributes, over all cells, over images."""
MACRO_RARE, MACRO_COMMON = "macro, rare", "macro, common"
"""The `attribute` of a mean over the rare ones, and over the others; see `with_rare`."""
MEANS = (MACRO, MICRO, SAMPLES, MACRO_RARE, MACRO_COMMON)
RARE = 0.12
"""An attribute is rare where its share of positives in the real training images is below this.

It takes in 16 of CelebA's 40 attributes (Bald .02 to Narrow_Eyes .115), enough for a mean that does
not hang on one of them; below .05 there are 6."""
METRICS = {
    "f1": binary_f1_score,
    "precision": binary_precision,
    "recall": binary_recall,
}
AVERAGE_PRECISION, FITTED_F1 = "average_precision", "f1_fitted"
"""Metrics that a shift of all probabilities by one prior leaves alone: the area under the curve of
precision over recall, and F1 at thresholds that were fitted on validation images."""
_DEFAULT_THRESHOLD = 0.5
_IGNORED = -1


def attribute_scores(
    probabilities: Tensor,
    labels: Tensor,
    attributes: Sequence[str],
    *,
    split: str,
    thresholds: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Score every attribute, and their means.

    Args:
        probabilities: float32 (N, A) in [0, 1].
        labels: float (N, A): 1, 0 or NaN.
        attributes: The A names.
        split: Written into the column `split`.
        thresholds: Probability from which on an attribute is predicted; 0.5 where none is given.

    Returns:
        Tidy rows `split, attribute, metric, value`: `f1`, `precision`, `recall` and
        `average_precision` of each attribute and of `macro`, the mean over the attributes that have
        both values; and `f1`, `precision`, `recall` of `micro` and `samples`, over the same.

    Raises:
        ValueError: An attribute has the name of a mean.
    """
    refuse_names_of_means(attributes)
    limits = torch.tensor([(thresholds or {}).get(n, _DEFAULT_THRESHOLD) for n in attributes])
    probabilities, labels = probabilities.cpu(), labels.cpu()
    predicted = (probabilities >= limits).int()
    target = torch.where(labels.isnan(), _IGNORED, labels).int()
    judged = (target == 1).any(0) & (target == 0).any(0)
    values = pd.DataFrame(
        torch.nan,
        index=pd.Index(attributes, name="attribute"),
        columns=[*METRICS, AVERAGE_PRECISION],
    )
    for column in judged.nonzero().flatten().tolist():
        there = target[:, column] != _IGNORED
        values.iloc[column] = [
            *(
                metric(predicted[:, column], target[:, column], ignore_index=_IGNORED).item()
                for metric in METRICS.values()
            ),
            average_precision_score(target[there, column], probabilities[there, column]),
        ]
    values.loc[MACRO] = values.mean()  # skips NaN
    tidy = values.reset_index().melt("attribute", var_name="metric", value_name="value")
    tidy = pd.concat([tidy, _pooled(predicted[:, judged], target[:, judged])], ignore_index=True)
    tidy.insert(0, "split", split)
    return tidy


def fitted_scores(
    probabilities: Tensor,
    labels: Tensor,
    attributes: Sequence[str],
    thresholds: NDArray[np.float32],
    *,
    split: str,
) -> pd.DataFrame:
    """F1 at fitted thresholds (A,), of each attribute and `macro`: rows as those of
    `attribute_scores`, their metric `f1_fitted`.
    """
    limits = dict(zip(attributes, thresholds.tolist(), strict=True))
    scores = attribute_scores(probabilities, labels, attributes, split=split, thresholds=limits)
    f1 = scores[(scores["metric"] == "f1") & scores["attribute"].isin([*attributes, MACRO])]
    return f1.assign(metric=FITTED_F1)


def best_thresholds(
    probabilities: NDArray[np.float32], labels: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The threshold of the best F1 of each attribute, exact over all possible ones.

    It belongs to images on which nothing is judged afterwards: those of the split val. It lies
    half-way between the probabilities that it separates, or half-way to 0 below the smallest.
    Among equally good ones the highest is taken. It is 0.5 where the labelled images do not hold
    both values, for nothing can be weighed there.

    Args:
        probabilities: float32 (N, A) in [0, 1].
        labels: float32 (N, A): 1, 0 or NaN.

    Returns:
        float32 (A,), meant as "predicted where p >= threshold".
    """
    columns = zip(probabilities.T, labels.T, strict=True)
    return np.array([_best_threshold(p, y) for p, y in columns], np.float32)


def _best_threshold(p: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    there = ~np.isnan(y)
    p, y = p[there].astype(np.float32), y[there]
    if not 0 < y.sum() < len(y):
        return _DEFAULT_THRESHOLD
    precision, recall, cuts = precision_recall_curve(y, p)
    doubled = precision + recall  # 0 together, where F1 is 0
    f1 = np.divide(2 * precision * recall, doubled, out=np.zeros_like(doubled), where=doubled > 0)
    best = f1[:-1].max()
    at = int(np.flatnonzero(np.isclose(f1[:-1], best, rtol=1e-12))[-1])  # cuts ascend
    upper, lower = cuts[at], cuts[at - 1] if at else np.float32(0)
    middle = lower + (upper - lower) / 2
    return float(middle if middle > lower else upper)  # neighbours have no float32 between them


def with_rare(scores: pd.DataFrame, shares: Mapping[str, float]) -> pd.DataFrame:
    """Add the means over rare and over common attributes.

    Args:
        scores: Tidy, of any number of fits: columns `attribute, metric, value` and others, which
            tell the fits and splits apart.
        shares: Attribute -> share of positives in [0, 1] among the real training images; below
            `RARE` it is rare. One that is missing belongs to neither mean.

    Returns:
        The scores, below them rows with the attribute `macro, rare` or `macro, common`; a mean of
        no attribute has none.
    """
    known = scores[scores["attribute"].isin(list(shares))]
    rare = known["attribute"].map(dict(shares)) < RARE
    of_kind = known.assign(attribute=np.where(rare, MACRO_RARE, MACRO_COMMON))
    keys = [name for name in scores.columns if name != "value"]
    means = of_kind.groupby(keys, sort=False)["value"].mean().reset_index()
    return pd.concat([scores, means], ignore_index=True)


def macro_f1(scores: pd.DataFrame) -> float:
    """The macro F1 among tidy scores of one split."""
    is_macro = (scores["attribute"] == MACRO) & (scores["metric"] == "f1")
    return float(scores.loc[is_macro, "value"].iloc[0])


def refuse_names_of_means(attributes: Sequence[str]) -> None:
    """Refuse an attribute that no table of scores could tell from a mean over attributes.

    Raises:
        ValueError: Names it.
    """
    if taken := [name for name in attributes if name in MEANS]:
        raise ValueError(
            f"attribute {taken[0]!r} has the name of a mean over attributes; any other name is "
            "allowed; rename its column, or leave it out with --attributes"
        )


def _pooled(predicted: Tensor, target: Tensor) -> pd.DataFrame:
    """F1, precision and recall of `micro` and `samples`, NaN without a labelled cell; predictions
    0 or 1 and targets 1, 0 or ignored, (N, A).
    """
    labelled, present = target != _IGNORED, target == 1
    called = labelled & (predicted == 1)
    counts = torch.stack([called & present, called, present]).double()
    images = counts.sum(2)[:, labelled.any(1)]
    rows = []
    for name, (hits, calls, positives) in ((MICRO, images.sum(1)[:, None]), (SAMPLES, images)):
        for metric, whole in (
            ("f1", (calls + positives) / 2),
            ("precision", calls),
            ("recall", positives),
        ):
            value = torch.where(whole > 0, hits / whole, 0.0)
            rows.append((name, metric, value.mean().item() if len(images[0]) else torch.nan))
    return pd.DataFrame(rows, columns=["attribute", "metric", "value"])
