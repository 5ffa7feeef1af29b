"""How rare images are among the real ones, one number each: AvgkNN, LOF and the Rarity Score.

The features' encoder sets the scale of AvgkNN and rarity: compare within one. Every function takes
floating features (N, D), tensors or arrays, of at least one row, and raises ValueError for others
and for a k that the real set is too small for. For several scores or several generated sets, let
`Reference` search once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augment.metrics.balls import balls_of, radii
from augment.metrics.neighbours import Neighbours, nearest, nearest_others
from augment.metrics.vectors import Vectors, vectors_alike

__all__ = ["Scores", "avg_knn", "lof", "rarity", "real_avg_knn", "real_lof"]

Scores = npt.NDArray[np.float64]
"""One number an image, (N,)."""

_EPSILON = 1e-10
"""Keeps the density among duplicates finite, as in scikit-learn."""


def avg_knn(generated: Vectors, real: Vectors, *, k: int = 5) -> Scores:
    """Mean distance to the k nearest real images; the higher, the rarer (k = 5 in the paper).

    It equals PyOD's `KNN(n_neighbors=k, method="mean")` fitted on the real images.

    Args:
        generated: (N, D).
        real: (M, D).
        k: 1 to M.

    Returns:
        float64 (N,), in the units of the features.
    """
    generated, real = vectors_alike(generated=generated, real=real)
    return mean_distance(nearest(generated, real, k=k), k)


def real_avg_knn(real: Vectors, *, k: int = 5) -> Scores:
    """`avg_knn` of the real images (M, D) among the others; k is 1 to M - 1."""
    return mean_distance(nearest_others(real, k=k), k)


def lof(generated: Vectors, real: Vectors, *, k: int = 20) -> Scores:
    """Local outlier factor (Breunig et al. 2000) fitted on the real images alone.

    About 1 where an image lies as densely as its k nearest real ones do, higher where it is an
    outlier to them. It equals PyOD's `LOF(n_neighbors=k)`, and the negative of scikit-learn's
    `LocalOutlierFactor(n_neighbors=k, novelty=True).score_samples`.

    Args:
        generated: (N, D).
        real: (M, D).
        k: 1 to M - 1.

    Returns:
        float64 (N,).
    """
    generated, real = vectors_alike(generated=generated, real=real)
    own = nearest_others(real, k=k)
    return outlier_factor(nearest(generated, real, k=k), own, k)


def real_lof(real: Vectors, *, k: int = 20) -> Scores:
    """`lof` of the real images (M, D) among the others; k is 1 to M - 1."""
    own = nearest_others(real, k=k)
    return outlier_factor(own, own, k)


def rarity(generated: Vectors, real: Vectors, *, k: int = 3) -> Scores:
    """Rarity Score (Han et al. 2023): the radius of the smallest real ball that holds an image.

    A real image's ball reaches to its k-th nearest other real image, and is open.

    Args:
        generated: (N, D).
        real: (M, D).
        k: 1 to M - 1.

    Returns:
        float64 (N,), in the units of the features; NaN for an image in no ball, so out of the
        real manifold (the official code gives it 0 and leaves it out of all means).
    """
    generated, real = vectors_alike(generated=generated, real=real)
    return smallest_radius(balls_of(generated, real, radii(real, k)).smallest)


def mean_distance(found: Neighbours, k: int) -> Scores:
    """AvgkNN from neighbours of at least k."""
    return found.distances[:, :k].mean(dim=1).cpu().numpy()


def outlier_factor(found: Neighbours, own: Neighbours, k: int) -> Scores:
    """LOF from neighbours of at least k, among points whose own neighbours are `own`.

    Lrd(x) = 1 / mean over its k neighbours o of max(own k-distance of o, |x - o|), and LOF is the
    neighbours' mean of lrd over the own lrd.
    """
    reach = own.distances[:, k - 1]
    around = _reachability_density(own, reach, k)[found.indices[:, :k]].mean(dim=1)
    return (around / _reachability_density(found, reach, k)).cpu().numpy()


def smallest_radius(smallest: Tensor) -> Scores:
    """Rarity from the radius of the smallest ball, infinite where there is none."""
    return smallest.where(smallest.isfinite(), torch.nan).cpu().numpy()


def _reachability_density(found: Neighbours, reach: Tensor, k: int) -> Tensor:
    distances = found.distances[:, :k].maximum(reach[found.indices[:, :k]])
    return 1 / (distances.mean(dim=1) + _EPSILON)
