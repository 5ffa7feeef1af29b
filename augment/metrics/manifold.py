"""Fidelity and diversity by the overlap of two sets' manifolds, each the union of balls.

A ball reaches from an image to the k-th nearest other one of its set, and is open. Every function
takes floating features (N, D), tensors or arrays, and raises ValueError for others and for a k that
a set is too small for. For several of these, let `Reference` search once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from augment.metrics.balls import Balls, balls_of, radii
from augment.metrics.distances import sweep
from augment.metrics.vectors import Vectors, vectors_alike

__all__ = ["density_coverage", "precision_mask", "precision_recall"]


def precision_recall(real: Vectors, generated: Vectors, *, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019).

    Precision is the fraction of generated images inside any real ball, recall that of real images
    inside any generated one. A collapsed generator has high precision and low recall.

    Args:
        real: (N, D).
        generated: (M, D).
        k: 1 to min(N, M) - 1.

    Returns:
        Precision and recall in [0, 1].
    """
    real, generated = vectors_alike(real=real, generated=generated)
    held = Balls(generated, real, radii(real, k))
    holding = Balls(real, generated, radii(generated, k))
    sweep(generated, real, held, lambda block: holding(block.transposed))
    return _fraction(held), _fraction(holding)


def density_coverage(real: Vectors, generated: Vectors, *, k: int = 5) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020), which one outlier's large ball does not distort.

    Density is the mean number of real balls that hold a generated image, over k; coverage the
    fraction of real balls that hold any.

    Args:
        real: (N, D).
        generated: (M, D), one row at least.
        k: 1 to N - 1.

    Returns:
        Density, at least 0 and around 1 for equal distributions, and coverage in [0, 1].
    """
    real, generated = vectors_alike(real=real, generated=generated)
    return density_and_coverage(balls_of(generated, real, radii(real, k)), k)


def precision_mask(generated: Vectors, real: Vectors, *, k: int = 3) -> npt.NDArray[np.bool_]:
    """Which generated images lie inside any real ball: bool (M,), whose mean is the precision.

    Args:
        generated: (M, D).
        real: (N, D).
        k: 1 to N - 1.
    """
    generated, real = vectors_alike(generated=generated, real=real)
    return inside_any(balls_of(generated, real, radii(real, k)))


def inside_any(found: Balls) -> npt.NDArray[np.bool_]:
    """Which rows lie inside any ball."""
    return (found.count > 0).cpu().numpy()


def density_and_coverage(found: Balls, k: int) -> tuple[float, float]:
    """From the balls of order k, as the rows lie in them."""
    density = found.count.double().mean() / k
    return float(density), float((found.members > 0).double().mean())


def _fraction(found: Balls) -> float:
    return float(inside_any(found).mean())
