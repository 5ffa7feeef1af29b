"""Decision thresholds that maximise F1, fitted on real validation rows (never on test)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from labeling.card import DEFAULT_THRESHOLD
from labeling.curve import Curve

__all__ = ["as_columns", "best_threshold", "fit_thresholds"]


def fit_thresholds(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, attributes: Sequence[str]
) -> dict[str, float]:
    """The F1-optimal threshold of each attribute, exact over all possible thresholds.

    Args:
        probabilities: float (N, A) in [0, 1]; NaN = no prediction.
        labels: float (N, A) of 1, 0 or NaN = unlabelled, for the same rows.
        attributes: the A names, in the order of the columns.

    Returns:
        name -> threshold t, meant as "present where p >= t". t lies half-way between the two
        neighbouring probabilities it separates, or half-way to 0 below the smallest. Among equally
        good ones the highest is taken. 0.5 where the labelled rows do not hold both values, since
        nothing can be weighed there.
    """
    p, y = as_columns(probabilities, labels, len(attributes))
    return {name: best_threshold(Curve.of(p[:, i], y[:, i])) for i, name in enumerate(attributes)}


def as_columns(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, n_attributes: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both as float64 (N, A), checked. A row without either value is NaN in both."""
    p, y = np.array(probabilities, dtype=np.float64), np.array(labels, dtype=np.float64)
    if p.shape != y.shape or p.ndim != 2 or p.shape[1] != n_attributes:
        raise ValueError(
            f"probabilities are {p.shape} and labels {y.shape} for {n_attributes} attributes; "
            "expected (rows, attributes) for both; pass the same rows, one column an attribute"
        )
    unusable = np.isnan(p) | np.isnan(y)
    p[unusable] = y[unusable] = np.nan
    bad = ~unusable & ((y != 0) & (y != 1))
    if bad.any():
        raise ValueError(f"labels hold {y[bad][0]:g}; expected 1, 0 or NaN; convert them first")
    return p, y


def best_threshold(curve: Curve) -> float:
    """The cut of the highest F1, the highest among equals; 0.5 where nothing can be weighed."""
    return float(curve.cuts[np.argmax(curve.f1)]) if curve.holds_both else DEFAULT_THRESHOLD
