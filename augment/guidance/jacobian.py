"""JEPA guidance: to images that an encoder knows little of (ICML 2026).

    mean_i <- mean_i + w Sigma_i g / |g|_inf,      g = -grad_{x_i} sum_j log s_j(J(x0h(x_i)))

s_j are the singular values of the Jacobian J of an encoder of clean images. Their sum of logarithms
is the JEPA score, which is high where the encoder's training images were dense. The official code
takes the 9 largest of DINOv2's, by a randomised decomposition with finite differences, and moves
x_i before a plain step; here the products with J are exact, and the shift is the reverse mean's.

A network of ReLU and linear layers alone has a Jacobian that is constant almost everywhere, and so
no gradient: the sampler counts its images as unguided. GELU, SiLU and normalisation have one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from augment.guidance.ascent import Ascent
from augment.guidance.attributes import SteeringLabeler
from augment.guidance.strength import Strength
from augment.step import Step

__all__ = ["JacobianGuidance", "JacobianGuidanceConfig", "LogOdds"]


@dataclass(frozen=True, kw_only=True)
class JacobianGuidanceConfig(Strength):
    """How strongly, how often, and how much of the Jacobian is looked at."""

    rank: int | None = None
    """k, how many of the largest singular values count, found by a randomised decomposition; the
    original's is 9. Left out, all of them, by the exact Jacobian: for encoders of few outputs."""
    oversample: int = 2
    """Further random directions of the decomposition."""
    iterations: int = 2
    """Power iterations of the decomposition."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank is not None and self.rank < 1:
            raise ValueError(
                f"jacobian.rank is {self.rank}; give at least 1, or leave it out for all"
            )
        for name in ("oversample", "iterations"):
            if getattr(self, name) < 0:
                raise ValueError(f"jacobian.{name} is {getattr(self, name)}; give 0 or more")


@dataclass(frozen=True, kw_only=True)
class JacobianGuidance(JacobianGuidanceConfig, Ascent):
    """Down the JEPA score of the estimated image.

    A step costs one backward pass through the denoiser and none of its forwards. The exact form
    adds one forward and K backward passes of the encoder, differentiated once more; the randomised
    one two forwards, r of those, and r (3 + 2 iterations) products without a graph, r being `rank`
    + `oversample`.
    """

    encoder: Callable[[Tensor], Tensor]
    """Differentiable twice: float images (B, C, H, W), about [-1, 1], not clipped, to (B, K). Of
    its `repr` a folder's record is made."""

    def measure(self, step: Step, x0: Tensor) -> Tensor:
        """The score's negative, (B,)."""
        with sdpa_kernel(SDPBackend.MATH):  # the other kernels have no second derivative
            directions = self._directions(step, x0.detach())
            outputs = self.encoder(step.images(x0))
            if directions is None:
                whole = torch.eye(outputs.shape[1]).to(outputs)
                directions = whole.expand(len(outputs), -1, -1)
            rows = [
                torch.autograd.grad(outputs, x0, direction, create_graph=True)[0].flatten(1)
                for direction in directions.unbind(dim=1)
            ]
        jacobian = torch.stack(rows, dim=1).double()
        # Of the singular values, ascending.
        squares: Tensor = torch.linalg.eigvalsh(jacobian @ jacobian.mT)
        score = squares[:, -(self.rank or 0) :].log().sum(dim=1) / 2
        # An encoder whose Jacobian is constant leaves a graph, and a gradient of zero.
        return -score.to(x0.dtype) + 0 * x0.flatten(1).sum(dim=1)

    def _directions(self, step: Step, x0: Tensor) -> Tensor | None:
        """Orthonormal directions of the output that hold the largest singular values, detached,
        (B, r, K); None for all. Subspace iteration (Halko et al. 2011, algorithm 4.4).
        """
        if self.rank is None:
            return None
        x0 = x0.requires_grad_(True)
        outputs = self.encoder(step.images(x0))
        # What is linear in `along` has J as its derivative, transposed: no finite differences.
        along = torch.zeros_like(outputs, requires_grad=True)
        (back,) = torch.autograd.grad(outputs, x0, along, create_graph=True)

        def products(of: Tensor, at: Tensor, vectors: Tensor) -> Tensor:
            found = [
                torch.autograd.grad(of, at, vector.reshape_as(of), retain_graph=True)[0].flatten(1)
                for vector in vectors.unbind(dim=1)
            ]
            return _orthonormal(torch.stack(found, dim=1))

        count = min(self.rank + self.oversample, outputs.shape[1])
        probes = torch.stack([step.perturbation.draw() for _ in range(count)], dim=1)
        found = products(back, along, probes)
        for _ in range(self.iterations):
            found = products(back, along, products(outputs, x0, found))
        return found


@dataclass(frozen=True, repr=False)
class LogOdds:
    """A labeler as an encoder of images: its log-odds, one output an attribute."""

    labeler: SteeringLabeler

    def __repr__(self) -> str:
        return f"LogOdds({self.labeler.sha256[:16]!r})"

    def __call__(self, images: Tensor) -> Tensor:
        """(B, A) of float images (B, 1 or 3, H, W), about [-1, 1], not clipped."""
        return self.labeler.log_odds(((images + 1) / 2).expand(-1, 3, -1, -1))


def _orthonormal(rows: Tensor) -> Tensor:
    """An orthonormal basis of the same span, (B, r, K), of rows of that shape, r <= K."""
    columns: Tensor = torch.linalg.qr(rows.mT).Q
    return columns.mT
