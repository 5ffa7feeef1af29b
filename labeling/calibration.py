"""Temperature scaling (Guo et al., 2017, "On calibration of modern neural networks"), with a weak
prior at 1, so that rows that happen to be told apart without error do not call for certainty.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from torchmetrics.functional.classification import binary_calibration_error

__all__ = ["calibrated", "calibration_error", "fit_temperature"]

Floats = npt.NDArray[np.float64]

_BOUNDS = (0.05, 20.0)
_EDGE = 1e-7
"""Probabilities are kept this far from 0 and 1, whose log-odds are infinite; about float32's step
below 1."""


def calibrated(p: Floats, temperature: float) -> Floats:
    """sigmoid(logit(p) / temperature), elementwise; p itself where the temperature is 1."""
    if temperature == 1:
        return p
    scaled: Floats = expit(logit(np.clip(p, _EDGE, 1 - _EDGE)) / temperature)
    return scaled


def fit_temperature(p: Floats, y: Floats) -> float:
    """The most probable temperature, whose logarithm is standard normal before any row is seen.

    That prior weighs about as much as one row: it decides only where the likelihood alone would
    send the temperature to 0.

    Args:
        p: float64 (N,) probabilities in [0, 1].
        y: float64 (N,) labels 1 or 0, of both values.

    Returns:
        A number in [0.05, 20]: above 1 for a labeler that is too sure of itself.
    """
    log_odds = logit(np.clip(p, _EDGE, 1 - _EDGE))

    def loss(log_temperature: float) -> float:
        margin = (1 - 2 * y) * log_odds / np.exp(log_temperature)
        return float(np.logaddexp(0.0, margin).sum() + log_temperature**2 / 2)

    bounds = tuple(np.log(_BOUNDS))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def calibration_error(p: Floats, y: Floats, *, bins: int = 15) -> float:
    """Expected calibration error, over equally wide bins, by torchmetrics.

    Args:
        p: float64 (N,) probabilities in [0, 1].
        y: float64 (N,) labels 1 or 0.
        bins: how many.
    """
    error = binary_calibration_error(
        torch.from_numpy(p.copy()), torch.from_numpy(y.copy()).int(), n_bins=bins, norm="l1"
    )
    return float(error)
