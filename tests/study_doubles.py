"""A simulated study whose true difference is known: what seeds and images do to it is set apart.

Attribute k of image i gets, in arm a and seed s, the logit

    (2 y_ki - 1) (1 + gain_a + u_as) + x_aki + e_aski

with normal u (seeds), x (images) and e (both together). Given u, hits are normal tail
probabilities, so that the expected F1 is an integral over u.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class SimulatedStudy:
    """Two arms, `real` and `minority`."""

    seeds: int
    of_seed: float
    """Standard deviation of u."""
    of_image: float
    """Standard deviation of x."""
    of_both: float = 0.5
    """Standard deviation of e."""
    gain: float = 0.0
    """Of `minority`, on the logit."""
    images: int = 400
    shares: tuple[float, ...] = (0.1, 0.3, 0.5)
    """Of positives, by attribute."""

    @property
    def attributes(self) -> list[str]:
        return [f"a{i}" for i in range(len(self.shares))]

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], Arrays]:
        """Labels (N, A) and probabilities, arm -> (S, N, A)."""
        shape = (self.images, len(self.shares))
        labels = (rng.random(shape) < self.shares).astype(np.float32)
        probabilities = {}
        for arm, gain in (("real", 0.0), ("minority", self.gain)):
            skill = 1 + gain + rng.normal(0, self.of_seed, (self.seeds, 1, 1))
            noise = rng.normal(0, self.of_image, shape)
            noise = noise + rng.normal(0, self.of_both, (self.seeds, *shape))
            logits = (2 * labels - 1) * skill + noise
            probabilities[arm] = special.expit(logits).astype(np.float32)
        return labels, probabilities

    def difference(self) -> float:
        """The true difference in macro F1."""
        return self._macro_f1(self.gain) - self._macro_f1(0.0)

    def _macro_f1(self, gain: float) -> float:
        nodes, weights = np.polynomial.hermite_e.hermegauss(40)
        skill = 1 + gain + self.of_seed * nodes
        hit = stats.norm.cdf(skill / np.hypot(self.of_image, self.of_both))
        share = np.array(self.shares)[:, None]
        f1 = 2 * share * hit / (share * hit + (1 - share) * (1 - hit) + share)
        return float((f1 @ weights).mean() / weights.sum())
