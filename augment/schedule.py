"""Noise schedules in float64: closed forms of the forward process q and of its posterior.

A variance-preserving diffusion noises an image x_0 in T steps,

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps,      eps ~ N(0, I),

with alpha_bar decreasing from ~1 to ~0. A *respaced* schedule keeps N of the T steps, and alpha_bar
at them exactly; its index i = 0..N-1 (0 is the last step of sampling) stands for the original
timestep `timesteps[i]`, which is what the network was trained on.

Reference: Nichol & Dhariwal 2021, "Improved Denoising Diffusion Probabilistic Models",
https://arxiv.org/abs/2102.09672
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Index", "Schedule", "Spacing", "space_timesteps"]

FloatArray = NDArray[np.float64]

Index = int | Tensor
"""A respaced index: one for the whole batch, or an int64 tensor (B,)."""

_MAX_BETA = 0.999
"""Cap of the cosine schedule's beta, which would end at 1 (the reference's sec. 3.2)."""


@dataclass(frozen=True, kw_only=True)
class Spacing:
    """Which of a schedule's T steps a run of N takes (Lin et al. 2023, table 2,
    https://arxiv.org/abs/2305.08891).
    """

    rule: Literal["ends", "leading", "trailing"] = "ends"
    """ends: `space_timesteps`; leading: multiples of T // N; trailing: T - 1 and every T / N
    below, which few-step models are distilled at."""
    offset: int = 0
    """What leading adds to each."""

    def kept(self, total: int, steps: int) -> NDArray[np.int64]:
        """The timesteps, ascending, int64 (steps,).

        Raises:
            ValueError: more than there are.
        """
        if self.rule == "ends" or not 1 <= steps <= total:
            return space_timesteps(total, steps)  # says what is allowed
        if self.rule == "trailing":
            down = np.arange(steps, dtype=np.float64) * (total / steps)
            return (np.round(total - down).astype(np.int64) - 1)[::-1]
        kept = np.arange(steps, dtype=np.int64) * (total // steps) + self.offset
        if kept[-1] >= total:
            raise ValueError(
                f"steps is {steps}, whose last timestep would be {kept[-1]}, but the model's "
                f"schedule ends at {total - 1}; give fewer"
            )
        return kept


@dataclass(frozen=True, eq=False)
class Schedule:
    """alpha_bar at the kept steps, and every constant that follows from it."""

    alpha_bar: FloatArray
    """Cumulative products of 1 - beta, shape (N,), strictly decreasing, within (0, 1)."""
    timesteps: NDArray[Any] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Original timestep of each index, int64 (N,), which the network is told; left out, the
    schedule is the original one. Of a network that is told sigma, that, float64."""
    spacing: Spacing = Spacing()
    """Which steps shorter runs take."""
    final: float = 1.0
    """alpha_bar that the last step of sampling leads to; below 1, some noise is left."""
    noise_alone: bool = False
    """Whether a run starts from sqrt(1 - alpha_bar) e, the noise in the last x_t, instead of e."""

    def __post_init__(self) -> None:
        alpha_bar = np.asarray(self.alpha_bar, dtype=np.float64)
        if (
            alpha_bar.ndim != 1
            or not alpha_bar.size
            or not ((alpha_bar > 0) & (alpha_bar < 1)).all()
            or (np.diff(alpha_bar) >= 0).any()
        ):
            raise ValueError(
                "alpha_bar must be a vector that strictly decreases within (0, 1); "
                "check the betas it came from"
            )
        object.__setattr__(self, "alpha_bar", alpha_bar)
        if not len(self.timesteps):
            object.__setattr__(self, "timesteps", np.arange(len(alpha_bar)))

    @classmethod
    def from_betas(cls, betas: FloatArray) -> Schedule:
        """The schedule of T forward variances beta_t, shape (T,)."""
        return cls(np.cumprod(1.0 - np.asarray(betas, dtype=np.float64), dtype=np.float64))

    @classmethod
    def linear(cls, steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Schedule:
        """Betas evenly spaced from `first` to `last` (Ho et al. 2020)."""
        return cls.from_betas(np.linspace(first, last, steps, dtype=np.float64))

    @classmethod
    def scaled_linear(cls, steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Schedule:
        """Square roots of the betas evenly spaced (latent diffusion)."""
        return cls.from_betas(np.linspace(first**0.5, last**0.5, steps, dtype=np.float64) ** 2)

    @classmethod
    def cosine(cls, steps: int = 1000) -> Schedule:
        """Betas min(1 - h((t+1)/T) / h(t/T), .999), h(u) = cos^2((u + .008) / 1.008 * pi / 2)."""
        h = (
            np.cos((np.arange(steps + 1, dtype=np.float64) / steps + 0.008) / 1.008 * np.pi / 2)
            ** 2
        )
        return cls.from_betas(np.minimum(1 - h[1:] / h[:-1], _MAX_BETA))

    @classmethod
    def karras(
        cls, steps: int = 1000, lowest: float = 0.002, highest: float = 80.0, rho: float = 7.0
    ) -> Schedule:
        """Sigmas whose rho-th roots are evenly spaced (Karras et al. 2022, Eq. 5,
        https://arxiv.org/abs/2206.00364), as alpha_bar = 1 / (1 + sigma^2). A run starts from the
        noise alone, highest e in terms of sigma; every number of steps has a grid of its own.
        """
        return _Karras.of(steps, lowest, highest, rho)

    def respaced(self, steps: int) -> Schedule:
        """Keep `steps` of the steps, evenly spaced from the first to the last."""
        kept = self.spacing.kept(len(self), steps)
        return replace(self, alpha_bar=self.alpha_bar[kept], timesteps=self.timesteps[kept])

    @property
    def start_scale(self) -> float:
        """What a run's first draw of noise is multiplied by."""
        return math.sqrt(1 - self.alpha_bar[-1]) if self.noise_alone else 1.0

    def __len__(self) -> int:
        return len(self.alpha_bar)

    def nearest(self, alpha_bar: float) -> int:
        """The index whose signal level is nearest to `alpha_bar`."""
        return int(np.abs(self.alpha_bar - alpha_bar).argmin())

    @cached_property
    def alpha_bar_previous(self) -> FloatArray:
        """alpha_bar one step nearer to the image; `final`, which is mostly 1, before the first."""
        return np.append(self.final, self.alpha_bar[:-1])

    @cached_property
    def beta(self) -> FloatArray:
        """Forward variance of each *kept* step: 1 - alpha_bar_i / alpha_bar_{i-1}."""
        return 1.0 - self.alpha_bar / self.alpha_bar_previous

    @cached_property
    def posterior_log_variance(self) -> FloatArray:
        """Log of beta~_i = beta_i (1 - alpha_bar_{i-1}) / (1 - alpha_bar_i).

        beta~_0, which is 0, is replaced by beta~_1.
        """
        variance = self.beta * (1 - self.alpha_bar_previous) / (1 - self.alpha_bar)
        variance[0] = variance[1] if len(self) > 1 else self.beta[0]
        return np.log(variance)

    def q_sample(self, x0: Tensor, i: Index, eps: Tensor) -> Tensor:
        """x_i of images `x0` (B, C, H, W) under standard normal noise `eps` of the same shape."""
        return (
            _at(np.sqrt(self.alpha_bar), i, x0) * x0 + _at(np.sqrt(1 - self.alpha_bar), i, x0) * eps
        )

    def predict_x0(self, x_i: Tensor, i: Index, eps: Tensor) -> Tensor:
        """Tweedie's estimate, not clipped: alpha_bar^-1/2 x_i - sqrt(1/alpha_bar - 1) eps."""
        rate = _at(np.sqrt(1 / self.alpha_bar), i, x_i)
        return rate * x_i - _at(np.sqrt(1 / self.alpha_bar - 1), i, x_i) * eps

    def velocity(self, x0: Tensor, i: Index, eps: Tensor) -> Tensor:
        """V = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0 (Salimans & Ho 2022)."""
        return (
            _at(np.sqrt(self.alpha_bar), i, x0) * eps - _at(np.sqrt(1 - self.alpha_bar), i, x0) * x0
        )

    def eps_of_velocity(self, velocity: Tensor, x_i: Tensor, i: Index) -> Tensor:
        """The noise that a velocity stands for: sqrt(alpha_bar) v + sqrt(1 - alpha_bar) x_i."""
        signal, noise = np.sqrt(self.alpha_bar), np.sqrt(1 - self.alpha_bar)
        return _at(signal, i, x_i) * velocity + _at(noise, i, x_i) * x_i

    def posterior_mean(self, x0: Tensor, x_i: Tensor, i: Index) -> Tensor:
        """Mean of q(x_{i-1} | x_i, x_0)."""
        on_x0 = _at(self.beta * np.sqrt(self.alpha_bar_previous) / (1 - self.alpha_bar), i, x0)
        on_x_i = _at(
            (1 - self.alpha_bar_previous) * np.sqrt(1 - self.beta) / (1 - self.alpha_bar), i, x0
        )
        return on_x0 * x0 + on_x_i * x_i

    def fixed_log_variance(self, i: Index, like: Tensor, *, large: bool = False) -> Tensor:
        """Log-variance of an untrained reverse step, broadcastable to `like`.

        It is beta~_i, or beta_i if `large` (then beta~_1 at i = 0).
        """
        constants = self.posterior_log_variance
        if large:
            constants = np.append(constants[0], np.log(self.beta[1:]))
        value = _at(constants, i, like)
        return value if isinstance(value, Tensor) else like.new_full([1] * like.ndim, value)

    def learned_log_variance(self, i: Index, v: Tensor) -> Tensor:
        """Interpolation f log beta_i + (1 - f) log beta~_i with f = (v + 1) / 2.

        `v` (B, C, H, W) is the second half of the network's output.
        """
        f = (v + 1) / 2
        return f * _at(np.log(self.beta), i, v) + (1 - f) * _at(self.posterior_log_variance, i, v)


@dataclass(frozen=True, eq=False)
class _Karras(Schedule):
    rho: float = 7.0

    @classmethod
    def of(cls, steps: int, lowest: float, highest: float, rho: float) -> _Karras:
        """The grid of so many steps; of one step, the highest sigma."""
        roots = np.linspace(highest ** (1 / rho), lowest ** (1 / rho), steps, dtype=np.float64)
        sigma = roots[::-1] ** rho
        return cls(1 / (1 + sigma**2), sigma, noise_alone=True, rho=rho)

    def respaced(self, steps: int) -> Schedule:
        """The grid of `steps` between the same ends."""
        space_timesteps(len(self), steps)  # says what is allowed
        return _Karras.of(steps, self.timesteps[0], self.timesteps[-1], self.rho)


def space_timesteps(total: int, steps: int) -> NDArray[np.int64]:
    """`steps` evenly spaced timesteps of 0..total-1, both ends included, as in guided-diffusion.

    The stride is accumulated in floating point and rounded half to even, which differs from
    `np.linspace(...).round()` for some numbers of steps (21, 23, 31, ...); a released checkpoint's
    figures belong to this rounding.
    """
    if not 1 <= steps <= total:
        raise ValueError(
            f"steps is {steps}, but the model's schedule has {total}; give 1 to {total} steps"
        )
    stride = (total - 1) / (steps - 1) if steps > 1 else 1.0
    position, kept = 0.0, []
    for _ in range(steps):
        kept.append(round(position))
        position += stride
    return np.array(kept, dtype=np.int64)


def _at(constants: FloatArray, i: Index, like: Tensor) -> Tensor | float:
    """Pick float64 constants: the number itself, which costs no tensor and no copy to a device.

    For a batch of indices they are cast to the images' dtype, to broadcast on (B, C, H, W). (So is
    a number where it meets a tensor, with the same rounding.)
    """
    if not isinstance(i, Tensor):
        return float(constants[i])
    values = torch.as_tensor(constants[i.cpu().numpy()])
    return values.to(device=like.device, dtype=like.dtype).reshape(-1, *[1] * (like.ndim - 1))
