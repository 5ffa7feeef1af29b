"""One step of the reverse process, and what the sampler asks of a solver and of a guidance.

    x_{i-1} = mean + shift + std z

The solver gives mean and std, the guidance the shift. Both see the same `Step`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from augment.denoiser import Denoiser
from augment.noise import NoiseStream
from augment.schedule import Schedule

__all__ = ["Guidance", "Solver", "Step", "Sum", "Transition", "check", "group_of"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is known at x_i. For a solver everything is detached."""

    denoiser: Denoiser
    schedule: Schedule
    """The respaced schedule; its length is N."""
    i: int
    """Respaced index of this step, N-1 down to 0."""
    x_i: Tensor
    """Noisy images (B, C, H, W), float32; the leaf of the graph on a guided step."""
    estimate: Tensor
    """Tweedie's estimate of the images, not clipped, with the graph back to `x_i` if the guidance
    is `through_denoiser`."""
    x0: Tensor
    """The estimate as the sampler uses it: detached, and clipped to [-1, 1] if the model's is."""
    log_variance: Tensor
    """log Sigma_i, broadcastable to (B, C, H, W), detached: the model's own, learned or fixed, for
    a solver; as the solver counts it for a guidance."""
    previous: Tensor | None = None
    """`x0` one step earlier, at i+1; None where the trajectory starts or was moved by guidance."""
    perturbation: NoiseStream
    """The guidance's own noise."""
    labels: Tensor | None = None
    """The images' classes, int64 (B,), if the model has classes."""
    seeds: tuple[int, ...] = ()
    """The images' seeds, one per row, from which per-image targets may follow."""
    shared: bool = False
    """Whether another guidance differentiates through `estimate` after this one."""

    @property
    def variance(self) -> Tensor:
        """Sigma_i, broadcastable to (B, C, H, W)."""
        return self.log_variance.exp()

    def images(self, x0: Tensor) -> Tensor:
        """The images (B, C, H, W), about [-1, 1], of an estimate, with a gradient. A pixel-space
        model's estimate is already the images.
        """
        return self.denoiser.decoded(x0, smooth=True)

    def gradient(self, measure: Tensor) -> Tensor:
        """The gradient at `x_i`, (B, C, H, W), of a number for each image, (B,)."""
        (gradient,) = torch.autograd.grad(measure.sum(), self.x_i, retain_graph=self.shared)
        return gradient

    def estimate_at(self, x: Tensor, i: int, schedule: Schedule) -> Tensor:
        """Tweedie's estimate, not clipped, of the images at `x` (B, C, H, W) and index `i` of a
        schedule of the denoiser.
        """
        prediction = self.denoiser(x, i, schedule, self.labels)
        return schedule.predict_x0(x, i, prediction.eps)


class Transition(NamedTuple):
    """Where a step leads, short of guidance and noise."""

    mean: Tensor
    """float32 (B, C, H, W)."""
    std: Tensor | None
    """Deviation of the noise, broadcastable to `mean` and on its device; None adds none."""
    log_variance: Tensor
    """Log of the Sigma_i in which a guidance counts its shift, broadcastable to `mean`.

    It is the sampler's own where that is the model's, and formally beta~_i for every rule that has
    another variance or none.
    """


class Solver(Protocol):
    """An update rule; stateless, so that one value serves every batch."""

    def step(self, at: Step) -> Transition:
        """From x_i to x_{i-1}."""


class Guidance(Protocol):
    """A value handed to the sampler that shifts the reverse mean.

    What it says of an image must not depend on the other images of the batch, which the sampler may
    split; and it must ask for all its noise of `Step.perturbation`. One whose images depend on one
    another has a `group`, n: the images of seeds g n to g n + n - 1 always stand together in this
    order. One that does not suit every model may have a `check(denoiser)` that raises ValueError;
    it is asked before a run.
    """

    @property
    def through_denoiser(self) -> bool:
        """Whether it differentiates through the denoiser, whose graph is then kept."""

    def active(self, i: int, steps: int) -> bool:
        """Whether step `i` of `steps` is guided."""

    def shift(self, step: Step) -> Tensor:
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


def group_of(guidance: Guidance | None) -> int:
    """How many seeds in succession a guidance makes depend on one another; 1 for most."""
    group: int = getattr(guidance, "group", 1)
    return group


class Sum:
    """The sum of the shifts of several guidances.

    All of them see the same x_i and estimate, none the shift of another, so that their order
    changes the rounding at most. (With one perturbation stream for all, two self-guidances draw
    from it in turn.)
    """

    def __init__(self, *parts: Guidance) -> None:
        """
        Args:
            parts: at least one guidance.

        Raises:
            ValueError: there is none.
        """
        if not parts:
            raise ValueError("Sum needs at least one guidance; use None for no guidance")
        self.parts = parts

    @classmethod
    def of(cls, parts: Sequence[Guidance]) -> Guidance | None:
        """The sum of any number of guidances: one alone is itself, and none is no guidance."""
        return cls(*parts) if len(parts) > 1 else next(iter(parts), None)

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.parts))

    @property
    def through_denoiser(self) -> bool:
        return any(part.through_denoiser for part in self.parts)

    @property
    def group(self) -> int:
        """The smallest group that is made of whole groups of every part."""
        return math.lcm(*map(group_of, self.parts))

    def active(self, i: int, steps: int) -> bool:
        return any(part.active(i, steps) for part in self.parts)

    def check(self, denoiser: Denoiser) -> None:
        """Let every part look at the model; ValueError if one cannot guide it."""
        for part in self.parts:
            check(part, denoiser)

    def shift(self, step: Step) -> Tensor:
        *others, last = (p for p in self.parts if p.active(step.i, len(step.schedule)))
        shared = replace(step, shared=True)
        shifts = [*(part.shift(shared) for part in others), last.shift(step)]
        total = shifts[0]
        for shift in shifts[1:]:
            total = total + shift
        return total
