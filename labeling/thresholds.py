"""What labelled rows say of probabilities: where to cut, and how far they are too sure.

Both are fitted on real validation rows, never on test, and given up where they do harm on folds of
these that were left out of the fit: a few rows else say more than they know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from torchmetrics.functional.classification import binary_calibration_error

from labeling.card import DEFAULT_THRESHOLD

__all__ = [
    "Curve",
    "as_columns",
    "calibrated",
    "calibration_error",
    "fit_temperature",
    "fit_threshold",
    "fit_thresholds",
    "log_losses",
]

Floats = npt.NDArray[np.float64]
Cuts = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]

_TEMPERATURES = (0.05, 20.0)
_EDGE = 1e-7
"""Probabilities are kept this far from 0 and 1, whose log-odds are infinite; about float32's step
below 1."""
_FOLDS = 5


def fit_thresholds(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, attributes: Sequence[str]
) -> dict[str, float]:
    """`fit_threshold` of each attribute.

    Args:
        probabilities: float (N, A) in [0, 1]; NaN = no prediction.
        labels: float (N, A) of 1, 0 or NaN = unlabelled, for the same rows.
        attributes: the A names, in the order of the columns.

    Returns:
        name -> threshold t, meant as "present where p >= t".

    Raises:
        ValueError: the shapes do not fit together, or a label is neither 1, 0 nor NaN.
    """
    p, y = as_columns(probabilities, labels, len(attributes))
    return {name: fit_threshold(p[:, i], y[:, i]) for i, name in enumerate(attributes)}


def fit_threshold(p: Floats, y: Floats) -> float:
    """The F1-optimal threshold t, meant as "present where p >= t", exact over all possible ones.

    t lies half-way between the two neighbouring probabilities it separates, or half-way to 0 below
    the smallest. Among equally good ones the highest is taken. It is 0.5 where thresholds fitted
    without a fold are worse on that fold than 0.5 (by the F1 of all folds together), or where there
    are not two rows of each value to tell.

    Args:
        p: float64 (N,) probabilities in [0, 1].
        y: float64 (N,) labels 1, 0 or NaN = unlabelled, left out.
    """
    known = ~np.isnan(y)
    p, y = p[known], y[known]
    if not (folds := _folds(y)):
        return DEFAULT_THRESHOLD
    decided = np.zeros(len(y), dtype=np.bool_)
    for fitted, judged in folds:
        decided[judged] = p[judged] >= Curve.of(p[fitted], y[fitted]).best
    default = f1_score(y, p >= DEFAULT_THRESHOLD, zero_division=0)
    harms = f1_score(y, decided, zero_division=0) < default
    return DEFAULT_THRESHOLD if harms else Curve.of(p, y).best


def _folds(y: Floats) -> list[tuple[Rows, Rows]]:
    """Rows to fit on and rows to judge, of labels 1 or 0; none where a fold would lack a value."""
    count = min(_FOLDS, int((y == 1).sum()), int((y == 0).sum()))
    return [] if count < 2 else list(StratifiedKFold(count).split(y, y))


def as_columns(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, n_attributes: int
) -> tuple[Floats, Floats]:
    """Both as float64 (N, A), checked. A row without either value is NaN in both."""
    p, y = np.array(probabilities, dtype=np.float64), np.array(labels, dtype=np.float64)
    if p.shape != y.shape or p.ndim != 2 or p.shape[1] != n_attributes:
        raise ValueError(
            f"probabilities are {p.shape} and labels {y.shape} for {n_attributes} attributes; "
            "both have to be (rows, attributes); pass the same rows, one column per attribute"
        )
    unusable = np.isnan(p) | np.isnan(y)
    p[unusable] = y[unusable] = np.nan
    bad = ~unusable & ((y != 0) & (y != 1))
    if bad.any():
        raise ValueError(f"a label is {y[bad][0]:g}; it has to be 1, 0 or NaN; convert them first")
    return p, y


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Everything a threshold can do on labelled rows: counts of "present where p >= cut", one entry
    for each of K possible cuts, descending.
    """

    cuts: Floats
    """Half-way between two neighbouring probabilities, the last half-way from the smallest to 0."""
    called: Floats
    """Rows called present."""
    true: Floats
    """Those of them that are."""
    n: int
    """All rows."""
    n_positive: int
    """Rows that are present."""

    @classmethod
    def of(cls, p: Floats, y: Floats) -> Curve:
        """The curve of probabilities (N,) and labels 1, 0 or NaN = unlabelled, left out, (N,)."""
        known = ~np.isnan(y)
        p, y = p[known], y[known]
        values, row_of = np.unique(-p, return_inverse=True)  # descending probabilities
        values = -values
        return cls(
            cuts=(values + np.append(values[1:], 0.0)) / 2,
            called=np.cumsum(np.bincount(row_of)).astype(np.float64),
            true=np.cumsum(np.bincount(row_of, weights=y)),
            n=len(y),
            n_positive=int(y.sum()),
        )

    @property
    def f1(self) -> Floats:
        """F1 of the positive class, by cut."""
        return 2 * self.true / (self.called + self.n_positive)

    @property
    def best(self) -> float:
        """The cut of the highest F1, the highest among equals; 0.5 where the rows do not hold both
        values.
        """
        weighable = 0 < self.n_positive < self.n
        return float(self.cuts[np.argmax(self.f1)]) if weighable else DEFAULT_THRESHOLD

    def precise_present(self, wanted: float, min_count: int) -> Cuts:
        """Cuts at which `present` is right as often as wanted, on `min_count` rows at least."""
        return (self.called >= min_count) & (self.true >= wanted * self.called)

    def precise_absent(self, wanted: float, min_count: int) -> Cuts:
        """Cuts at which `absent` is right as often as wanted, on `min_count` rows at least."""
        called = self.n - self.called
        true = called - (self.n_positive - self.true)
        return (called >= min_count) & (true >= wanted * called)


