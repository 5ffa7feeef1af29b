"""fairlearn's own figures of a frame, which the audit's are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import f1_score

if TYPE_CHECKING:
    from fairlearn.metrics import MetricFrame

_MIN_COUNT = 30
"""Fewest images that a figure rests on, the audit's own default."""
_Metric = Callable[[NDArray[np.int64], NDArray[np.int64]], float]


def metric_frame(frame: pd.DataFrame, columns: list[str]) -> MetricFrame:
    """A `MetricFrame` of a `fairlearn_frame`, with the metrics that the audit tells, NaN where they
    rest on too few images; an image that lacks a value of `columns` is in no group.
    """
    from fairlearn import metrics

    known = frame.dropna(subset=columns)
    return metrics.MetricFrame(
        metrics={
            "selection_rate": _resting_on(metrics.selection_rate, (0, 1)),
            "true_positive_rate": _resting_on(metrics.true_positive_rate, (1,)),
            "false_positive_rate": _resting_on(metrics.false_positive_rate, (0,)),
            "f1": _resting_on(f1_score, (1,)),
        },
        y_true=known["y_true"],
        y_pred=known["y_pred"],
        sensitive_features=known[columns],
    )


def _resting_on(metric: _Metric, labels: tuple[int, ...]) -> _Metric:
    def guarded(y_true: NDArray[np.int64], y_pred: NDArray[np.int64]) -> float:
        return metric(y_true, y_pred) if np.isin(y_true, labels).sum() >= _MIN_COUNT else np.nan

    return guarded
