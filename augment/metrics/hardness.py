"""The hardness score: how unlikely an image's features are under a Gaussian of its class.

    H(x, y) = 1/2 [ (f - mu_y)' S_y^-1 (f - mu_y) + ln det S_y + D ln 2 pi ]

with mean and covariance of the features of real images of the class; the higher, the less dense.

Reference: Sehwag et al. 2022, "Generating High Fidelity Data from Low-density Regions using
Diffusion Models", https://arxiv.org/abs/2203.17260
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from augment.metrics.vectors import Vectors, vectors

__all__ = ["Hardness"]


@dataclass(frozen=True)
class Hardness:
    """Gaussians of K classes, called with features."""

    means: Tensor
    """(K, D), float64."""
    factors: Tensor
    """Inverse Cholesky factors, (K, D, D), float64: of L L' = S, the L^-1."""
    log_determinants: Tensor
    """ln det S, (K,), float64."""

    @classmethod
    def fitted(
        cls, real: Vectors, classes: Tensor | None = None, *, shrinkage: float = 0.1
    ) -> Hardness:
        """The Gaussians of real images.

        Args:
            real: features, floating (N, D).
            classes: int64 (N,), 0..K-1, each of them with an image; left out, all are of one class.
            shrinkage: r of (1 - r) S + r tr(S) / D I, in (0, 1]: of fewer images than features, S
                alone has no inverse.

        Raises:
            ValueError: a shrinkage outside, a class without image, or features that do not vary.
        """
        if not 0 < shrinkage <= 1:
            raise ValueError(f"shrinkage is {shrinkage}; give a number above 0, at most 1")
        features = vectors("real", real).double()
        own = torch.zeros(len(features), dtype=torch.int64) if classes is None else classes.cpu()
        means, factors, determinants = [], [], []
        for one in range(int(own.max()) + 1):
            rows = features[own.to(features.device) == one]
            if not len(rows):
                raise ValueError(f"class {one} has no image; number the classes that have some")
            mean, identity = rows.mean(dim=0), torch.eye(features.shape[1]).to(features)
            covariance = (rows - mean).T @ (rows - mean) / len(rows)
            variance = covariance.trace() / len(identity)
            if not variance > 0:
                raise ValueError(
                    f"the features of class {one} do not vary; give more images of it, or none"
                )
            shrunk = (1 - shrinkage) * covariance + shrinkage * variance * identity
            factor = torch.linalg.cholesky(shrunk)
            means.append(mean)
            factors.append(torch.linalg.solve_triangular(factor, identity, upper=False))
            determinants.append(2 * factor.diagonal().log().sum())
        return cls(torch.stack(means), torch.stack(factors), torch.stack(determinants))

    def __call__(self, features: Tensor, classes: Tensor | None = None) -> Tensor:
        """H of each image, in nats, float64 (B,), differentiable.

        Args:
            features: floating (B, D), on the device of the real ones.
            classes: int64 (B,); left out, all are of class 0.
        """
        known = self.means.device
        own = torch.zeros(len(features), dtype=torch.int64) if classes is None else classes
        own = own.to(known)
        away = features.double() - self.means[own]
        whitened = torch.einsum("bij,bj->bi", self.factors[own], away)
        constant = features.shape[1] * math.log(2 * math.pi)
        return 0.5 * (whitened.square().sum(dim=1) + self.log_determinants[own] + constant)
