"""Particle guidance: images of a group repel one another (Corso et al. 2024, https://arxiv.org/abs/2310.13102).

    mean_i <- mean_i + w Sigma_i F_i / |F_i|_inf,      F_i = -grad_{x_i} sum_{j != i} w_ij,
    w_ij = exp(-|f_i - f_j|^2 / h_i),                  h_i = median_j |f_i - f_j|^2 / log n

over the n images of a group, f being their noisy pixels or features of their estimates. It makes a
group diverse; an image alone, it leaves what it was.

The official code adds sigma_t = sqrt(1 / alpha_bar - 1) times F to the noise prediction, which has
no bound where alpha_bar goes to 0, as it does in cosine schedules. So the force is normalised here
as self-guidance's gradient is, and w means the same for both. The code's log(n - 1), which leaves
two particles without any force, is log n. Only the steps with sigma_t >= 1 are guided there: the
first half of a cosine schedule, and `switch_off` here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from augment.guidance.ascent import unit_max
from augment.guidance.strength import Strength
from augment.step import Step

__all__ = ["ParticleGuidance", "ParticleGuidanceConfig"]


@dataclass(frozen=True, kw_only=True)
class ParticleGuidanceConfig(Strength):
    """How strongly the images of a group repel one another."""

    section: ClassVar[str] = "particles"

    every: int = 1
    """Guide the steps whose index is a multiple of this; the original's is every step."""
    switch_off: float | None = 0.5
    """Leave the last steps alone, this fraction of all; .5 of a cosine schedule are the original's
    sigma_t below 1."""
    group: int = 4
    """How many images repel one another: those of seeds 0 to n - 1, of n to 2 n - 1, and so on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group < 2:
            raise ValueError(
                f"particles.group is {self.group}; give at least 2 images, which repel one another"
            )


@dataclass(frozen=True, kw_only=True)
class ParticleGuidance(ParticleGuidanceConfig):
    """Repels the images of seeds g n to g n + n - 1, which are made together.

    An image depends on its seed and its group alone: where seeds or a batch break a group, the
    sampler makes the whole of it and drops what was not asked for. A batch size that is a multiple
    of `group` wastes nothing. In pixels a step costs nothing of the denoiser's, in features these
    and one backward pass through them and the denoiser.
    """

    features: Callable[[Tensor], Tensor] | None = None
    """Differentiable, images (B, C, H, W), about [-1, 1], to (B, K); left out, the noisy pixels."""

    @property
    def through_denoiser(self) -> bool:
        return self.features is not None

    def shift(self, step: Step) -> Tensor:
        if self.features is None:
            points = step.x_i.detach().requires_grad_(True)
            (force,) = torch.autograd.grad(self._apartness(points, step.seeds).sum(), points)
        else:
            points = self.features(step.images(step.estimate))
            force = step.gradient(self._apartness(points, step.seeds))
        return self.amount(step) * unit_max(force)

    def _apartness(self, points: Tensor, seeds: tuple[int, ...]) -> Tensor:
        """-sum_j w_ij of each image, (B,), whose neighbours and width h are held fixed."""
        n = self.group
        if seeds != tuple(g + k for g in seeds[::n] for k in range(n)) or seeds[0] % n:
            raise ValueError(
                f"the seeds {seeds[0]} to {seeds[-1]} break a group of {n}; give whole groups one "
                f"after another, such as seeds 0 to {n - 1}, or use `sample`, which does"
            )
        of_group = points.reshape(len(points) // n, n, -1)
        apart = of_group[:, :, None] - of_group.detach()[:, None]
        squared = apart.square().sum(dim=-1)  # (groups, n, n)
        others = ~torch.eye(n, dtype=torch.bool, device=points.device)
        beside = squared[:, others].reshape(-1, n, n - 1)
        width = beside.detach().median(dim=-1, keepdim=True).values / math.log(n)
        return -torch.exp(-beside / width).sum(dim=-1).flatten()
