"""What guidances that climb a measure of Tweedie's estimate have in common.

    mean_i <- mean_i + w Sigma_i g / |g|_inf,      g = grad_{x_i} L(x0h(x_i))

`Sum` gives each its own backward pass through the denoiser, as the paper's normalisation asks for.
`Joint` weighs their gradients at the estimate, where these are cheap, and goes through the denoiser
once for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from augment.guidance.strength import Strength
from augment.step import Step

__all__ = ["Ascent", "Joint", "unit_max"]


@dataclass(frozen=True, kw_only=True)
class Ascent(Strength):
    """A guidance up the gradient of a measure of the estimated image."""

    through_denoiser = True

    def measure(self, step: Step, x0: Tensor) -> Tensor:
        """L of each image, (B,), differentiable in the estimate `x0` (B, C, H, W), not clipped."""
        raise NotImplementedError

    def urgency(self, measure: Tensor) -> Tensor:
        """What share of its push each image gets, in [0, 1], (B,)."""
        return torch.ones_like(measure)

    def shift(self, step: Step) -> Tensor:
        measure = self.measure(step, step.estimate)
        direction = unit_max(step.gradient(measure))
        return self.amount(step) * _by_image(self.urgency(measure.detach())) * direction


class Joint:
    """Several ascents by one backward pass through the denoiser.

    Their gradients at the estimate are brought to the same unit, weighed by their strengths and
    carried back to x_i together; the result is pushed as far as the strengths add up to. A step
    costs what one of them costs. Where two of them disagree, their gradients cancel before the
    normalisation, so that the whole push goes to what is left; in a `Sum` each pushes for itself.
    """

    through_denoiser = True

    def __init__(self, *parts: Ascent) -> None:
        """
        Args:
            parts: at least one.

        Raises:
            ValueError: there is none.
        """
        if not parts:
            raise ValueError("Joint needs at least one guidance; use None for no guidance")
        self.parts = parts

    def __repr__(self) -> str:
        return f"Joint({', '.join(map(repr, self.parts))})"

    def active(self, i: int, steps: int) -> bool:
        return any(part.active(i, steps) for part in self.parts)

    def shift(self, step: Step) -> Tensor:
        x0 = step.estimate.detach().requires_grad_(True)
        direction, push = torch.zeros_like(x0), torch.zeros_like(x0)
        for part in self.parts:
            if not part.active(step.i, len(step.schedule)):
                continue
            measure = part.measure(step, x0)
            (gradient,) = torch.autograd.grad(measure.sum(), x0)
            amount = part.amount(step) * _by_image(part.urgency(measure.detach()))
            direction, push = direction + amount * unit_max(gradient), push + amount
        (carried,) = torch.autograd.grad(
            step.estimate, step.x_i, direction, retain_graph=step.shared
        )
        return push * unit_max(carried)


def unit_max(gradient: Tensor) -> Tensor:
    """Divide each sample (B, C, H, W) by its largest absolute entry.

    The paper only says "unit norm"; this is the code's. A zero or non-finite gradient gives a zero
    shift, where the code would lose the image to NaN.
    """
    largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
    usable = (largest > 0) & largest.isfinite()
    return torch.where(usable, gradient / torch.where(usable, largest, 1), 0)


def _by_image(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)
