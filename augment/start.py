"""SDEdit: start from a noised image instead of pure noise (Meng et al. 2022, https://arxiv.org/abs/2108.01073).

    x_i = sqrt(alpha_bar_i) x_ref + sqrt(1 - alpha_bar_i) e,      i = strength N - 1

and then the ordinary reverse process, guided or not, from i down. A reference that is rough or not
of the model's kind becomes an image of its kind, near the reference for a low strength.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from augment.denoiser import Denoiser
from augment.noise import REVERSE, NoiseStream

__all__ = ["Edit"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Edit:
    """Where a run starts; a value handed to the sampler.

    The noise e is the image's first draw, from which an ordinary run would start: runs of the same
    seeds are paired, plain, guided or edited. At strength 1 of a schedule that ends in pure noise,
    an edit is the ordinary sample. There is one repeat and no mask.
    """

    references: Tensor
    """uint8 (K, C, H, W) in the model's format; the image of seed s starts from number s mod K."""
    strength: float = 0.5
    """Share of the reverse steps that are taken, 0 to 1; never fewer than the last one."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(
                f"edit strength is {self.strength}; allowed is 0 (the reference) to 1 (hardly "
                "anything of it); SDEdit's is 0.5"
            )
        shape = tuple(self.references.shape)
        if self.references.dtype != torch.uint8 or len(shape) != 4 or not shape[0]:
            raise ValueError(
                f"the references are {self.references.dtype} of shape {shape}; allowed is "
                "torch.uint8 of shape (K, C, H, W); give at least one image so"
            )

    def __repr__(self) -> str:
        pixels = hashlib.sha256(self.references.contiguous().numpy(force=True).tobytes())
        return f"Edit(references='{pixels.hexdigest()[:16]}', strength={self.strength})"

    def start(self, denoiser: Denoiser, seeds: Sequence[int], steps: int) -> tuple[Tensor, int]:
        """The noised references, float32 (B, C, H, W), and the index of the first step.

        Raises:
            ValueError: see `check`.
        """
        self.check(denoiser)
        index = max(round(self.strength * steps), 1) - 1
        chosen = self.references[[seed % len(self.references) for seed in seeds]]
        x0 = denoiser.image.from_uint8(chosen.to(denoiser.device))
        e = NoiseStream(seeds, REVERSE, denoiser.image.shape, denoiser.device).draw()
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
