"""The sampling procedures whose cost is compared, on one network, with the same noise.

A cost is counted in units of plain sampling. One forward pass is the unit of a step; a backward
pass to the input costs 1.056 of it (counted for ADM's CelebA network, all operations; 1.005 for its
LSUN network). What a guided step adds to its forward pass is then the least that an exact
implementation can do:

    with the sampler's own forward pass shared     1 forward + 1 backward  = 2.056
    as the official code runs it                   2 forwards + 1 backward = 3.056
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, ClassVar, NamedTuple

import diffusers
import torch
from torch import Tensor

from augment import Denoiser, Schedule, SelfGuidance, load_denoiser
from augment.distance import Distance
from augment.noise import PERTURBATION, REVERSE, NoiseStream, seeded_generator
from augment.pretrained import scheduler_of
from augment.sampler import sample_batch
from labeling import load_labeler
from recipes._measured import resident
from recipes._prepare import named_distance
from recipes._settings import DistanceName

__all__ = ["Models", "Procedure", "compared", "official_images", "peak_memory"]

_diffusers: Any = diffusers
"""Its classes are hardly typed."""

_MEMORY_STEPS = 3
"""Enough for a guided step, whatever the rate: the last one is."""

Sampler = Callable[[Sequence[int], int], Tensor]
"""From seeds and a number of steps to one image a seed, uint8 (B, C, H, W) on the CPU."""


class Models(NamedTuple):
    """What all procedures share."""

    denoiser: Denoiser
    distances: Mapping[str, Distance]

    @classmethod
    def load(cls, generator: str, labeler: str, distances: Sequence[DistanceName]) -> Models:
        """Load them, on a GPU if there is one; ValueError for a class-conditional generator."""
        denoiser = load_denoiser(generator)
        if denoiser.classes is not None:
            raise ValueError(
                f"generator {generator} is class-conditional, which diffusers' DDPMPipeline "
                "cannot sample; allowed are unconditional ones; give one"
            )
        features = load_labeler(labeler)
        named: dict[str, Distance] = {name: named_distance(name, features) for name in distances}
        return cls(denoiser.to("cuda" if torch.cuda.is_available() else "cpu"), named)


@dataclass(frozen=True, kw_only=True)
class Procedure(ABC):
    """A way to make images from seeds."""

    name: ClassVar[str]
    distance: DistanceName | None = None
    """Of the guidance, if there is one."""
    every: int | None = None
    """The rate n: every n-th step is guided, ceil(N / n) of N."""

    @abstractmethod
    def on(self, models: Models) -> Sampler:
        """Make ready on a network, with whatever needs to be done only once."""

    def floor(self, steps: int) -> float | None:
        """Least possible cost in units of plain sampling; None where there is no such figure."""
        return None


@dataclass(frozen=True, kw_only=True)
class Plain(Procedure):
    """Our ancestral sampler."""

    name = "plain"

    def on(self, models: Models) -> Sampler:
        return lambda seeds, steps: sample_batch(models.denoiser, seeds, steps=steps).images


@dataclass(frozen=True, kw_only=True)
class DiffusersPipeline(Procedure):
    """The DDPMPipeline of diffusers on the same network, with one generator an image, as ours.

    Pixels are decoded to uint8 in both, and to PIL images in neither.
    """

    name = "diffusers"

    def on(self, models: Models) -> Sampler:
        pipeline = _diffusers.DDPMPipeline(models.denoiser.network, scheduler_of(models.denoiser))
        pipeline.set_progress_bar_config(disable=True)

        def images(seeds: Sequence[int], steps: int) -> Tensor:
            decoded = pipeline(
                batch_size=len(seeds),
                generator=[seeded_generator(seed, REVERSE) for seed in seeds],
                num_inference_steps=steps,
                output_type="np",
            ).images
            return torch.from_numpy((decoded * 255).round().astype("uint8")).permute(0, 3, 1, 2)

        return images


@dataclass(frozen=True, kw_only=True)
class _Guided(Procedure):
    distance: DistanceName
    every: int
    extra: ClassVar[float]
    """What a guided step adds, in forward passes."""

    def guidance(self, models: Models) -> SelfGuidance:
        return SelfGuidance(every=self.every, distance=models.distances[self.distance])

    def floor(self, steps: int) -> float:
        """1 + extra ceil(N / n) / N, which is 1 + extra / n where n divides N.

        The distance is not counted: little beside the paper's networks, not beside tiny ones.
        """
        return 1 + self.extra * math.ceil(steps / self.every) / steps


@dataclass(frozen=True, kw_only=True)
class SelfGuided(_Guided):
    """Our self-guided sampler."""

    name = "self-guided"
    extra = 2.056

    def on(self, models: Models) -> Sampler:
        guidance = self.guidance(models)
        return lambda seeds, steps: (
            sample_batch(models.denoiser, seeds, steps=steps, guidance=guidance).images
        )


@dataclass(frozen=True, kw_only=True)
class Official(_Guided):
    """The same images by the official code's order of operations; see `official_images`."""

    name = "official"
    extra = 3.056

    def on(self, models: Models) -> Sampler:
        guidance = self.guidance(models)
        return lambda seeds, steps: official_images(
            models.denoiser, seeds, steps=steps, guidance=guidance
        )


