"""The hybrid training loss of a denoiser with learned variance.

    L = L_simple + lambda L_vlb,    L_simple = |eps - eps_theta|^2,    lambda = .001 T

L_vlb trains the variance alone: its mean is detached, and that of an estimate clipped to [-1, 1],
for so the sampler takes it (the official training leaves it unclipped).

Reference: Nichol & Dhariwal 2021, sec. 3.1,
https://arxiv.org/abs/2102.09672
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from augment.schedule import Schedule

__all__ = ["hybrid_loss"]

_VLB_WEIGHT = 1e-3
"""lambda / T. L_vlb below is one step's share; the bound is T times its mean over uniform steps."""


def hybrid_loss(
    schedule: Schedule,
    output: Tensor,
    x0: Tensor,
    x_t: Tensor,
    t: Tensor,
    eps: Tensor,
    *,
    velocity: bool = False,
) -> Tensor:
    """Mean hybrid loss of a batch.

    Args:
        schedule: the T training steps.
        output: the network's output, noise and variance weights stacked, (B, 2C, H, W).
        x0: images in [-1, 1], (B, C, H, W).
        x_t: the same noised to steps `t` (int64, (B,)) with standard normal `eps`.
        velocity: the network predicts v instead of the noise; L_simple is then |v - v_theta|^2.
    """
    predicted, v = output.chunk(2, dim=1)
    target = schedule.velocity(x0, t, eps) if velocity else eps
    simple = (target - predicted).square().mean()
    fixed = predicted.detach()
    noise = schedule.eps_of_velocity(fixed, x_t, t) if velocity else fixed
    mean = schedule.posterior_mean(schedule.predict_x0(x_t, t, noise).clamp(-1, 1), x_t, t)
    log_variance = schedule.learned_log_variance(t, v)
    kl = _gaussian_kl(
        schedule.posterior_mean(x0, x_t, t), schedule.fixed_log_variance(t, x0), mean, log_variance
    )
    decoder = -_discretised_log_likelihood(x0, mean, 0.5 * log_variance)
    bits = torch.where(t.reshape(-1, 1, 1, 1) == 0, decoder, kl).mean() / math.log(2)
    return simple + _VLB_WEIGHT * len(schedule) * bits


def _gaussian_kl(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor
) -> Tensor:
    """KL(N(mean, .) || N(other_mean, .)), elementwise, in nats."""
    difference = log_variance - other_log_variance
    return 0.5 * (
        difference.exp()
        - 1
        - difference
        + (mean - other_mean).square() * (-other_log_variance).exp()
    )


def _discretised_log_likelihood(x0: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    """Log-probability of 8-bit pixels x0 in [-1, 1] under a Gaussian (Ho et al. 2020, eq. 13).

    Its tails belong to the extreme levels.
    """
    half_bin = 1 / 255
    scaled = (x0 - mean) * (-log_sigma).exp()
    width = half_bin * (-log_sigma).exp()
    upper = torch.where(x0 > 1 - half_bin, torch.ones_like(x0), torch.special.ndtr(scaled + width))
    lower = torch.where(
        x0 < -1 + half_bin, torch.zeros_like(x0), torch.special.ndtr(scaled - width)
    )
    return (upper - lower).clamp(min=1e-12).log()
