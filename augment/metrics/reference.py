"""A real set that generated ones are placed against, searched once for all scores.

The neighbours of the real images among themselves are the dear part (N^2 distances): a `Reference`
looks for them once. `measure` then gets every score of a generated set from one sweep against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from augment.metrics.balls import Balls, radii
from augment.metrics.density import Scores, mean_distance, outlier_factor, smallest_radius
from augment.metrics.distances import sweep
from augment.metrics.manifold import density_and_coverage, inside_any
from augment.metrics.neighbours import Nearest, Neighbours, nearest_others
from augment.metrics.vectors import Vectors, check_count, vectors, vectors_alike

__all__ = ["Measured", "Orders", "Reference", "measure"]


@dataclass(frozen=True, kw_only=True)
class Orders:
    """How many neighbours each score looks at: the k of its definition."""

    avg_knn: int = 5
    """Of AvgkNN, as in the paper."""
    lof: int = 20
    """Of LOF, PyOD's and scikit-learn's default."""
    rarity: int = 3
    """Of the Rarity Score's balls, its official code's default; the paper's value is not known."""
    precision: int = 3
    """Of the balls of precision and recall, their official code's default."""
    density: int = 5
    """Of the balls of density and coverage, their official code's default."""

    def __post_init__(self) -> None:
        for name, k in vars(self).items():
            if k < 1:
                raise ValueError(f"{name} is {k}; give at least 1 neighbour")

    @property
    def most(self) -> int:
        """What the reference must be searched for."""
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
    """See `augment.metrics.precision_mask`, (M,); its mean is the precision."""
    recalled: npt.NDArray[np.bool_]
    """Which reference images lie inside any generated ball, (N,); its mean is the recall."""
    density: float
    coverage: float
    """See `augment.metrics.density_coverage`."""


class Reference:
    """Real features (N, D) and, once looked for, each one's nearest others."""

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
            check_count(f"the k of {name}", k, count - 1, f"{count} real images")

    @cached_property
    def neighbours(self) -> Neighbours:
        """The `orders.most` nearest other real images of each, (N, k)."""
        return nearest_others(self.features, k=self.orders.most)

    @property
    def avg_knn(self) -> Scores:
        """See `augment.metrics.real_avg_knn`, (N,)."""
        return mean_distance(self.neighbours, self.orders.avg_knn)

    @property
    def lof(self) -> Scores:
        """See `augment.metrics.real_lof`, (N,)."""
        return outlier_factor(self.neighbours, self.neighbours, self.orders.lof)


def measure(generated: Vectors, reference: Reference) -> Measured:
    """Every score of a generated set, from one sweep against the reference and one of its own.

    Args:
        generated: floating (M, D), of the reference's encoder and device; M above
            `orders.precision`.
        reference: searched if it was not yet.

    Raises:
        ValueError: refused features, or too few.
    """
    orders, own = reference.orders, reference.neighbours
    generated, real = vectors_alike(generated=generated, real=reference.features)
    most = max(orders.avg_knn, orders.lof)
    found = Nearest(generated, real, most)
    held = {
        k: Balls(generated, real, own.distances[:, k - 1])
        for k in {orders.rarity, orders.precision, orders.density}
    }
    holding = Balls(real, generated, radii(generated, orders.precision))
    sweep(generated, real, found, *held.values(), lambda block: holding(block.transposed))
    neighbours = found.neighbours()
    density, coverage = density_and_coverage(held[orders.density], orders.density)
    return Measured(
        avg_knn=mean_distance(neighbours, orders.avg_knn),
        lof=outlier_factor(neighbours, own, orders.lof),
        rarity=smallest_radius(held[orders.rarity].smallest),
        inside=inside_any(held[orders.precision]),
        recalled=inside_any(holding),
        density=density,
        coverage=coverage,
    )
