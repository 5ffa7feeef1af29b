"""One fit's predictions of one attribute as other auditing tools take them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

__all__ = ["fairlearn_frame"]


def fairlearn_frame(
    labels: ArrayLike, probabilities: ArrayLike, groups: pd.DataFrame, threshold: float = 0.5
) -> pd.DataFrame:
    """What fairlearn's functions take, one column per argument.

    Args:
        labels: (N,): 1, 0 or NaN; images without label are left out, as fairlearn has no such.
        probabilities: (N,) in [0, 1].
        groups: The N images' values, one column per way of dividing them.
        threshold: Probability from which on the attribute is predicted.

    Returns:
        Columns `y_true` and `y_pred` (1 or 0), `score` (the probability), then the groups' own.

    Raises:
        ValueError: Not the same number of each, or a column of groups with a name taken here.
    """
    true, score = np.asarray(labels, dtype=float), np.asarray(probabilities, dtype=float)
    if not true.shape == score.shape == (len(groups),):
        raise ValueError(
            f"labels are {true.shape}, probabilities {score.shape} and groups {len(groups)} rows; "
            "give one of each an image"
        )
    if taken := {"y_true", "y_pred", "score"} & set(groups.columns):
        raise ValueError(f"groups have a column {min(taken)}, which is taken here; rename it")
    there = ~np.isnan(true)
    frame: pd.DataFrame = groups[there].reset_index(drop=True)
    frame.insert(0, "y_true", true[there].astype(int))
    frame.insert(1, "y_pred", (score[there] >= threshold).astype(int))
    frame.insert(2, "score", score[there])
    return frame
