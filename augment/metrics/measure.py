"""Sets of generated features against real ones: a row of measures a set, and a row an image.

How rare images are (AvgkNN, LOF, rarity) is measured against all the real ones; how faithful and
how diverse a set is (Frechet distance, precision, recall, density, coverage), against a reference:
all of them, or their tail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from augment.metrics.density import avg_knn, lof, rarity, real_avg_knn, real_lof
from augment.metrics.fidelity import density_coverage, frechet_distance, precision_mask

__all__ = ["Neighbours", "bootstrap_mean", "image_measures", "set_measures", "summary"]

Features = NDArray[np.float32]

_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """How many nearest neighbours each measure looks at."""

    avg_knn: int = 5
    """AvgkNN; the paper's 5."""
    lof: int = 20
    """LOF; the paper's 20."""
    rarity: int = 3
    """The rarity score's manifold; its code's default is 3, and 5 is usual too."""
    precision: int = 3
    """The manifolds of precision and recall; likewise."""
    coverage: int = 5
    """Those of density and coverage; prdc's 5."""

    def __post_init__(self) -> None:
        for name, k in asdict(self).items():
            if k < 1:
                raise ValueError(f"neighbours.{name} is {k}; allowed is 1 or more; give 3, say")


def image_measures(
    real: Features, generated: Features | None, k: Neighbours = Neighbours()
) -> pd.DataFrame:
    """How rare each image is among the real ones.

    Args:
        real: (R, D).
        generated: (N, D); None for the real images themselves, each without itself.
        k: numbers of neighbours.

    Returns:
        A row an image: avg_knn, lof, and rarity, NaN outside the real manifold; the real images,
        which that score is not defined for, have no such column.
    """
    if generated is None:
        return pd.DataFrame(
            {"avg_knn": real_avg_knn(real, k=k.avg_knn), "lof": real_lof(real, k=k.lof)}
        )
    return pd.DataFrame(
        {
            "avg_knn": avg_knn(generated, real, k=k.avg_knn),
            "lof": lof(generated, real, k=k.lof),
            "rarity": rarity(generated, real, k=k.rarity),
        }
    )


def set_measures(
    reference: Features, generated: Features, k: Neighbours = Neighbours()
) -> dict[str, float]:
    """How faithful and how diverse a set is, with the intervals of `bootstrap_mean`.

    Args:
        reference: real, (R, D).
        generated: (N, D).
        k: numbers of neighbours.

    Returns:
        frechet, precision and recall with their `_low` and `_high`, density, coverage.
    """
    density, coverage = density_coverage(reference, generated, k=k.coverage)
    precise = precision_mask(generated, reference, k=k.precision)
    recalled = precision_mask(reference, generated, k=k.precision)
    return {
        "frechet": frechet_distance(reference, generated),
        **_with_interval("precision", precise.astype(float)),
        **_with_interval("recall", recalled.astype(float)),
        "density": density,
        "coverage": coverage,
    }


def summary(images: pd.DataFrame) -> dict[str, float]:
    """Means of `image_measures` over a set, with the intervals of `bootstrap_mean`.

    The rarity's is over the images in the manifold, whose share is `in_manifold`.
    """
    found = {str(name): column.to_numpy() for name, column in images.items()}
    if "rarity" in found:
        inside = ~np.isnan(found["rarity"])
        found["rarity"] = found["rarity"][inside]
        found["in_manifold"] = inside.astype(float)
    return {key: x for name in found for key, x in _with_interval(name, found[name]).items()}


def bootstrap_mean(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of a mean, of 1,000 resamples of the images; NaN of none."""
    if not len(values):
        return np.nan, np.nan
    generator = np.random.default_rng(seed)
    n = len(values)
    means = [values[generator.integers(n, size=n)].mean() for _ in range(_RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _with_interval(name: str, values: NDArray[np.float64]) -> Mapping[str, float]:
    low, high = bootstrap_mean(values)
    mean = float(values.mean()) if len(values) else np.nan
    return {name: mean, f"{name}_low": low, f"{name}_high": high}
