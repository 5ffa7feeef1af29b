"""The pictures a phantom is a sum of: a chest in cross-section, its modes of variation, findings.

    picture = mean + sum_j z_j mode_j + sum_k finding_k(site_k) + noise

Everything is linear, so that densities are exact (see `distribution`). Shapes are ellipses with
edges a pixel soft, in units of half the picture's side; shades are grey levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["FINDINGS", "MODES", "Finding", "templates"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Chest:
    """A cross-section without findings; the defaults are the mean."""

    width: float = 0.88
    depth: float = 0.70
    lung_width: float = 0.30
    lung_depth: float = 0.46
    heart: float = 0.24
    tissue: float = 120.0
    bone: float = 190.0
    air: float = 42.0


MODES: Mapping[str, float] = {
    "width": 0.045,
    "depth": 0.05,
    "lung_width": 0.03,
    "lung_depth": 0.045,
    "heart": 0.03,
    "tissue": 7.0,
    "bone": 10.0,
    "air": 6.0,
}
"""Standard deviation of each field of `Chest`; a mode is the picture's derivative times it."""


@dataclass(frozen=True)
class Finding:
    """What may be seen besides, at one of several sites."""

    probability: float
    """That a subject has it."""
    shade: float
    """Grey levels that it adds."""
    radii: tuple[float, float]
    """Radii of its ellipse: across and down."""
    sites: tuple[tuple[float, float], ...]
    """Centres, the most frequent first: site i has a chance in proportion to 1 / (i + 1)."""

    @property
    def chances(self) -> Floats:
        """Probability of absence, then of each site."""
        weights = 1 / np.arange(1, len(self.sites) + 1)
        return np.concatenate([[1 - self.probability], self.probability * weights / weights.sum()])


FINDINGS: Mapping[str, Finding] = {
    "Cardiomegaly": Finding(0.20, 55, (0.20, 0.22), ((-0.24, 0.0),)),
    "Effusion": Finding(0.12, 70, (0.24, 0.10), ((0.44, 0.28), (-0.44, 0.28))),
    "Nodule": Finding(
        0.08,
        80,
        (0.09, 0.09),
        (
            *((0.40, -0.22), (-0.46, -0.22), (0.52, 0.0), (-0.56, 0.05), (0.34, 0.10)),
            *((0.56, -0.16), (-0.38, -0.36), (-0.50, 0.18), (0.44, -0.38), (0.42, 0.22)),
        ),
    ),
    "Consolidation": Finding(
        0.05,
        45,
        (0.20, 0.17),
        ((0.44, -0.26), (-0.46, -0.24), (0.46, 0.08), (-0.50, 0.14)),
    ),
    "Calcification": Finding(
        0.03,
        75,
        (0.05, 0.05),
        ((0.0, -0.10), (0.06, 0.06), (-0.08, 0.10), (0.08, -0.24), (-0.06, -0.26), (0.0, 0.22)),
    ),
    "Mass": Finding(
        0.02,
        85,
        (0.16, 0.19),
        ((0.46, -0.06), (-0.48, -0.06), (0.42, -0.30), (-0.44, -0.30)),
    ),
}
"""Independent of each other and of the anatomy, the most frequent first."""


@cache
def templates(size: int) -> tuple[Floats, Floats, Floats]:
    """The pictures that phantoms are sums of, `size` pixels per side, flattened to P = size^2.

    Returns:
        The mean (P,), the modes (8, P), and the findings' sites (27, P) in the order of `FINDINGS`.
    """
    mean = Chest()
    modes = [
        (
            _chest(replace(mean, **{name: getattr(mean, name) + sd}), size)
            - _chest(replace(mean, **{name: getattr(mean, name) - sd}), size)
        )
        / 2
        for name, sd in MODES.items()
    ]
    sites = [
        finding.shade * _ellipse(size, site, finding.radii)
        for finding in FINDINGS.values()
        for site in finding.sites
    ]
    flat = [np.stack(pictures).reshape(len(pictures), -1) for pictures in (modes, sites)]
    return _chest(mean, size).ravel(), flat[0], flat[1]


def _chest(chest: Chest, size: int) -> Floats:
    """float64 (size, size): what lies further in covers what lies further out."""
    lung = chest.lung_width, chest.lung_depth
    layers = (
        ((0.0, 0.0), (chest.width, chest.depth), chest.tissue),
        ((0.45, -0.06), lung, chest.air),
        ((-0.45, -0.06), lung, chest.air),
        ((-0.06, 0.0), (chest.heart, 1.15 * chest.heart), chest.tissue + 15),
        ((0.0, 0.44), (0.13, 0.13), chest.bone),
    )
    picture = np.full((size, size), 32.0)
    for centre, radii, shade in layers:
        inside = _ellipse(size, centre, radii)
        picture += inside * (shade - picture)
    return picture


def _ellipse(size: int, centre: tuple[float, float], radii: tuple[float, float]) -> Floats:
    """1 inside, 0 outside, float64 (size, size)."""
    places = (2 * np.arange(size) + 1) / size - 1
    across, down = (places - centre[0]) / radii[0], (places - centre[1]) / radii[1]
    radius = np.hypot(across[None, :], down[:, None])
    return 1 / (1 + np.exp((radius - 1) * min(radii) * 2 * size / 2))
