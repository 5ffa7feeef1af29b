"""Classifier-free guidance: images more typical of their class, of a generator with a null class.

Reference: Ho & Salimans 2022, https://arxiv.org/abs/2207.12598
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from augment.denoiser import Denoiser

__all__ = ["towards_class"]


def towards_class(denoiser: Denoiser, scale: float) -> Denoiser:
    """A denoiser that moves its prediction by `scale` from that without class to that of the class.

    Each step costs two forwards, in one batch.

    Args:
        denoiser: trained with a null class, unless `scale` is 1; left as it is.
        scale: 0 is without class, 1 without guidance, which returns the denoiser; 1.5 to 5 are
            usual.

    Raises:
        ValueError: it has no null class.
    """
    if scale == 1:
        return denoiser
    if denoiser.null_class is None:
        raise ValueError(
            f"sampler.class_scale is {scale}, but the generator was trained without a null class; "
            "leave it out, or train one with --classes"
        )
    return denoiser.with_network(
        _TowardsClass(denoiser.network, denoiser.null_class, denoiser.shape[0], scale).eval()
    )


class _TowardsClass(nn.Module):
    """Noise and v are affine in one another, so that either may be moved; the variance stays.

    All channels of the noise are moved, as diffusers does it. DiT's own code moves the first three,
    of four that its latents have.
    """

    def __init__(self, network: nn.Module, null: int, channels: int, scale: float) -> None:
        super().__init__()
        self.network, self.null, self.channels, self.scale = network, null, channels, scale

    def forward(self, x: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        """(B, C, H, W), timesteps and classes int64 (B,), to (B, C or 2C, H, W)."""
        both = torch.cat([labels, torch.full_like(labels, self.null)])
        output: Any = self.network(x.repeat(2, 1, 1, 1), timestep.repeat(2), both)
        of_class, of_any = getattr(output, "sample", output).chunk(2)
        kept = of_class[:, self.channels :]
        of_class, of_any = of_class[:, : self.channels], of_any[:, : self.channels]
        return torch.cat([of_any + self.scale * (of_class - of_any), kept], dim=1)
