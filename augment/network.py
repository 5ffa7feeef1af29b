"""The U-Net that `augment.train` builds: diffusers' UNet2DModel, by default for a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import diffusers
from torch import nn

__all__ = ["NetworkConfig", "check_shape"]

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
        check_shape(self, group=8)

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


class Shape(Protocol):
    """The settings that a U-Net and the encoder half of one share."""

    @property
    def size(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def widths(self) -> tuple[int, ...]: ...
    @property
    def attention_levels(self) -> tuple[int, ...]: ...
    @property
    def blocks(self) -> int: ...


def check_shape(network: Shape, *, group: int) -> None:
    """Check the settings of a network whose group normalisation needs multiples of `group`.

    Raises:
        ValueError: no such network can be built, or an attention level does not exist.
    """
    size, widths = network.size, network.widths
    if not widths or any(width < 1 or width % group for width in widths):
        raise ValueError(
            f"network.widths are {widths}; group normalisation needs multiples of {group}"
        )
    divisor = 2 ** (len(widths) - 1)
    if size < divisor or size % divisor:
        raise ValueError(
            f"network.size is {size}; {len(widths)} widths halve it to a fraction; "
            f"give a multiple of {divisor}"
        )
    if network.channels not in (1, 3):
        raise ValueError(
            f"network.channels is {network.channels}; allowed are 1 (grey) and 3 (RGB)"
        )
    if outside := [n for n in network.attention_levels if not 0 <= n < len(widths)]:
        raise ValueError(
            f"network.attention_levels has {outside[0]}; allowed are 0 to {len(widths) - 1}, one "
            "level a width; give some of these, or [] for none"
        )
    if network.blocks < 1:
        raise ValueError(f"network.blocks is {network.blocks}; give at least 1")
