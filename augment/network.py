"""The U-Net that `augment.train` builds: diffusers' UNet2DModel, by default for a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import diffusers
from torch import nn

__all__ = ["NetworkConfig"]

_diffusers: Any = diffusers
"""Its classes are hardly typed."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The U-Net to train."""

    size: int = 32
    """Image height and width in pixels; divisible by 2 once a level below the first."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""
    widths: tuple[int, ...] = (16, 32, 64, 96)
    """Channels of each resolution level, from the image's own downwards; multiples of 8."""
    attention_levels: tuple[int, ...] = (2,)
    """Levels that have self-attention, 0 being the image's own resolution."""
    blocks: int = 1
    """Residual blocks a level."""

    def __post_init__(self) -> None:
        divisor = 2 ** (len(self.widths) - 1)
        if self.size % divisor:
            raise ValueError(
                f"network.size is {self.size}; {len(self.widths)} widths halve it to a fraction; "
                f"give a multiple of {divisor}"
            )
        if self.channels not in (1, 3):
            raise ValueError(
                f"network.channels is {self.channels}; allowed are 1 (grey) and 3 (RGB)"
            )
        if any(width % 8 for width in self.widths):
            raise ValueError(
                f"network.widths are {self.widths}; group normalisation needs multiples of 8"
            )

    def build(self) -> nn.Module:
        """The network with random weights, a UNet2DModel.

        Its output has twice the image's channels: noise, then variance weights.
        """
        attention = [level in self.attention_levels for level in range(len(self.widths))]
        network: nn.Module = _diffusers.UNet2DModel(
            sample_size=self.size,
            in_channels=self.channels,
            out_channels=2 * self.channels,
            layers_per_block=self.blocks,
            block_out_channels=self.widths,
            down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attention),
            up_block_types=tuple(
                "AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)
            ),
            attention_head_dim=min(32, self.widths[-1]),
            norm_num_groups=8,
            # Without it, diffusers leaves the middle attention unnormalised under scale-shift.
            attn_norm_num_groups=8,
            resnet_time_scale_shift="scale_shift",
        )
        return network
