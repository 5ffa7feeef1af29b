"""Intervals of a mean over images, by the percentile bootstrap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = ["Interval", "mean_interval"]

_BATCH = 100
"""Resamples at a time, for memory."""


class Interval(NamedTuple):
    """A mean and the ends of its interval."""

    mean: float
    low: float
    high: float


def mean_interval(
    values: npt.ArrayLike, *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Mean over images, with the percentile bootstrap's interval.

    It measures the choice of these images; what they are compared with is held fixed.

    Args:
        values: one number or boolean an image, (N,); NaN is left out.
        confidence: in (0, 1).
        resamples: at least 1.
        seed: of the resamples.

    Returns:
        NaN throughout without values; without an interval (NaN) for one.

    Raises:
        ValueError: values that are not (N,), or a confidence or number out of range.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not 0 < confidence < 1 or resamples < 1:
        raise ValueError(
            f"got values of shape {array.shape}, confidence {confidence}, {resamples} resamples; "
            "give (N,), a confidence between 0 and 1, and 1 resample or more"
        )
    array = array[~np.isnan(array)]
    if len(array) < 2:
        return Interval(float(array[0]) if len(array) else np.nan, np.nan, np.nan)
    found = stats.bootstrap(
        (array,),
        np.mean,
        n_resamples=resamples,
        batch=_BATCH,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(array.mean()), float(found.low), float(found.high))
