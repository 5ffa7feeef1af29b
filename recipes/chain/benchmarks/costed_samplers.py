"""Samplers whose costs are compared: ours, diffusers' own pipeline and the official procedure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import diffusers
import torch
from torch import Tensor

from augment import Denoiser, Schedule, SelfGuidance
from augment.noise import PERTURBATION, REVERSE, NoiseStream, seeded_generator
from augment.pretrained import scheduler_of
from augment.sampler import sample_batch

__all__ = ["Sampler", "diffusers_sampler", "official_sampler", "our_sampler"]

Sampler = Callable[[Sequence[int], int], Tensor]
"""From seeds and a number of steps to one image a seed, uint8 (B, C, H, W) on the CPU."""


def our_sampler(denoiser: Denoiser, guidance: SelfGuidance | None) -> Sampler:
    """The ancestral sampler of `augment`."""
    return lambda seeds, steps: sample_batch(denoiser, seeds, steps=steps, guidance=guidance).images


def diffusers_sampler(denoiser: Denoiser, guidance: SelfGuidance | None) -> Sampler:
    """The DDPMPipeline of diffusers on the same network, with one generator an image too.

    Pixels are decoded to uint8 in both, and to PIL images in neither.
    """
    pipeline = diffusers.DDPMPipeline(denoiser.network, scheduler_of(denoiser))
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


def official_sampler(denoiser: Denoiser, guidance: SelfGuidance | None) -> Sampler:
    """Algorithm 1 in the official code's order: three forwards and a backward on a guided step.

    The forward pass of the sampler keeps no graph; a guided step runs the network again at the same
    x_i to have one, and a third time at x_s. Left out is that ADM's attention computes itself again
    in the backward pass, which adds another fifth of a forward to it.

    Args:
        denoiser: an unconditional one whose estimate is clipped.
        guidance: its scale, rate, perturbation and distance are used.

    Returns:
        A sampler with the noise of `augment.sample` for each seed, and so its images, up to
        rounding.
    """
    assert guidance is not None

    def images(seeds: Sequence[int], steps: int) -> Tensor:
        schedule = denoiser.schedule.respaced(steps)
        noise, perturbation = (
            NoiseStream(seeds, purpose, denoiser.shape, denoiser.device)
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
                direction = _direction(denoiser, schedule, x, i, perturbation.draw(), guidance)
                mean = mean + guidance.scale * log_variance.exp() * direction
            x = mean + (i > 0) * torch.exp(0.5 * log_variance) * z
        return denoiser.image.to_uint8(x).cpu()

    return images


def _direction(
    denoiser: Denoiser, schedule: Schedule, x: Tensor, i: int, e: Tensor, guidance: SelfGuidance
) -> Tensor:
    """The gradient of Eq. 7 over its largest entry, from a graph of its own; (B, C, H, W)."""
    at_s, s = guidance.noised_at(denoiser.schedule, schedule)
    leaf = x.detach().clone().requires_grad_(True)
    x0 = schedule.predict_x0(leaf, i, denoiser(leaf, i, schedule).eps)
    with torch.no_grad():
        x_s = at_s.q_sample(x0, s, e)
        again = at_s.predict_x0(x_s, s, denoiser(x_s, s, at_s).eps)
    (gradient,) = torch.autograd.grad(guidance.distance(x0, again).sum(), leaf)
    return gradient / gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
