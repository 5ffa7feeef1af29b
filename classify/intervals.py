"""Intervals for the mean over a few fits, judged on the same test images; Holm's adjustment.

A study sees a handful of seeds and one test set; its claim is about other seeds and other images. A
bootstrap that resamples both is far too narrow at 3 to 5 seeds (it underestimates the variance over
seeds by (S - 1) / S and knows no t quantile). So the two sources are handled each by its own means,
as in studies of several readers and cases (Obuchowski & Rockette 1995, Comm. Statist. Simul. 24),
with seeds as the readers and images as the cases:

    variance of the mean   V = a + b,   a = v / S,   b = max(c, 0)
    half width             (w t + (1 - w) z) sqrt(V),   w = (a / V)^1.1

v is the sample variance over seeds, which contains the seeds' interaction with the images, and c
the covariance, over bootstrap draws of the images, between two seeds: what the images add to all
seeds alike. t is Student's quantile with S - 1 degrees of freedom, z the normal one.

The exponent 1.1 lies between two standard choices and was set once, by simulation. With 1 the
quantile is Cochran's for two variances of unequal degrees of freedom (1964, Biometrics 20), which
covers a little too often. Welch's (1947, Biometrika 34) goes by 2 to first order, as do the degrees
of freedom of Satterthwaite, and covers too seldom where v comes from three seeds. So it stays near
Cochran's, whose intervals are at most 3.1 % wider at three seeds and 1.3 % at five. Least and
greatest coverage of Gaussian means over all shares of a in V, nominal 95 %:

    seeds               3              5             10
    Cochran        95.0 to 97.1   95.0 to 96.4   95.0 to 95.7
    this one       94.9 to 96.9   95.0 to 96.2   95.0 to 95.6
    Satterthwaite  92.2 to 95.0   94.2 to 95.0   94.8 to 95.0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

LEVEL = 0.05
"""One minus the confidence of all intervals; the level of all tests."""
_POWER = 1.1
"""Exponent of the seeds' share of the variance; see above."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Means over seeds with 95 % intervals, float64 (...); NaN where not estimable."""

    estimate: Floats
    low: Floats
    high: Floats
    p_value: Floats
    """Two-sided, of a mean of zero; below 0.05 where the interval excludes zero."""


def mean_interval(values: Floats, draws: Floats) -> Interval:
    """Interval of the mean over seeds, for new seeds and new images.

    One fit tells nothing of other seeds: there the interval is one over images only, that is, for
    this very fit (fixed readers).

    Args:
        values: float64 (S, ...), one for each seed; NaN where not estimable.
        draws: float64 (B, S, ...), the same under bootstrap draws of the images, in which the
            seeds share each draw; draws with NaN are left out.

    Returns:
        Arrays of shape (...).
    """
    n_seeds = len(values)
    estimate = values.mean(axis=0)
    shared = shared_variance(draws)
    seeds = np.zeros_like(shared) if n_seeds == 1 else values.var(axis=0, ddof=1) / n_seeds
    error, weight = np.sqrt(seeds + shared), _weight(seeds, shared)
    half = half_width(seeds, shared, n_seeds)
    # Without any spread a difference of exactly zero is no evidence, any other is certain.
    t = _divide(np.abs(estimate), error, np.where(estimate == 0, 0.0, np.inf))
    p_value = _two_sided(t, weight, max(n_seeds - 1, 1))
    return Interval(estimate=estimate, low=estimate - half, high=estimate + half, p_value=p_value)


def shared_variance(draws: Floats) -> Floats:
    """What the images add to the variance of all seeds alike, b above: float64 (...), of draws (B,
    S, ...) as `mean_interval` takes them.
    """
    n_seeds = draws.shape[1]
    images, single = _variance(draws.mean(axis=1)), _variance(draws).mean(axis=0)
    if n_seeds == 1:
        return images
    # The variance of a mean over seeds is (single + (S - 1) shared) / S.
    shared: Floats = np.maximum((n_seeds * images - single) / (n_seeds - 1), 0)
    return shared


def half_width(seeds: Floats, shared: Floats, n_seeds: int) -> Floats:
    """Half of the interval of a mean over seeds: a and b above, and the number of seeds."""
    z = special.ndtri(1 - LEVEL / 2)
    quantile = _quantile(z, _weight(seeds, shared), max(n_seeds - 1, 1))
    half: Floats = np.sqrt(seeds + shared) * quantile
    return half


def _weight(seeds: Floats, shared: Floats) -> Floats:
    weight: Floats = _divide(seeds, seeds + shared, 0.0) ** _POWER
    return weight


def _quantile(z: Floats | np.float64, weight: Floats, degrees: int) -> Floats:
    """Student's quantile by `weight`, the normal one by the rest, at the probability of `z`."""
    # Far in the tail Student's is infinite, and no part of it is nothing.
    student = np.where(weight > 0, -special.stdtrit(degrees, special.ndtr(-z)), 0.0)
    quantile: Floats = weight * student + (1 - weight) * z
    return quantile


def _two_sided(t: Floats, weight: Floats, degrees: int) -> Floats:
    """The p-value at which `_quantile` is t, by bisection of the normal quantile z <= t."""
    low, high = np.zeros_like(t), np.minimum(t, 40.0)  # beyond, p is 0 in double precision
    for _ in range(60):
        middle = (low + high) / 2
        above = _quantile(middle, weight, degrees) > t
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(np.isnan(t), np.nan, 2 * special.ndtr(-low))


def holm(p_values: Floats) -> Floats:
    """Holm's adjusted p-values (1979, Scand. J. Statist. 6): compared with 0.05, they keep the
    chance of a single false finding among all at 5 %, however the tests depend on each other.

    Args:
        p_values: float64 (K,); NaN stays NaN and does not count.
    """
    adjusted = np.full_like(p_values, np.nan)
    order = np.argsort(p_values)[: np.isfinite(p_values).sum()]  # NaN sorts last
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return adjusted


def holm_within(rows: pd.DataFrame, family: Sequence[str]) -> pd.Series:
    """`holm` of the column `p_value`, for each combination of the columns `family` by itself."""
    p_values = rows["p_value"].astype(float)
    groups = p_values.groupby([rows[name] for name in family], sort=False)
    adjusted: pd.Series = groups.transform(lambda values: holm(values.to_numpy()))
    return adjusted


def _variance(draws: Floats) -> Floats:
    """Variance over draws (first axis) that are not NaN; NaN for fewer than two of them."""
    there = ~np.isnan(draws)
    n = there.sum(axis=0)
    mean = _divide(np.where(there, draws, 0).sum(axis=0), n, np.nan)
    squares = np.where(there, (draws - mean) ** 2, 0).sum(axis=0)
    return np.where(n > 1, squares / np.maximum(n - 1, 1), np.nan)


def _divide(numerator: Floats, denominator: Floats, otherwise: float | Floats) -> Floats:
    """Quotient, and `otherwise` where the denominator is zero."""
    zero = denominator == 0
    return np.where(zero, otherwise, numerator / np.where(zero, 1, denominator))
