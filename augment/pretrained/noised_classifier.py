"""The network of a classifier of noised images, guided-diffusion's.

It is the encoder half of the denoisers' U-Net, hence made of diffusers' blocks, and an attention
pool, which diffusers does not have.

Reference: Dhariwal & Nichol 2021, sec. 4, https://arxiv.org/abs/2105.05233
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from augment.denoiser import ImageFormat
from augment.pretrained.architecture import Architecture
from augment.pretrained.guided_diffusion import build_unet, schedule_of
from augment.pretrained.options import Settings

__all__ = ["NoisedClassifier"]


class NoisedClassifier(nn.Module):
    """log p(y | x_t, t) up to a constant, for images noised by `schedule`."""

    def __init__(
        self,
        architecture: Architecture,
        settings: Settings,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.architecture, self.settings = architecture, settings
        width, side = architecture.widths[-1], architecture.pool or 1
        self.image = ImageFormat(channels=architecture.in_channels, size=settings.image_size)
        self.schedule = schedule_of(settings)
        self.classes = architecture.out_channels
        self.card = dict(card or {})
        unet: Any = build_unet(architecture, settings)
        self.time_proj, self.time_embedding = unet.time_proj, unet.time_embedding
        self.conv_in, self.down_blocks = unet.conv_in, unet.down_blocks
        self.mid_block = unet.mid_block
        self.norm = nn.GroupNorm(32, width)
        self.pool = AttentionPool(width, side, settings.heads_of(width), self.classes)

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        """Logits (B, classes) of noisy images `x` (B, C, H, W) at timesteps int64 (B,).

        Timesteps are the schedule's own, not indices of a respacing.
        """
        embedding = self.time_embedding(self.time_proj(timestep).to(x.dtype))
        hidden = self.conv_in(x)
        for block in self.down_blocks:
            hidden, _ = block(hidden, embedding)
        hidden = self.mid_block(hidden, embedding)
        logits: Tensor = self.pool(silu(self.norm(hidden)))
        return logits


class AttentionPool(nn.Module):
    """One step of self-attention from the mean of all positions, then a linear layer (CLIP's)."""

    def __init__(self, width: int, side: int, heads: int, classes: int) -> None:
        super().__init__()
        self.heads = heads
        self.positions = nn.Parameter(torch.randn(width, side**2 + 1) / width**0.5)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, classes)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C, side, side) to (B, classes)."""
        pixels = hidden.flatten(2)
        tokens = torch.cat([pixels.mean(2, keepdim=True), pixels], dim=2) + self.positions
        rows = self.qkv(tokens.transpose(1, 2)).unflatten(2, (3, self.heads, -1))
        query, key, value = rows.permute(2, 0, 3, 1, 4)
        pooled: Tensor = self.out(
            scaled_dot_product_attention(query[:, :, :1], key, value).flatten(1)
        )
        return pooled
