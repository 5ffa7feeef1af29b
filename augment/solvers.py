"""Update rules of the reverse process: values handed to the sampler."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from augment.schedule import Schedule
from augment.step import Solver, Step, Transition

__all__ = ["DDIM", "Ancestral", "DPMSolver2M", "Solver"]


@dataclass(frozen=True, kw_only=True)
class Ancestral:
    """Ancestral sampling, the paper's (Ho et al. 2020, algorithm 2; Nichol & Dhariwal 2021).

    x_{i-1} is drawn from N(mean of q(x_{i-1} | x_i, x0), Sigma_i), Sigma_i being the model's. The
    last step adds no noise; its Sigma_0, by which the guidance of that step is scaled, takes
    beta~_1 for beta~_0 = 0, as guided-diffusion does.
    """

    temperature: float = 1.0
    """Factor of the noise's variance; guidance is counted in the model's own."""

    def step(self, at: Step) -> Transition:
        mean = at.schedule.posterior_mean(at.x0, at.x_i, at.i)
        std = math.sqrt(self.temperature) * torch.exp(0.5 * at.log_variance) if at.i else None
        return Transition(mean, std, at.log_variance)


@dataclass(frozen=True, kw_only=True)
class DDIM:
    """Denoising diffusion implicit models (Song et al. 2021, https://arxiv.org/abs/2010.02502).

    Eq. 12 there: x_{i-1} = sqrt(abar_{i-1}) x0 + sqrt(1 - abar_{i-1} - sigma^2) eps + sigma z, with
    sigma^2 = eta^2 beta~_i, and eps what the (clipped) x0 leaves of x_i, as in guided-diffusion.
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
                f"eta is {self.eta}; give 0 (no noise) to 1 (that of ancestral sampling)"
            )

    def step(self, at: Step) -> Transition:
        now, before = at.schedule.alpha_bar[at.i], at.schedule.alpha_bar_previous[at.i]
        variance = self.eta**2 * at.schedule.beta[at.i] * (1 - before) / (1 - now)
        on_x_i = math.sqrt((1 - before - variance) / (1 - now))
        on_x0 = math.sqrt(before) - on_x_i * math.sqrt(now)
        return Transition(
            on_x0 * at.x0 + on_x_i * at.x_i,
            at.x_i.new_tensor(math.sqrt(variance)) if variance > 0 else None,
            at.schedule.fixed_log_variance(at.i, at.x_i),
        )


@dataclass(frozen=True)
class DPMSolver2M:
    """DPM-Solver++(2M), multistep, of second order (Lu et al. 2022, algorithm 2,
    https://arxiv.org/abs/2211.01095); without noise.

    x0 is extrapolated linearly in lambda = log(alpha / sigma). With alpha = sqrt(abar),
    sigma = sqrt(1 - abar) and h = lambda_{i-1} - lambda_i,

        x_{i-1} = sigma_{i-1} / sigma_i x_i + (alpha_{i-1} - alpha_i sigma_{i-1} / sigma_i) D,
        D = x0 + h / (2 h_previous) (x0 - x0_previous).

    It is of first order (DDIM) where there is no estimate to extrapolate from: at the start, and
    after a guided step, which lifts the state off the trajectory that the earlier estimate belongs
    to; and at the end, where lambda is infinite and x_{-1} = x0. Guidance enters as in `DDIM`.
    """

    def step(self, at: Step) -> Transition:
        alpha, sigma = _signal_and_noise(at.schedule.alpha_bar[at.i])
        alpha_next, sigma_next = _signal_and_noise(at.schedule.alpha_bar_previous[at.i])
        x0 = at.x0
        if at.previous is not None and at.i:
            x0 = x0 + _extrapolation(at.schedule, at.i) * (x0 - at.previous)
        on_x_i = sigma_next / sigma
        return Transition(
            (alpha_next - alpha * on_x_i) * x0 + on_x_i * at.x_i,
            None,
            at.schedule.fixed_log_variance(at.i, at.x_i),
        )


def _extrapolation(schedule: Schedule, i: int) -> float:
    """The factor of the last change of x0 in D: h / (2 h_previous)."""
    later, here, earlier = (_log_ratio(schedule.alpha_bar[j]) for j in (i - 1, i, i + 1))
    return (later - here) / (2 * (here - earlier))


def _log_ratio(alpha_bar: float) -> float:
    return 0.5 * math.log(alpha_bar / (1 - alpha_bar))


def _signal_and_noise(alpha_bar: float) -> tuple[float, float]:
    return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
