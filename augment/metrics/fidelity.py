"""Distances between the distributions of two sets of features, and intervals of means over images.

With the features of FID's Inception network the distances are FID, sFID (its spatial features) and
KID. They are biased or noisy in small sets: compare sets of equal size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import Tensor
from tqdm.auto import tqdm

from augment.metrics.vectors import Vectors, check_count, slices, vectors_alike

__all__ = ["Interval", "frechet_distance", "kid", "mean_interval"]


def frechet_distance(a: Vectors, b: Vectors) -> float:
    """Frechet distance between the Gaussians that fit two sets (Heusel et al. 2017).

    |mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2)), in float64. The last trace is the
    sum of the singular values of S_a^(1/2) S_b^(1/2), which stays exact where a set has fewer
    images than features; torchmetrics' and torch-fidelity's roots lose digits there.

    Args:
        a: floating (N, D), N >= 2.
        b: floating (M, D), M >= 2.

    Returns:
        At least 0, in squared units of the features.

    Raises:
        ValueError: refused features, or a set of one image.
    """
    a, b = vectors_alike(a=a, b=b)
    for name, features in (("a", a), ("b", b)):
        if len(features) < 2:
            raise ValueError(f"{name} is one image, which has no covariance; give 2 or more")
    (mean_a, covariance_a), (mean_b, covariance_b) = _moments(a), _moments(b)
    overlap = torch.linalg.svdvals(_root(covariance_a) @ _root(covariance_b)).sum()
    distance = (mean_a - mean_b).square().sum() + covariance_a.trace() + covariance_b.trace()
    return max(0.0, float(distance - 2 * overlap))


def kid(
    a: Vectors, b: Vectors, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Kernel Inception Distance (Binkowski et al. 2018): the unbiased squared MMD between two sets.

    The kernel is (x.y / D + 1)^3, computed in float64.

    Args:
        a: floating (N, D).
        b: floating (M, D).
        subsets: how many pairs of subsets are drawn, at least 1.
        subset_size: images of each, without replacement; 2 to min(N, M).
        seed: of the draws.

    Returns:
        Mean and standard deviation over the pairs; the mean may be below 0.

    Raises:
        ValueError: refused features or numbers.
    """
    from torchmetrics.image.kid import poly_mmd  # its import takes seconds, and only this needs it

    a, b = vectors_alike(a=a, b=b)
    if subsets < 1 or subset_size < 2:
        raise ValueError(
            f"subsets and subset_size are {subsets} and {subset_size}; give at least 1 and 2"
        )
    size = min(len(a), len(b))
    check_count("subset_size", subset_size, size, f"{size} images in the smaller set")
    rng = np.random.default_rng(seed)
    values = [
        float(poly_mmd(_drawn(a, subset_size, rng), _drawn(b, subset_size, rng)))
        for _ in tqdm(range(subsets), "kernel distance", unit="subset", delay=5, leave=False)
    ]
    return float(np.mean(values)), float(np.std(values))


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
            f"values, confidence and resamples are {array.shape}, {confidence} and {resamples}; "
            "give values (N,), a confidence between 0 and 1 and at least 1 resample"
        )
    array = array[~np.isnan(array)]
    if len(array) < 2:
        return Interval(float(array[0]) if len(array) else np.nan, np.nan, np.nan)
    found = stats.bootstrap(
        (array,),
        np.mean,
        n_resamples=resamples,
        batch=100,  # resamples held at a time
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(array.mean()), float(found.low), float(found.high))


def _drawn(features: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    chosen = rng.choice(len(features), count, replace=False)
    return features[torch.from_numpy(chosen).to(features.device)].double()


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D, D), float64."""
    count, width = features.shape
    mean = features.new_zeros(width, dtype=torch.float64)
    for rows in slices(count):
        mean += features[rows].double().sum(dim=0) / count
    scatter = features.new_zeros(width, width, dtype=torch.float64)
    for rows in slices(count):
        centred = features[rows].double() - mean
        scatter.addmm_(centred.T, centred)
    return mean, scatter / (count - 1)


def _root(covariance: Tensor) -> Tensor:
    """Symmetric square root of a positive semidefinite matrix."""
    values, basis = torch.linalg.eigh(covariance)
    root: Tensor = (basis * values.clamp(min=0).sqrt()) @ basis.T
    return root
