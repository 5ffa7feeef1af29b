"""Temperature scaling (Guo et al., 2017, "On calibration of modern neural networks"), with Platt's
(1999) targets, so that rows that happen to be told apart without error do not call for certainty.
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
    """The temperature of the smallest cross-entropy against Platt's targets.

    These are (n_1 + 1) / (n_1 + 2) for the n_1 rows of label 1 and 1 / (n_0 + 2) for the n_0
    others.

    Args:
        p: float64 (N,) probabilities in [0, 1].
        y: float64 (N,) labels 1 or 0, of both values.

    Returns:
        A number in [0.05, 20]: above 1 for a labeler that is too sure of itself.
    """
    log_odds = logit(np.clip(p, _EDGE, 1 - _EDGE))
    n_positive = y.sum()
    target = np.where(y == 1, (n_positive + 1) / (n_positive + 2), 1 / (len(y) - n_positive + 2))

    def loss(log_temperature: float) -> float:
        scaled = log_odds / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0.0, scaled) - target * scaled))

    # In the inverse temperature the loss is convex, so it has one minimum in its logarithm as well.
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
