"""Scores of a multi-label classifier, by attribute and on average.

F1, precision and recall are those of the positive class, counted by torchmetrics. An empty label
is ignored. An attribute that has only one value in the split cannot be judged there: its scores are
NaN and the macro mean leaves it out. An attribute that can be judged but is never predicted scores
0 in all three, precision included (scikit-learn's `zero_division=0`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_f1_score,
    binary_precision,
    binary_recall,
)

MACRO = "macro"
"""The `attribute` of a mean over attributes."""
MACRO_RARE, MACRO_COMMON = "macro, rare", "macro, common"
"""The `attribute` of a mean over the rare ones, and over the others; see `classify.compare`."""
METRICS = {
    "f1": binary_f1_score,
    "precision": binary_precision,
    "recall": binary_recall,
}
_IGNORED = -1


def attribute_scores(
    probabilities: Tensor,
    labels: Tensor,
    attributes: Sequence[str],
    *,
    split: str,
    thresholds: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Score every attribute, and their macro mean.

    Args:
        probabilities: float32 (N, A) in [0, 1].
        labels: float (N, A): 1, 0 or NaN.
        attributes: The A names.
        split: Written into the column `split`.
        thresholds: Probability from which on an attribute is predicted; 0.5 where none is given.

    Returns:
        Tidy rows `split, attribute, metric, value`; attribute `macro` for the mean over the
        attributes that have both values.

    Raises:
        ValueError: An attribute has the name of a mean.
    """
    refuse_names_of_means(attributes)
    limits = torch.tensor([(thresholds or {}).get(name, 0.5) for name in attributes])
    predicted = (probabilities.cpu() >= limits).int()
    labels = labels.cpu()
    target = torch.where(labels.isnan(), _IGNORED, labels).int()
    judged = (target == 1).any(0) & (target == 0).any(0)
    values = pd.DataFrame(
        torch.nan, index=pd.Index(attributes, name="attribute"), columns=list(METRICS)
    )
    for column in judged.nonzero().flatten().tolist():
        values.iloc[column] = [
            metric(predicted[:, column], target[:, column], ignore_index=_IGNORED).item()
            for metric in METRICS.values()
        ]
    values.loc[MACRO] = values.mean()  # skips NaN
    tidy = values.reset_index().melt("attribute", var_name="metric", value_name="value")
    tidy.insert(0, "split", split)
    return tidy


def macro_f1(scores: pd.DataFrame) -> float:
    """The macro F1 among tidy scores of one split."""
    is_macro = (scores["attribute"] == MACRO) & (scores["metric"] == "f1")
    return float(scores.loc[is_macro, "value"].iloc[0])


def refuse_names_of_means(attributes: Sequence[str]) -> None:
    """Refuse an attribute that no table of scores could tell from a mean over attributes.

    Raises:
        ValueError: Names it.
    """
    if taken := [name for name in attributes if name in (MACRO, MACRO_RARE, MACRO_COMMON)]:
        raise ValueError(
            f"attribute {taken[0]!r} has the name of a mean over attributes; any other name is "
            "allowed; rename its column, or leave it out with --attributes"
        )
