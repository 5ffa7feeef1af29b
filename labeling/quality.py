"""How far a labeler can be trusted: its own scores against real labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from labeling.thresholds import as_columns

__all__ = ["label_quality"]


def label_quality(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, thresholds: Mapping[str, float]
) -> pd.DataFrame:
    """Scores of the positive class by attribute, on rows whose labels are real.

    Args:
        labels: float (N, A) of 1, 0 or NaN = unlabelled (left out).
        probabilities: float (N, A) in [0, 1]; NaN = no prediction (left out).
        thresholds: name -> threshold, "present where p >= threshold", in the order of the A
            columns.

    Returns:
        One row an attribute (index `attribute`): `f1`, `precision`, `recall` in [0, 1], `n` rows
        used and `n_positive` of them. The scores are NaN where these rows do not hold both values.
        An attribute never predicted has precision, recall and F1 of 0 (scikit-learn's
        `zero_division=0`).
    """
    p, y = as_columns(probabilities, labels, len(thresholds))
    predicted = p >= np.array(list(thresholds.values()), dtype=np.float64)
    rows = [_scores(y[:, i], predicted[:, i]) for i in range(len(thresholds))]
    index = pd.Index(list(thresholds), name="attribute")
    return pd.DataFrame(rows, index=index, columns=["f1", "precision", "recall", "n", "n_positive"])


def _scores(y: npt.NDArray[np.float64], predicted: npt.NDArray[np.bool_]) -> dict[str, float]:
    known = ~np.isnan(y)
    n, n_positive = int(known.sum()), int(np.nansum(y))
    precision = recall = f1 = np.nan
    if 0 < n_positive < n:
        precision, recall, f1, _ = precision_recall_fscore_support(
            y[known], predicted[known], average="binary", zero_division=0
        )
    return {"f1": f1, "precision": precision, "recall": recall, "n": n, "n_positive": n_positive}
