"""What was measured of a set, as table rows: one an image, and one for the whole set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from augment.metrics.bootstrap import mean_interval
from augment.metrics.fidelity import frechet_distance, kid
from augment.metrics.reference import Measured, Reference
from augment.metrics.vectors import Vectors

__all__ = ["distances", "fidelity", "image_rows", "rareness", "real_image_rows"]

_SUBSET = 1000
"""Images of a KID subset, as in the literature."""


def image_rows(measured: Measured) -> pd.DataFrame:
    """How rare each image is: avg_knn, lof, and rarity, NaN outside the real manifold."""
    return pd.DataFrame(
        {"avg_knn": measured.avg_knn, "lof": measured.lof, "rarity": measured.rarity}
    )


def real_image_rows(reference: Reference) -> pd.DataFrame:
    """How rare each real image is among the others: avg_knn and lof.

    The rarity score is not defined for them: each is the centre of one of the balls.
    """
    return pd.DataFrame({"avg_knn": reference.avg_knn, "lof": reference.lof})


def distances(generated: Vectors, real: Vectors) -> dict[str, float]:
    """How far a set's distribution is from the real one's.

    Args:
        generated: floating (N, D), N >= 2.
        real: floating (M, D), M >= 2.

    Returns:
        frechet; kid and kid_std, mean and standard deviation over 100 subsets, which are of half
        the smaller set where that is less than the usual 1000: its own subsets then still differ.
        KID is unbiased, so that their size changes its noise alone.
    """
    size = max(2, min(_SUBSET, len(generated) // 2, len(real) // 2))
    mean, deviation = kid(real, generated, subset_size=size)
    return {"frechet": frechet_distance(real, generated), "kid": mean, "kid_std": deviation}


def fidelity(measured: Measured) -> dict[str, float]:
    """How faithful and how diverse a set is.

    Returns:
        precision and recall with `_low` and `_high`, the ends of `mean_interval`; density and
        coverage.
    """
    return {
        **_with_interval("precision", measured.inside),
        **_with_interval("recall", measured.recalled),
        "density": measured.density,
        "coverage": measured.coverage,
    }


def rareness(images: pd.DataFrame) -> dict[str, float]:
    """Means over the rows of images, with the ends of `mean_interval`.

    The rarity's is over the images in the manifold, whose share is in_manifold.
    """
    columns = {str(name): column.to_numpy() for name, column in images.items()}
    if "rarity" in columns:
        columns["in_manifold"] = ~np.isnan(columns["rarity"])
    return {
        key: value
        for name, values in columns.items()
        for key, value in _with_interval(name, values).items()
    }


def _with_interval(name: str, values: npt.ArrayLike) -> Mapping[str, float]:
    mean, low, high = mean_interval(values)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}
