"""How phantoms are distributed, and the density of any picture under it.

The anatomy z is standard normal; findings are independent of it and of one another. As a picture is
linear in z, the clean pictures with the same findings fill a plane, on which their density is that
of z but for a constant factor: there is no Jacobian that depends on the picture.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
from numpy.typing import NDArray

from classify.datasets.phantoms.anatomy import FINDINGS, MODES, Floats, templates

__all__ = ["SLICES", "draw_subject", "log_density"]

SLICES = 4
"""Pictures of one subject."""
_NOISE = 4.0
"""Standard deviation of the noise of each pixel, in grey levels."""
_ALIKE = 0.8
"""Correlation of the anatomy between two slices of one subject."""
_CHUNK = 256
"""Pictures that are explained at a time, for each of which 11,550 explanations are weighed."""


def draw_subject(
    rng: np.random.Generator, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.int8], Floats]:
    """The slices of one subject, who has the same findings at the same sites in all of them.

    Returns:
        Pictures uint8 (SLICES, size, size); findings int8 (6,), 1 or 0 in the order of `FINDINGS`;
        the log-density float64 (SLICES,) of what was drawn, as `log_density` defines it.
    """
    mean, modes, sites = templates(size)
    places = np.array([[rng.choice(len(f.chances), p=f.chances) for f in FINDINGS.values()]])
    own = rng.standard_normal(len(MODES))
    of_slice = rng.standard_normal((SLICES, len(MODES)))
    z = np.sqrt(_ALIKE) * own + np.sqrt(1 - _ALIKE) * of_slice
    clean = mean + z @ modes + _one_hot(places) @ sites
    noisy = clean + _NOISE * rng.standard_normal(clean.shape)
    pictures = noisy.round().clip(0, 255).astype(np.uint8).reshape(SLICES, size, size)
    density = _log_prior(places) + _log_normal(z)
    return pictures, (places[0] > 0).astype(np.int8), density


def log_density(pictures: NDArray[np.uint8]) -> Floats:
    """Natural logarithm of the density of what each picture shows, whoever made it.

    That is its most probable explanation, the findings f at their sites and the anatomy z that
    maximise p(f) N(z; 0, 1) N(picture; clean picture of f and z, noise). There is so little noise
    that for a phantom it is what was drawn; a picture of anything else gets the density of the
    phantom nearest to it.

    Args:
        pictures: uint8 (N, size, size).

    Returns:
        float64 (N,), log p(f) + log N(z; 0, 1) in nats.
    """
    mean, modes, sites = templates(pictures.shape[-1])
    # With A the inverse covariance of a picture of known findings, a picture x with findings s has
    # log p(s | x) = log p(s) - (x - s)' A (x - s) / 2 + const; Woodbury's identity gives A.
    inner = modes @ modes.T + _NOISE**2 * np.eye(len(modes))
    weighted = (sites - sites @ modes.T @ np.linalg.solve(inner, modes)) / _NOISE**2
    explanations = _explanations()
    present = _one_hot(explanations)
    own = _log_prior(explanations) - ((present @ (weighted @ sites.T)) * present).sum(axis=1) / 2
    found = []
    for start in range(0, len(pictures), _CHUNK):
        x = pictures[start : start + _CHUNK].reshape(-1, mean.size) - mean
        best = (own + x @ weighted.T @ present.T).argmax(axis=1)
        z = np.linalg.solve(inner, modes @ (x - present[best] @ sites).T).T
        found.append(_log_prior(explanations[best]) + _log_normal(z))
    return np.concatenate(found) if found else np.empty(0)


@cache
def _explanations() -> NDArray[np.int64]:
    """Every combination of findings (11550, 6): 0 for absent, else the number of the site."""
    return np.array(list(itertools.product(*(range(len(f.chances)) for f in FINDINGS.values()))))


def _one_hot(places: NDArray[np.int64]) -> Floats:
    """Which sites are occupied (N, 27), of the number of the site of each finding (N, 6)."""
    columns = places.T
    blocks = [
        np.eye(len(f.chances))[column, 1:]
        for f, column in zip(FINDINGS.values(), columns, strict=True)
    ]
    return np.concatenate(blocks, axis=1)


def _log_prior(places: NDArray[np.int64]) -> Floats:
    """Log probability of findings at their sites, in nats, (N,)."""
    columns = places.T
    logs = [np.log(f.chances)[column] for f, column in zip(FINDINGS.values(), columns, strict=True)]
    total: Floats = np.sum(logs, axis=0)
    return total


def _log_normal(z: Floats) -> Floats:
    density: Floats = -(z**2 + np.log(2 * np.pi)).sum(axis=1) / 2
    return density
