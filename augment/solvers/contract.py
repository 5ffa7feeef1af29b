"""What a solver is: the rule that takes x_i and an estimate of the images to x_{i-1}."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from augment.schedule import Schedule

__all__ = ["Estimate", "Solver", "Transition"]


@dataclass(frozen=True)
class Estimate:
    """What the model says at x_i; every tensor is detached."""

    schedule: Schedule
    """The respaced schedule; its length is N."""
    i: int
    """Respaced index of this step, N-1 down to 0."""
    x_i: Tensor
    """Noisy images, float32 (B, C, H, W)."""
    x0: Tensor
    """Estimate of the images as the sampler uses it: clipped to [-1, 1] if the model's is."""
    log_variance: Tensor
    """The model's own log Sigma_i, learned or fixed, broadcastable to (B, C, H, W)."""
    previous: Tensor | None
    """`x0` one step earlier, at i+1; None where the trajectory starts or was moved by guidance."""


class Transition(NamedTuple):
    """Where a step leads: x_{i-1} = mean + guidance's shift + std z."""

    mean: Tensor
    """float32 (B, C, H, W)."""
    std: Tensor | None
    """Of the noise, broadcastable to `mean`; None adds none."""
    log_variance: Tensor
    """Log of the Sigma_i in which a guidance counts its shift, broadcastable to `mean`.

    It is the sampler's own where that is the model's, and formally beta~_i for every rule that has
    another variance or none.
    """


class Solver(Protocol):
    """An update rule; stateless, so that one value serves every batch."""

    def step(self, at: Estimate) -> Transition:
        """From x_i to x_{i-1}."""
