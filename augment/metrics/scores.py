"""How rare generated images are among real ones, and how far the two sets' manifolds overlap.

A manifold is the union of balls, one about each image of a set, which reaches to its k-th nearest
other image and is open. The encoder sets the scale of AvgkNN and of rarity: compare within one.
Functions take floating features (N, D), tensors or arrays, of at least one row; they raise
ValueError for others and for a k that a set is too small for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augment.metrics.neighbours import Balls, Nearest, Neighbours, blocks, nearest, nearest_others
from augment.metrics.vectors import Vectors, check_count, vectors, vectors_alike

__all__ = [
    "Measured",
    "Orders",
    "Reference",
    "Scores",
    "avg_knn",
    "lof",
    "mean_distance",
    "measure",
    "outlier_factor",
    "precision_mask",
    "rarity",
]

Scores = npt.NDArray[np.float64]
"""One number per image, (N,)."""

_EPSILON = 1e-10
"""Keeps the density among duplicates finite, as in scikit-learn."""


def avg_knn(generated: Vectors, real: Vectors, *, k: int = 5) -> Scores:
    """Mean distance to the k nearest real images; the higher, the rarer (k = 5 in the paper).

    It equals PyOD's `KNN(n_neighbors=k, method="mean")` fitted on the real images.

    Args:
        generated: (M, D).
        real: (N, D).
        k: 1 to N.

    Returns:
        float64 (M,), in the units of the features.
    """
    generated, real = vectors_alike(generated=generated, real=real)
    return mean_distance(nearest(generated, real, k=k), k)


def lof(generated: Vectors, real: Vectors, *, k: int = 20) -> Scores:
    """Local outlier factor (Breunig et al. 2000) fitted on the real images alone.

    About 1 where an image lies as densely as its k nearest real ones do, higher where it is an
    outlier to them. It equals PyOD's `LOF(n_neighbors=k)`, and the negative of scikit-learn's
    `LocalOutlierFactor(n_neighbors=k, novelty=True).score_samples`.

    Args:
        generated: (M, D).
        real: (N, D).
        k: 1 to N - 1.

    Returns:
        float64 (M,).
    """
    generated, real = vectors_alike(generated=generated, real=real)
    own = nearest_others(real, k=k)
    return outlier_factor(nearest(generated, real, k=k), own, k)


def rarity(generated: Vectors, real: Vectors, *, k: int = 3) -> Scores:
    """Rarity Score (Han et al. 2023): the radius of the smallest real ball that holds an image.

    Args:
        generated: (M, D).
        real: (N, D).
        k: 1 to N - 1.

    Returns:
        float64 (M,), in the units of the features; NaN for an image in no ball, so out of the
        real manifold (the official code gives it 0 and leaves it out of all means).
    """
    return _rarity(_balls(generated, real, k).smallest[:, 0])


def precision_mask(generated: Vectors, real: Vectors, *, k: int = 3) -> npt.NDArray[np.bool_]:
    """Which generated images lie in the real manifold: bool (M,), whose mean is the precision.

    Args:
        generated: (M, D).
        real: (N, D).
        k: 1 to N - 1.
    """
    return (_balls(generated, real, k).count[:, 0] > 0).cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class Orders:
    """How many neighbours each score looks at: the k of its definition."""

    avg_knn: int = 5
    """For AvgkNN; the paper's value."""
    lof: int = 20
    """For LOF; the default of PyOD and scikit-learn."""
    rarity: int = 3
    """For the balls of the Rarity Score; its official code's default (the paper does not say)."""
    precision: int = 3
    """For the balls of precision and recall; their official code's default."""
    density: int = 5
    """For the balls of density and coverage; their official code's default."""

    def __post_init__(self) -> None:
        for name, k in vars(self).items():
            if k < 1:
                raise ValueError(f"neighbours.{name} is {k}; give at least 1")

    @property
    def most(self) -> int:
        """The most neighbours that any score looks at."""
        return max(int(k) for k in vars(self).values())


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A generated set of M images against a reference of N."""

    avg_knn: Scores
    """See `augment.metrics.avg_knn`, (M,)."""
    lof: Scores
    """See `augment.metrics.lof`, (M,)."""
    rarity: Scores
    """See `augment.metrics.rarity`, (M,); NaN out of the manifold of rarity's k."""
    inside: npt.NDArray[np.bool_]
    """See `augment.metrics.precision_mask`, (M,); its mean is the improved precision."""
    recalled: npt.NDArray[np.bool_]
    """Which reference images lie inside any generated ball, (N,); its mean is the improved recall
    (Kynkäänniemi et al. 2019). A collapsed generator has high precision and low recall."""
    density: float
    """Mean number of real balls that hold a generated image, over k (Naeem et al. 2020): at least
    0, around 1 for equal distributions. One outlier's large ball does not distort it."""
    coverage: float
    """Fraction of real balls that hold any generated image (Naeem et al. 2020), in [0, 1]."""


