"""Self-guidance towards minority samples (Um & Ye, ECCV 2024, Algorithm 1, https://arxiv.org/abs/2407.11555).

A sample of low density loses its features when it is noised and denoised once more. The pretrained
model measures that by itself:

    L(x_i) = d( x0h(x_i), sg[x0h(x_s)] )                                                    (Eq. 7)
    x_s = sqrt(alpha_bar_s) x0h(x_i) + sqrt(1 - alpha_bar_s) e

and the reverse mean is moved up its gradient, scaled by the sampler's own variance:

    mean_i <- mean_i + w Sigma_i g / |g|_inf,      g = grad L(x_i)                          (Eq. 9)

Neither estimate is clipped, though the sampler clips its own: so does the official code, of which
the paper does not speak.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

import torch
from torch import Tensor

from augment.distance import L2, Distance
from augment.guidance.ascent import Ascent
from augment.guidance.strength import Strength
from augment.schedule import Schedule
from augment.step import Step

__all__ = ["SelfGuidance", "SelfGuidanceConfig"]

_NAMED = frozenset({"scale", "every"})
"""Settings that a representation always shows; the others where they are not the default."""
_MOST_SAMPLES = 1000
"""Each is a pass of the network on every guided step; more is a slip of the keyboard."""


@dataclass(frozen=True, kw_only=True)
class SelfGuidanceConfig(Strength):
    """How strongly, how often and where; the defaults are the official code's for CelebA."""

    perturb_alpha_bar: float = 0.0931
    """Where the estimate is noised again: at this signal level, in (0, 1), whatever the schedule;
    0.0931 is that of 0.8 of a cosine schedule, the paper's."""
    perturb: float | None = None
    """The same as a fraction of the steps, within [0, 1), as the paper's code has it; it replaces
    perturb_alpha_bar."""
    samples: int = 1
    """M, how many times it is noised and denoised; the measure is their mean."""
    stop_gradient: Literal["second", "first", "none"] = "second"
    """Which estimate is held fixed; second is the paper's and spares a backward pass."""

    # A fraction is of the respaced steps, so the timestep it stands for moves a little with their
    # number: 0.8 is 807, 802 and 800 of 1000 with 100, 250 and 1000 steps. And 0.8 leaves the
    # signal of .0931 in cosine schedules only, in linear ones next to none; the paper takes another
    # fraction for these (LSUN) and does not say which. The level is the same for every schedule:
    # 0.48 of a linear one, 0.68 of Stable Diffusion's. Of stop_gradient, only `second` is in the
    # code.

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.perturb_alpha_bar < 1:
            raise ValueError(
                f"guidance.perturb_alpha_bar is {self.perturb_alpha_bar}; give a signal level "
                "in (0, 1), such as 0.0931, the paper's"
            )
        if self.perturb is not None and not 0 <= self.perturb < 1:
            raise ValueError(
                f"guidance.perturb is {self.perturb}; give a fraction of the steps in [0, 1), such "
                "as 0.8, the paper's for cosine schedules"
            )
        if not 1 <= self.samples <= _MOST_SAMPLES:
            raise ValueError(
                f"guidance.samples is {self.samples}; give 1, the paper's, to {_MOST_SAMPLES:,}"
            )
        if self.stop_gradient not in ("second", "first", "none"):
            raise ValueError(
                f"guidance.stop_gradient is {self.stop_gradient!r}; give second, the paper's, "
                "first or none"
            )

    def noised_at(self, full: Schedule, respaced: Schedule) -> tuple[Schedule, int]:
        """Where the estimate is noised again: a schedule and s, an index of it.

        A level is looked up in the model's `full` schedule, so that it does not depend on the
        number of steps; a fraction counts the steps of the run, those of `respaced`.
        """
        if self.perturb is None:
            return full, full.nearest(self.perturb_alpha_bar)
        # Rounded a little up first: int(100 * .29) would be 28.
        steps = len(respaced)
        return respaced, min(int(steps * self.perturb + 1e-9), steps - 1)

    def with_distance(self, distance: Distance) -> SelfGuidance:
        """The guidance with these settings."""
        return SelfGuidance(**self.settings(SelfGuidanceConfig), distance=distance)


@dataclass(frozen=True, kw_only=True, repr=False)
class SelfGuidance(SelfGuidanceConfig, Ascent):
    """The paper's guidance, with its distance.

    The gradient runs through the first argument of the distance alone, through the sampler's own
    forward pass, so that a guided step costs two forwards and one backward, where the official code
    runs three forwards. Held is the second estimate; with `first` or `none` the gradient runs
    through the network's second pass too, and a step costs two forwards and two backwards.

    The loss is not scaled for half precision, nor is it in the official code: in float16 the
    gradient underflows at the first step of a cosine schedule, which only `every` = 1 guides.
    There, bfloat16 or float32 is the way. With `none` that step is ill-conditioned in float32 too:
    two huge estimates all but cancel, and an image may depend on its batch by more than rounding.

    How far an image depends on the batch size, of 24 embedded avatars of 50 steps, w = 1, in
    batches of 4 and of 24: by 1 level of 255 at most, in 4e-5 of the values, without guidance and
    with the distances `l2` and `activations`; by 2 levels, in 1 % of them, with a ReLU network's
    features (`FeatureDistance`; 5 levels were seen in another run).
    """

    distance: Distance = field(default_factory=L2)
    """d; `LPIPS()` is the paper's and needs its trunk's weights, the default needs nothing."""

    def __repr__(self) -> str:
        always = _NAMED | {"perturb_alpha_bar" if self.perturb is None else "perturb"}
        hidden = set() if self.perturb is None else {"perturb_alpha_bar"}
        shown = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)
            if f.name not in hidden and (f.name in always or getattr(self, f.name) != f.default)
        ]
        return f"SelfGuidance({', '.join(shown)})"

    def measure(self, step: Step, x0: Tensor) -> Tensor:
        """L of each image, (B,); the mean is taken of the measures, not of normalised gradients."""
        first = x0.detach() if self.stop_gradient == "first" else x0
        draws = [self.distance(first, self._denoised_again(step, x0)) for _ in range(self.samples)]
        return torch.stack(draws).mean(dim=0)

    def _denoised_again(self, step: Step, x0: Tensor) -> Tensor:
        """Noise the estimate to x_s and estimate once more, unclipped."""
        schedule, s = self.noised_at(step.denoiser.schedule, step.schedule)
        with torch.set_grad_enabled(self.stop_gradient != "second"):
            x_s = schedule.q_sample(x0, s, step.perturbation.draw())
            return step.estimate_at(x_s, s, schedule)
