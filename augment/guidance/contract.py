"""What a guidance is: a value handed to the sampler, which asks it at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from augment.denoiser import Denoiser
from augment.noise import NoiseStream
from augment.schedule import Schedule

__all__ = ["Guidance", "ReverseStep", "check"]


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
    """Sigma_i as the solver counts it, detached, broadcastable to (B, C, H, W)."""
    perturbation: NoiseStream
    """The guidance's own noise."""
    labels: Tensor | None = None
    """The images' classes, int64 (B,), if the model has classes."""
    shared: bool = False
    """Whether another guidance differentiates through `x0` after this one."""

    def gradient(self, measure: Tensor) -> Tensor:
        """The gradient at `x_i`, (B, C, H, W), of a number for each image, (B,)."""
        (gradient,) = torch.autograd.grad(measure.sum(), self.x_i, retain_graph=self.shared)
        return gradient

    def estimate(self, x: Tensor, i: int) -> Tensor:
        """Tweedie's estimate, not clipped, of the images at `x` (B, C, H, W) and index `i`."""
        prediction = self.denoiser(x, i, self.schedule, self.labels)
        return self.schedule.predict_x0(x, i, prediction.eps)


class Guidance(Protocol):
    """A value handed to the sampler that shifts the reverse mean.

    What it says of an image must not depend on the other images of the batch, which the sampler may
    split; and it must ask for all its noise of `ReverseStep.perturbation`. One that does not suit
    every model may have a `check(denoiser)` that raises ValueError; it is asked before a run.
    """

    def active(self, i: int, steps: int) -> bool:
        """Whether step `i` of `steps` is guided; only then is a graph kept."""

    def shift(self, step: ReverseStep) -> Tensor:
        """What to add to the reverse mean, float32 (B, C, H, W).

        Exactly zero for an image that it cannot guide; the sampler counts those.
        """


def check(guidance: Guidance | None, denoiser: Denoiser) -> None:
    """Let a guidance that has a `check` look at the model, before a step is taken.

    Raises:
        ValueError: it cannot guide the model.
    """
    if (own := getattr(guidance, "check", None)) is not None:
        own(denoiser)
