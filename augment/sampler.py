"""The reverse process: one loop for every method, written as a generator of states.

    x_{i-1} = mean_i(x_i) + shift_i + [i > 0] Sigma_i^{1/2} z

where shift_i is the guidance's, if one is given and active. The network runs once on a plain step.
On a guided step the sampler keeps the autograd graph of that run and shares it with the guidance.

References: Ho et al. 2020, algorithm 2; Nichol & Dhariwal 2021; Um & Ye 2024, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from augment.denoiser import Denoiser
from augment.guidance.contract import Guidance, ReverseStep
from augment.noise import PERTURBATION, REVERSE, NoiseStream
from augment.schedule import Schedule

__all__ = ["State", "reverse_process", "sample"]


@dataclass(frozen=True)
class State:
    """The process after a step."""

    i: int
    """Index of the step just taken; 0 means that `x` is the image."""
    x: Tensor
    """x_{i-1}, float32 (B, C, H, W)."""
    x0: Tensor
    """Estimate of the images at x_i, clipped to [-1, 1]."""


def reverse_process(
    denoiser: Denoiser,
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: Guidance | None = None,
    start: Tensor | None = None,
    start_index: int | None = None,
) -> Iterator[State]:
    """Yield the state after every reverse step, the last one's `x` being images in about [-1, 1].

    Args:
        denoiser: the pretrained model.
        seeds: one an image; they alone determine the noise.
        steps: N, how many of the model's timesteps are kept.
        guidance: shifts the mean on the steps where it is active.
        start: x at `start_index`, float32 (B, C, H, W); pure noise if left out.
        start_index: the first step to take; N - 1 if left out.

    Raises:
        ValueError: more steps than the model has, or a start outside them.
    """
    schedule = denoiser.schedule.respaced(steps)
    first = steps - 1 if start_index is None else start_index
    if not 0 <= first < steps:
        raise ValueError(f"start_index is {first}, of {steps} steps; give 0 to {steps - 1}")
    reverse = NoiseStream(seeds, REVERSE, denoiser.image.shape, denoiser.device)
    perturbation = NoiseStream(seeds, PERTURBATION, denoiser.image.shape, denoiser.device)
    x = reverse.draw() if start is None else start
    for i in range(first, -1, -1):
        if guidance is not None and guidance.active(i, steps):
            mean, log_variance, x0 = _guided_mean(denoiser, schedule, i, x, guidance, perturbation)
        else:
            with torch.inference_mode():
                mean, log_variance, x0 = _reverse_mean(denoiser, schedule, i, x)
        with torch.inference_mode():
            x = mean + torch.exp(0.5 * log_variance) * reverse.draw() if i else mean
            clipped = x0.detach().clamp(-1, 1)
        yield State(i, x, clipped)


def _reverse_mean(
    denoiser: Denoiser, schedule: Schedule, i: int, x_i: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and log-variance of x_{i-1}, both detached, and the estimate of the images.

    The estimate is not clipped and has whatever graph `x_i` asks for.
    """
    prediction = denoiser(x_i, i, schedule)
    x0 = schedule.predict_x0(x_i, i, prediction.eps)
    with torch.no_grad():
        # The sampler clips its estimate; the guidance does not, as in the official code.
        mean = schedule.posterior_mean(x0.clamp(-1, 1), x_i, i)
        log_variance = denoiser.log_variance(prediction, i, schedule)
    return mean, log_variance, x0


def _guided_mean(
    denoiser: Denoiser,
    schedule: Schedule,
    i: int,
    x: Tensor,
    guidance: Guidance,
    perturbation: NoiseStream,
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.enable_grad():
        x_i = x.clone().requires_grad_(True)
        mean, log_variance, x0 = _reverse_mean(denoiser, schedule, i, x_i)
        step = ReverseStep(denoiser, schedule, i, x_i, x0, log_variance.exp(), perturbation)
        shift = guidance.shift(step)
    return mean.detach() + shift.detach(), log_variance, x0


def sample(
    denoiser: Denoiser,
    seeds: Sequence[int],
    *,
    steps: int = 250,
    guidance: Guidance | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Generate one image a seed.

    Args:
        denoiser: the pretrained model.
        seeds: non-negative integers; the same seed gives the same image, whatever stands beside it
            in the batch (up to rounding).
        steps: reverse steps, 1 to the length of the model's schedule.
        guidance: `SelfGuidance(...)` for minority samples; ordinary ancestral sampling if left out.
        batch_size: images at a time.

    Returns:
        uint8 (N, C, H, W) on the CPU, in the order of `seeds`.
    """
    images = [torch.empty(0, *denoiser.image.shape, dtype=torch.uint8)]
    for first in range(0, len(seeds), batch_size):
        states = reverse_process(
            denoiser, seeds[first : first + batch_size], steps=steps, guidance=guidance
        )
        *_, last = states
        images.append(denoiser.image.to_uint8(last.x).cpu())
    return torch.cat(images)