def compared(distances: Sequence[DistanceName], rates: Sequence[int]) -> list[Procedure]:
    """What is compared, plain sampling first; the official procedure with the first distance."""
    ours = [SelfGuided(distance=d, every=n) for d in distances for n in rates]
    official = [Official(distance=distances[0], every=n) for n in rates]
    return [Plain(), DiffusersPipeline(), *ours, *official]


def official_images(
    denoiser: Denoiser, seeds: Sequence[int], *, steps: int, guidance: SelfGuidance
) -> Tensor:
    """Algorithm 1 in the official code's order: three forwards and a backward on a guided step.

    The forward pass of the sampler keeps no graph; a guided step runs the network again at the same
    x_i to have one, and a third time at x_s. Left out is that ADM's attention computes itself again
    in the backward pass, which adds another fifth of a forward to it.

    Args:
        denoiser: an unconditional one whose estimate is clipped.
        seeds: their noise is that of `augment.sample`, and so are the images, up to rounding.
        steps: N.
        guidance: its scale, rate, perturbation and distance are used.

    Returns:
        uint8 (B, C, H, W) on the CPU.
    """
    schedule = denoiser.schedule.respaced(steps)
    noise, perturbation = (
        NoiseStream(seeds, purpose, denoiser.image.shape, denoiser.device)
        for purpose in (REVERSE, PERTURBATION)
    )
    x = noise.draw()
    for i in range(steps - 1, -1, -1):
        with torch.no_grad():
            prediction = denoiser(x, i, schedule)
            x0 = schedule.predict_x0(x, i, prediction.eps).clamp(-1, 1)
            mean = schedule.posterior_mean(x0, x, i)
            log_variance = denoiser.log_variance(prediction, i, schedule)
            z = noise.draw()
        if guidance.active(i, steps):
            e = perturbation.draw()
            direction = _direction(denoiser, schedule, x, i, e, guidance)
            mean = mean + guidance.scale * log_variance.exp() * direction
        x = mean + (i > 0) * torch.exp(0.5 * log_variance) * z
    return denoiser.image.to_uint8(x).cpu()


def _direction(
    denoiser: Denoiser, schedule: Schedule, x: Tensor, i: int, e: Tensor, guidance: SelfGuidance
) -> Tensor:
    """The gradient of Eq. 7 over its largest entry, from a graph of its own; (B, C, H, W)."""
    s = guidance.noised_at(len(schedule))
    leaf = x.detach().clone().requires_grad_(True)
    x0 = schedule.predict_x0(leaf, i, denoiser(leaf, i, schedule).eps)
    with torch.no_grad():
        x_s = schedule.q_sample(x0, s, e)
        again = schedule.predict_x0(x_s, s, denoiser(x_s, s, schedule).eps)
    (gradient,) = torch.autograd.grad(guidance.distance(x0, again).sum(), leaf)
    return gradient / gradient.abs().amax(dim=(1, 2, 3), keepdim=True)


def peak_memory(load: Callable[[], Models], procedure: Procedure, batch_size: int) -> float | None:
    """Megabytes that a batch takes at most beyond the loaded models, in a process of its own.

    Resident memory, or on a GPU what PyTorch has allocated; None where neither can be told.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_here, load, procedure, batch_size).result()


def _peak_here(load: Callable[[], Models], procedure: Procedure, batch_size: int) -> float | None:
    models = load()
    images = procedure.on(models)
    on_gpu = models.denoiser.device.type == "cuda"
    loaded = torch.cuda.memory_allocated() if on_gpu else 0
    before = resident("VmRSS")
    images(range(batch_size), _MEMORY_STEPS)
    if on_gpu:
        return (torch.cuda.max_memory_allocated() - loaded) / 1e6
    peak = resident("VmHWM")
    return None if peak is None or before is None else max(peak - before, 0.0)
