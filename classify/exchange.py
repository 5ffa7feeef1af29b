"""How many labelled images would give the same score: an arm's score read off a learning curve.

The curve of each seed is made monotone in the number of images (isotonic regression) and joined by
straight lines in its logarithm. The exchange rate is the number at which the mean curve reaches the
arm's mean score. Its interval is the set of numbers at which the two cannot be told apart: those
where the t interval over seeds of their difference, paired by seed, holds 0. So it needs no
derivative of the curve, and it is open where the curve is flat or ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from classify.intervals import LEVEL

__all__ = ["ExchangeRate", "exchange_rate"]

_POINTS = 4001
"""Points of the grid over the logarithm of the numbers: 0.1 % apart from 100 to 5,000 images."""
_ROUNDING = 1e-9
"""Differences of scores that are none."""


@dataclass(frozen=True, kw_only=True)
class ExchangeRate:
    """A number of images with its 95 % interval.

    0 stands for fewer than the smallest number of the curve, infinity for more than the largest:
    the curve says no more. The bounds are NaN with one seed.
    """

    images: float
    low: float
    high: float


def exchange_rate(
    sizes: Sequence[int], curve: ArrayLike, scores: ArrayLike, *, level: float = LEVEL
) -> ExchangeRate:
    """Number of images at which the curve gives the scores.

    Args:
        sizes: K >= 2 ascending numbers of images.
        curve: (S, K), the scores that these give, one row per seed.
        scores: (S,), of what is to be exchanged, by the same seeds.
        level: one minus the confidence of the interval.

    Raises:
        ValueError: sizes that do not ascend, or arrays that do not fit.
    """
    curve, scores = np.asarray(curve, float), np.asarray(scores, float)
    if len(sizes) < 2 or (np.diff(sizes) <= 0).any() or sizes[0] < 1:
        raise ValueError(f"sizes are {list(sizes)}; give at least two ascending numbers from 1 up")
    if scores.ndim != 1 or curve.shape != (len(scores), len(sizes)):
        raise ValueError(
            f"the curve has shape {curve.shape} and the scores {scores.shape}; give "
            f"(seeds, {len(sizes)}) and (seeds,)"
        )
    knots = np.log(np.asarray(sizes, float))
    grid = np.linspace(knots[0], knots[-1], _POINTS)
    rising = [np.interp(grid, knots, IsotonicRegression().fit_transform(knots, y)) for y in curve]
    ahead = scores[:, None] - np.stack(rising)  # (S, points), falling
    mean = ahead.mean(axis=0)
    images = _first(grid, mean <= _ROUNDING, below=mean[0] < -_ROUNDING)
    if len(scores) < 2:
        return ExchangeRate(images=images, low=np.nan, high=np.nan)
    half = stats.t.ppf(1 - level / 2, len(scores) - 1) * stats.sem(ahead, axis=0)
    smaller = mean - half > _ROUNDING  # numbers that are too few, for certain
    larger = mean + half < -_ROUNDING
    low = _first(grid, ~smaller, below=not smaller[0])
    high = _first(grid, np.flip(np.cumprod(np.flip(larger))) == 1, below=bool(larger.all()))
    return ExchangeRate(images=images, low=low, high=max(high, images))


def _first(grid: NDArray[np.float64], holds: NDArray[np.bool_], *, below: bool) -> float:
    """The number at the first point where it holds; infinity if nowhere, 0 if already before."""
    if below:
        return 0.0
    return float(np.exp(grid[holds.argmax()])) if holds.any() else np.inf
