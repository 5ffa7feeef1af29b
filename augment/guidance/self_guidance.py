"""Self-guidance towards minority samples (Um & Ye, ECCV 2024, Algorithm 1, https://arxiv.org/abs/2407.11555).

A sample of low density loses its features when it is noised and denoised once more. The pretrained
model measures that by itself:

    L(x_i) = d( x0h(x_i), sg[x0h(x_s)] )                                                    (Eq. 7)
    x_s = sqrt(alpha_bar_s) x0h(x_i) + sqrt(1 - alpha_bar_s) e

and the reverse mean is moved up its gradient, scaled by the sampler's own variance:

    mean_i <- mean_i + w Sigma_i g / |g|_inf,      g = grad L(x_i)                          (Eq. 9)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from augment.distance import L2, Distance
from augment.guidance.contract import ReverseStep

__all__ = ["SelfGuidance", "SelfGuidanceConfig"]


@dataclass(frozen=True, kw_only=True)
class SelfGuidanceConfig:
    """How strongly, how often and where; the defaults are the official code's for CelebA."""

    scale: float = 0.4
    """w, the strength in units of the sampler's variance; 0 gives plain sampling."""
    every: int = 5
    """Guide the steps whose index is a multiple of this; the last step is always among them."""
    perturb: float = 0.8
    """Where the estimate is noised again, as a fraction of the steps, within [0, 1)."""

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise ValueError(
                f"guidance.scale is {self.scale}; allowed are numbers from 0 (no guidance) up; "
                "0.4 is the paper's for CelebA"
            )
        if self.every < 1:
            raise ValueError(
                f"guidance.every is {self.every}; give 1 to guide every step, 5 for every fifth"
            )
        if not 0 <= self.perturb < 1:
            raise ValueError(
                f"guidance.perturb is {self.perturb}; allowed is [0, 1), a fraction of the steps; "
                "0.8 is the paper's for cosine schedules"
            )


@dataclass(frozen=True, kw_only=True)
class SelfGuidance(SelfGuidanceConfig):
    """The paper's guidance, with its distance.

    The gradient runs through the first argument of the distance alone, through the sampler's own
    forward pass, so that a guided step costs two forwards and one backward. It is normalised by its
    largest entry (the released code's reading of "unit norm").
    """

    distance: Distance = field(default_factory=L2)
    """d; `LPIPS()` is the paper's and needs its trunk's weights, the default needs nothing."""

    def active(self, i: int, steps: int) -> bool:
        return self.scale > 0 and i % self.every == 0

    def shift(self, step: ReverseStep) -> Tensor:
        with torch.no_grad():
            again = self._denoised_again(step)
        loss = self.distance(step.x0, again).sum()
        (gradient,) = torch.autograd.grad(loss, step.x_i)
        return self.scale * step.variance * unit_max(gradient)

    def _denoised_again(self, step: ReverseStep) -> Tensor:
        """Noise the estimate to x_s and estimate once more, unclipped."""
        # Rounded a little up first: int(100 * .29) would be 28.
        s = min(int(len(step.schedule) * self.perturb + 1e-9), len(step.schedule) - 1)
        x_s = step.schedule.q_sample(step.x0.detach(), s, step.perturbation.draw())
        return step.schedule.predict_x0(x_s, s, step.denoiser(x_s, s, step.schedule).eps)


def unit_max(gradient: Tensor) -> Tensor:
    """Divide each sample (B, C, H, W) by its largest absolute entry.

    A zero or non-finite gradient gives a zero shift.
    """
    largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
    usable = (largest > 0) & largest.isfinite()
    return torch.where(usable, gradient / torch.where(usable, largest, 1), 0)
