"""DPM-Solver++(2M), a multistep solver of second order (Lu et al. 2022, algorithm 2,
https://arxiv.org/abs/2211.01095).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from augment.schedule import Schedule
from augment.solvers.contract import Estimate, Transition

__all__ = ["DPMSolver2M"]


@dataclass(frozen=True)
class DPMSolver2M:
    """Without noise; x0 is extrapolated linearly in lambda = log(alpha / sigma).

    With alpha = sqrt(abar), sigma = sqrt(1 - abar) and h = lambda_{i-1} - lambda_i,

        x_{i-1} = sigma_{i-1} / sigma_i x_i + (alpha_{i-1} - alpha_i sigma_{i-1} / sigma_i) D,
        D = x0 + h / (2 h_previous) (x0 - x0_previous).

    It is of first order (DDIM) where there is no estimate to extrapolate from: at the start, and
    after a guided step, which lifts the state off the trajectory that the earlier estimate belongs
    to; and at the end, where lambda is infinite and x_{-1} = x0. Guidance enters as in `DDIM`.
    """

    def step(self, at: Estimate) -> Transition:
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
