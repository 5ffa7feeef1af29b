"""Upsamplers: denoisers of large images whose network sees a small one beside the noisy one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from augment.denoiser import Denoiser

__all__ = ["Upsampler"]


@dataclass(frozen=True)
class Upsampler:
    """A diffusion model of large images given small ones.

    Reference: Dhariwal & Nichol 2021, "Comparison to Upsampling", https://arxiv.org/abs/2105.05233
    """

    denoiser: Denoiser
    """Its `image` is the large one; its network takes (B, 2C, H, W): noisy, then small."""

    def beside(self, small: Tensor) -> Denoiser:
        """The denoiser of the large versions of a batch of small images.

        Args:
            small: float32 (B, C, h, w) in [-1, 1], enlarged bilinearly here.

        Returns:
            An ordinary denoiser, for batches of these B images in this order.

        Raises:
            ValueError: they have another number of channels.
        """
        given = self.denoiser
        if small.ndim != 4 or small.shape[1] != given.image.channels:
            raise ValueError(
                f"the small images have shape {tuple(small.shape)}; allowed is "
                f"(B, {given.image.channels}, h, w); give the images to enlarge"
            )
        return given.with_network(
            _Beside(given.network, small.to(given.device), given.image.size).eval()
        )


class _Beside(nn.Module):
    """A network of 2C input channels, the last C of which are given."""

    enlarged: Tensor

    def __init__(self, network: nn.Module, small: Tensor, size: int) -> None:
        super().__init__()
        self.network = network
        enlarged = interpolate(small, (size, size), mode="bilinear")
        self.register_buffer("enlarged", enlarged, persistent=False)

    def forward(self, x: Tensor, timestep: Tensor, *labels: Tensor) -> Any:
        if len(x) != len(self.enlarged):
            raise ValueError(
                f"the batch has {len(x)} images beside {len(self.enlarged)} small ones; "
                "give as many"
            )
        return self.network(torch.cat([x, self.enlarged], dim=1), timestep, *labels)
