"""What a guidance is: a value handed to the sampler, which asks it at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from augment.denoiser import Denoiser
from augment.noise import NoiseStream
from augment.schedule import Schedule

__all__ = ["Guidance", "ReverseStep"]


@dataclass(frozen=True)
class ReverseStep:
    """What a guidance gets to see of a step."""

    denoiser: Denoiser
    schedule: Schedule
    """The respaced schedule; its length is N."""
    i: int
    """Respaced index of this step, N-1 down to 0."""
    x_i: Tensor
    """Noisy images (B, C, H, W), float32, the leaf of the graph."""
    x0: Tensor
    """Tweedie's estimate of the images, not clipped, with the graph back to `x_i`."""
    variance: Tensor
    """Sigma_i of the sampler, detached, broadcastable to (B, C, H, W)."""
    perturbation: NoiseStream
    """The guidance's own noise."""


class Guidance(Protocol):
    """A value handed to the sampler that shifts the reverse mean."""

    def active(self, i: int, steps: int) -> bool:
        """Whether step `i` of `steps` is guided; only then is a graph kept."""

    def shift(self, step: ReverseStep) -> Tensor:
        """What to add to the reverse mean, float32 (B, C, H, W)."""
