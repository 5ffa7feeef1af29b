"""Denoising diffusion implicit models (Song, Meng & Ermon 2021, https://arxiv.org/abs/2010.02502)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from augment.solvers.contract import Estimate, Transition

__all__ = ["DDIM"]


@dataclass(frozen=True, kw_only=True)
class DDIM:
    """Eq. 12 there: x_{i-1} = sqrt(abar_{i-1}) x0 + sqrt(1 - abar_{i-1} - sigma^2) eps + sigma z.

    sigma^2 = eta^2 beta~_i, and eps is what the (clipped) x0 leaves of x_i, as in guided-diffusion.
    `eta` = 1 is ancestral sampling with the fixed small variance. A learned variance plays no part.

    The paper's code has no guided version (its `use_ddim` fails for want of an argument). Here the
    shift is counted in beta~_i at every eta, formally where there is no noise at all, and applied
    to x_{i-1}.
    """

    eta: float = 0.0
    """Share of the ancestral noise, 0 (none) to 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(
                f"eta is {self.eta}; allowed is 0 (no noise) to 1 (that of ancestral sampling)"
            )

    def step(self, at: Estimate) -> Transition:
        now, before = at.schedule.alpha_bar[at.i], at.schedule.alpha_bar_previous[at.i]
        variance = self.eta**2 * at.schedule.beta[at.i] * (1 - before) / (1 - now)
        on_x_i = math.sqrt((1 - before - variance) / (1 - now))
        on_x0 = math.sqrt(before) - on_x_i * math.sqrt(now)
        return Transition(
            on_x0 * at.x0 + on_x_i * at.x_i,
            torch.as_tensor(math.sqrt(variance), dtype=at.x_i.dtype) if variance > 0 else None,
            at.schedule.fixed_log_variance(at.i, at.x_i),
        )
