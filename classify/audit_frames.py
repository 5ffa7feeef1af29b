"""One fit's predictions of one attribute as other auditing tools take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import f1_score

if TYPE_CHECKING:
    from fairlearn.metrics import MetricFrame

__all__ = ["fairlearn_frame", "metric_frame"]

_Metric = Callable[[NDArray[np.int64], NDArray[np.int64]], float]


def fairlearn_frame(
    labels: ArrayLike, probabilities: ArrayLike, groups: pd.DataFrame, threshold: float = 0.5
) -> pd.DataFrame:
    """What fairlearn's functions take, a column an argument.

    Args:
        labels: (N,): 1, 0 or NaN; images without label are left out, as fairlearn has no such.
        probabilities: (N,) in [0, 1].
        groups: The N images' values, a column a way of dividing them.
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


def metric_frame(frame: pd.DataFrame, columns: list[str], *, min_count: int = 30) -> MetricFrame:
    """A `MetricFrame` of fairlearn's, with the metrics that `classify.audit` tells.

    Args:
        frame: Of `fairlearn_frame`.
        columns: Columns of the groups; of several, their intersection. Images that lack a value
            are in no group.
        min_count: Fewest images a figure may rest on, as for `classify.audit`; below it is NaN.

    Raises:
        ImportError: fairlearn is not installed.
    """
    try:
        from fairlearn import metrics
    except ImportError as error:
        raise ImportError("fairlearn is missing; install minority-augment[parity]") from error
    known = frame.dropna(subset=columns)
    return metrics.MetricFrame(
        metrics={
            "selection_rate": _resting_on(metrics.selection_rate, (0, 1), min_count),
            "true_positive_rate": _resting_on(metrics.true_positive_rate, (1,), min_count),
            "false_positive_rate": _resting_on(metrics.false_positive_rate, (0,), min_count),
            "f1": _resting_on(f1_score, (1,), min_count),
        },
        y_true=known["y_true"],
        y_pred=known["y_pred"],
        sensitive_features=known[columns],
    )


def _resting_on(metric: _Metric, labels: tuple[int, ...], min_count: int) -> _Metric:
    """The metric, NaN where fewer than `min_count` images have one of the labels."""

    def guarded(y_true: NDArray[np.int64], y_pred: NDArray[np.int64]) -> float:
        if np.isin(y_true, labels).sum() < min_count:
            return float("nan")
        return metric(y_true, y_pred)

    return guarded