class Reference:
    """Real features (N, D) and, once looked for, each one's nearest others.

    Their search is the dear part (N^2 distances); all scores of all generated sets share it.
    """

    def __init__(self, real: Vectors, orders: Orders | None = None) -> None:
        """
        Args:
            real: floating (N, D), a tensor or an array; kept, not copied.
            orders: the scores' k, each at most N - 1.

        Raises:
            ValueError: refused features, or too few for an order.
        """
        self.orders = orders or Orders()
        self.features = vectors("real", real)
        count = len(self.features)
        for name, k in vars(self.orders).items():
            check_count(f"neighbours.{name}", k, count - 1, f"{count} real images")

    @cached_property
    def neighbours(self) -> Neighbours:
        """The `orders.most` nearest other real images of each, (N, k)."""
        return nearest_others(self.features, k=self.orders.most)

    @property
    def avg_knn(self) -> Scores:
        """AvgkNN of each real image among the others, (N,)."""
        return mean_distance(self.neighbours, self.orders.avg_knn)

    @property
    def lof(self) -> Scores:
        """LOF of each real image among the others, (N,)."""
        return outlier_factor(self.neighbours, self.neighbours, self.orders.lof)


def measure(generated: Vectors, reference: Reference) -> Measured:
    """Every score of a generated set, from one pass over its distances to the reference.

    Args:
        generated: floating (M, D), of the reference's encoder and device; M above
            `orders.precision`.
        reference: searched if it was not yet.

    Raises:
        ValueError: refused features, or too few.
    """
    orders, own = reference.orders, reference.neighbours
    generated, real = vectors_alike(generated=generated, real=reference.features)
    reach = nearest_others(generated, k=orders.precision).distances[:, -1:]
    found = Nearest(generated, real, max(orders.avg_knn, orders.lof))
    kinds = [orders.rarity - 1, orders.precision - 1, orders.density - 1]
    held = Balls(generated, real, own.distances[:, kinds])
    holding = Balls(real, generated, reach)
    for block in blocks(generated, real):
        found.add(block)
        held.add(block)
        holding.add(block.transposed)
    neighbours = found.neighbours()
    return Measured(
        avg_knn=mean_distance(neighbours, orders.avg_knn),
        lof=outlier_factor(neighbours, own, orders.lof),
        rarity=_rarity(held.smallest[:, 0]),
        inside=(held.count[:, 1] > 0).cpu().numpy(),
        recalled=(holding.count[:, 0] > 0).cpu().numpy(),
        density=float(held.count[:, 2].double().mean() / orders.density),
        coverage=float((held.members[:, 2] > 0).double().mean()),
    )


def _balls(generated: Vectors, real: Vectors, k: int) -> Balls:
    """The real balls of order k, and which of them hold the generated images."""
    generated, real = vectors_alike(generated=generated, real=real)
    balls = Balls(generated, real, nearest_others(real, k=k).distances[:, -1:])
    for block in blocks(generated, real):
        balls.add(block)
    return balls


def mean_distance(found: Neighbours, k: int) -> Scores:
    """AvgkNN from neighbours of at least k."""
    return found.distances[:, :k].mean(dim=1).cpu().numpy()


def outlier_factor(found: Neighbours, own: Neighbours, k: int) -> Scores:
    """LOF from neighbours of at least k, among points whose own neighbours are `own`.

    Lrd(x) = 1 / mean over its k neighbours o of max(own k-distance of o, |x - o|), and LOF is the
    neighbours' mean of lrd over the own lrd.
    """
    reach = own.distances[:, k - 1]

    def density(neighbours: Neighbours) -> Tensor:
        distances = neighbours.distances[:, :k].maximum(reach[neighbours.indices[:, :k]])
        return 1 / (distances.mean(dim=1) + _EPSILON)

    around = density(own)[found.indices[:, :k]].mean(dim=1)
    return (around / density(found)).cpu().numpy()


def _rarity(smallest: Tensor) -> Scores:
    return smallest.where(smallest.isfinite(), torch.nan).cpu().numpy()
