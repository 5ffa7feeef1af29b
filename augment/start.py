"""Where a run starts instead of pure noise; the ordinary reverse process follows, guided or not.

SDEdit (Meng et al. 2022, https://arxiv.org/abs/2108.01073) starts from a noised image,

    x_i = sqrt(alpha_bar_i) x_ref + sqrt(1 - alpha_bar_i) e,      i = strength N - 1,

so that a reference that is rough or not of the model's kind becomes an image of its kind, near the
reference for a low strength. Boost-and-Skip (ICML 2025) starts from noise that is too large, a few
steps late:

    x_i = gamma e,      i = N - 1 - Delta
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from augment.denoiser import Denoiser
from augment.images import Pixels, pixels_sha256
from augment.noise import REVERSE, NoiseStream

__all__ = ["Boost", "Edit", "Start"]


class Start(Protocol):
    """Where a run starts; a value handed to the sampler.

    Its noise e is the image's first draw, from which an ordinary run would start: runs of the same
    seeds are paired, plain, guided or started elsewhere.
    """

    name: ClassVar[str]
    """Name of the kind of start, in a folder's record."""

    def start(self, denoiser: Denoiser, seeds: Sequence[int], steps: int) -> tuple[Tensor, int]:
        """X at the first step, float32 (B, C, H, W), and that step's index.

        Raises:
            ValueError: see `check`.
        """

    def check(self, denoiser: Denoiser) -> None:
        """Check the start against the model.

        Raises:
            ValueError: the model cannot start there.
        """


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Edit:
    """SDEdit. At strength 1 of a schedule that ends in pure noise, it is the ordinary sample. There
    is one repeat and no mask.
    """

    name: ClassVar[str] = "edit"

    references: Pixels
    """K images in the model's format; the image of seed s starts from number s mod K."""
    strength: float = 0.5
    """Share of the reverse steps that are taken, 0 to 1; never fewer than the last one."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(
                f"edit strength is {self.strength}; give 0 (the reference) to 1 (hardly "
                "anything of it), SDEdit's is 0.5"
            )
        shape = tuple(self.references.shape)
        first = self.references[torch.arange(min(1, len(self.references)))]
        if first.dtype != torch.uint8 or len(shape) != 4 or not shape[0]:
            raise ValueError(
                f"the references are {first.dtype} of shape {shape}; give at least "
                "one image, torch.uint8 of shape (K, C, H, W)"
            )

    def __repr__(self) -> str:
        pixels = pixels_sha256(self.references)
        return f"Edit(references='{pixels[:16]}', strength={self.strength})"

    def start(self, denoiser: Denoiser, seeds: Sequence[int], steps: int) -> tuple[Tensor, int]:
        """The noised references, float32 (B, C, H, W), and the index of the first step.

        Raises:
            ValueError: see `check`.
        """
        self.check(denoiser)
        index = max(round(self.strength * steps), 1) - 1
        chosen = self.references[torch.tensor([seed % len(self.references) for seed in seeds])]
        with torch.no_grad():
            x0 = denoiser.encoded(denoiser.image.from_uint8(chosen.to(denoiser.device)))
        e = _first_draw(denoiser, seeds)
        return denoiser.schedule.respaced(steps).q_sample(x0, index, e), index

    def check(self, denoiser: Denoiser) -> None:
        """Check the references against the model.

        Raises:
            ValueError: they are not of the format of its images.
        """
        if self.references.shape[1:] != denoiser.image.shape:
            raise ValueError(
                f"the references have shape {tuple(self.references.shape[1:])}, the model's images "
                f"{denoiser.image.shape}; give references of that shape"
            )


@dataclass(frozen=True, kw_only=True)
class Boost:
    """Boost-and-Skip: samples from noise of too large a norm, which costs no forward pass at all.

    The steps above `alpha_bar` are skipped, as the first one would forget its start: with a cosine
    schedule of 250 steps, 99 % of it. A paper's number of skipped steps belongs to its number of
    steps, alpha_bar to none; with 1,000 steps of that schedule 12 are skipped, with 100 or 50 one.
    At `gamma` 1 and `alpha_bar` 0 it is ordinary sampling.

    The published gammas are for ancestral sampling, which forgets most of the start. DDIM and
    DPM-Solver do not: of Gaussian data they make images `gamma` times as large, so that 1 to 1.3
    are to be tried there.
    """

    name: ClassVar[str] = "boost"

    gamma: float = 4.0
    """Factor of the noise; the paper's is 4 for CelebA and 2.5 for ImageNet-64."""
    alpha_bar: float = 3.5e-4
    """Signal level of the first step, of which the schedule's nearest is taken; 3.5e-4 is the
    paper's skip of 3 of 250 steps of a cosine schedule, and 0 skips none."""

    def __post_init__(self) -> None:
        if not 0 < self.gamma < math.inf:
            raise ValueError(
                f"boost.gamma is {self.gamma}; give a number above 0, 1 for ordinary noise; 4 is "
                "the paper's for CelebA"
            )
        if not 0 <= self.alpha_bar < 1:
            raise ValueError(
                f"boost.alpha_bar is {self.alpha_bar}; give 0 (no step is skipped) to below 1; "
                "3.5e-4 is the paper's"
            )

    def start(self, denoiser: Denoiser, seeds: Sequence[int], steps: int) -> tuple[Tensor, int]:
        """Boosted noise, float32 (B, C, H, W), and the index of the first step."""
        schedule = denoiser.schedule.respaced(steps)
        asked = max(self.alpha_bar, np.finfo(np.float64).tiny)
        index = int(np.abs(np.log(schedule.alpha_bar) - math.log(asked)).argmin())
        return self.gamma * schedule.start_scale * _first_draw(denoiser, seeds), index

    def check(self, denoiser: Denoiser) -> None:
        """Every model can start from noise."""


def _first_draw(denoiser: Denoiser, seeds: Sequence[int]) -> Tensor:
    """The noise that an ordinary run of these seeds starts from, float32 (B, C, H, W)."""
    return NoiseStream(seeds, REVERSE, denoiser.shape, denoiser.device).draw()
