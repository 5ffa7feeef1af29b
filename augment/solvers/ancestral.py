"""Ancestral sampling, the paper's sampler (Ho et al. 2020, algorithm 2; Nichol & Dhariwal 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from augment.solvers.contract import Estimate, Transition

__all__ = ["Ancestral"]


@dataclass(frozen=True)
class Ancestral:
    """Draw x_{i-1} from N(mean of q(x_{i-1} | x_i, x0), Sigma_i), Sigma_i being the model's.

    The last step adds no noise; its Sigma_0, by which the guidance of that step is scaled, takes
    beta~_1 for beta~_0 = 0, as guided-diffusion does.
    """

    def step(self, at: Estimate) -> Transition:
        mean = at.schedule.posterior_mean(at.x0, at.x_i, at.i)
        std = torch.exp(0.5 * at.log_variance) if at.i else None
        return Transition(mean, std, at.log_variance)
