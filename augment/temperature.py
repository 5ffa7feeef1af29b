"""Sampling at another temperature: a flatter or sharper density, without any guidance.

Temperatures are negative controls: they leave the manifold of images sooner than they find rare
ones (Dhariwal & Nichol 2021, app. G). Temporal score rescaling (ICML 2026) is the better of them,
as it leaves alone the noisy steps, where the modes are chosen:

    eps' = r eps,      r = (snr s^2 + 1) / (snr s^2 / k + 1),      snr = alpha_bar / (1 - alpha_bar)

Of Gaussian data of standard deviation s, that is exactly the prediction for a variance of s^2 / k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from augment.denoiser import Denoiser

__all__ = ["Temperature"]


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """How much flatter the density is sampled; 1 changes nothing."""

    noise: float = 1.0
    """Factor of the variance of the ancestral sampler's noise; above 1 is flatter."""
    score: float = 1.0
    """Divides the noise prediction at every step; above 1 is flatter."""
    rescale: float = 1.0
    """k of temporal score rescaling; below 1 is flatter, .93 to .95 are usual."""
    spread: float = 1.0
    """s of temporal score rescaling, the data's standard deviation around a mode; 1 to 3 are
    usual."""

    def __post_init__(self) -> None:
        for name in ("noise", "score", "rescale", "spread"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(
                    f"temperature.{name} is {value}; give a number above 0, 1 for no change"
                )

    def factor(self, alpha_bar: float) -> float:
        """What the noise prediction is multiplied by at a signal level."""
        signal = alpha_bar / (1 - alpha_bar) * self.spread**2
        return (signal + 1) / (signal / self.rescale + 1) / self.score

    def applied(self, denoiser: Denoiser) -> Denoiser:
        """A denoiser whose noise prediction is multiplied by `factor`; the variance stays.

        It costs no forward pass. Guidances see the changed prediction too. `noise` is the solver's
        business, `Ancestral(temperature=...)`.
        """
        if self.score == self.rescale == 1:
            return denoiser
        if denoiser.schedule.timesteps.dtype.kind == "f":
            raise ValueError(
                f"temperature.score is {self.score} and temperature.rescale {self.rescale}, but "
                "the generator is told sigma, not a timestep; leave them out"
            )
        twin = denoiser.with_network(_Rescaled(denoiser, self).eval())
        twin.prediction = "epsilon"
        return twin


class _Rescaled(nn.Module):
    def __init__(self, denoiser: Denoiser, temperature: Temperature) -> None:
        super().__init__()
        self.denoiser, self.temperature = denoiser, temperature

    def forward(self, x: Tensor, timestep: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, C, H, W), timesteps int64 (B,), all the same, and classes; eps, and v if learned."""
        schedule = self.denoiser.schedule
        i = int(timestep[0])  # of the schedule of training, whose index is the timestep
        eps, v = self.denoiser(x, i, schedule, labels)
        eps = self.temperature.factor(float(schedule.alpha_bar[i])) * eps
        return eps if v is None else torch.cat([eps, v], dim=1)