def calibrated(p: Floats, temperature: float) -> Floats:
    """Temperature scaling (Guo et al., 2017, "On calibration of modern neural networks"):
    sigmoid(logit(p) / temperature), elementwise; p itself where the temperature is 1.
    """
    if temperature == 1:
        return p
    scaled: Floats = expit(logit(np.clip(p, _EDGE, 1 - _EDGE)) / temperature)
    return scaled


def fit_temperature(p: Floats, y: Floats) -> float:
    """The most probable temperature, whose logarithm is standard normal before any row is seen.

    That prior weighs about as much as one row: it decides only where the likelihood alone would
    send the temperature to 0, since the rows happen to be told apart without error. It is 1 where
    temperatures fitted without a fold do not lower that fold's log-loss (all folds together).

    Args:
        p: float64 (N,) probabilities in [0, 1].
        y: float64 (N,) labels 1 or 0, of both values.

    Returns:
        A number in [0.05, 20]: above 1 for a labeler that is too sure of itself.
    """
    gain = 0.0
    for fitted, judged in _folds(y):
        found = _most_probable_temperature(p[fitted], y[fitted])
        plain, scaled = (log_losses(p[judged], y[judged], t) for t in (1.0, found))
        gain += float((plain - scaled).sum())
    return _most_probable_temperature(p, y) if gain > 0 else 1.0


def log_losses(p: Floats, y: Floats, temperature: float) -> Floats:
    """Log-loss (nats) of each probability (N,) at a temperature; labels 1 or 0 (N,)."""
    margin = (1 - 2 * y) * logit(np.clip(p, _EDGE, 1 - _EDGE)) / temperature
    losses: Floats = np.logaddexp(0.0, margin)
    return losses


def _most_probable_temperature(p: Floats, y: Floats) -> float:
    def loss(log_temperature: float) -> float:
        losses = log_losses(p, y, float(np.exp(log_temperature)))
        return float(losses.sum() + log_temperature**2 / 2)

    bounds = tuple(np.log(_TEMPERATURES))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def calibration_error(p: Floats, y: Floats) -> float:
    """Expected calibration error of probabilities (N,) and labels 1 or 0 (N,), over 15 equally wide
    bins, by torchmetrics.
    """
    p_tensor, y_tensor = torch.from_numpy(p.copy()), torch.from_numpy(y.copy()).int()
    return float(binary_calibration_error(p_tensor, y_tensor, n_bins=15, norm="l1"))
