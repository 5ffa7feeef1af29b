"""What the training of a generator begins with: random weights, or another generator's, adapted.

Either is a `Denoiser` whose network is a UNet2DModel with learned variance.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from augment.denoiser import Denoiser, ImageFormat
from augment.fitting import NetworkShape
from augment.pretrained.unet import UNet2DModel
from augment.schedule import Schedule

__all__ = ["NetworkConfig", "adapted", "recommended_network"]


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(NetworkShape):
    """The U-Net to train; the defaults are for a CPU."""

    group: ClassVar[int] = 8

    def build(self) -> Denoiser:
        """A denoiser of random weights, with a cosine schedule of 1,000 steps, that predicts v.

        Its network makes twice the image's channels: v, then variance weights.
        """
        attending = [level in self.attention_levels for level in range(len(self.widths))]
        network: nn.Module = UNet2DModel(
            sample_size=self.size,
            in_channels=self.channels,
            out_channels=2 * self.channels,
            layers_per_block=self.blocks,
            block_out_channels=self.widths,
            down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attending),
            up_block_types=tuple(
                "AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attending)
            ),
            attention_head_dim=min(32, self.widths[-1]),
            norm_num_groups=self.group,
            # Without it, diffusers leaves the middle attention unnormalised under scale-shift.
            attn_norm_num_groups=self.group,
            resnet_time_scale_shift="scale_shift",
        )
        return Denoiser(
            network,
            Schedule.cosine(),
            self.image,
            prediction="v_prediction",
            variance="learned_range",
        )


def recommended_network(size: int, channels: int = 3) -> NetworkConfig:
    """The network for a CPU: halved down to 4 to 7 pixels, 16, 32, 64, 96, ... channels wide, with
    self-attention from 8 pixels on.

    It is that of avatars-32 and fashion-longtail-28, of 32 and 28 pixels. A training step of 64
    images takes 0.7 s of one core at 32 pixels and 3 to 4 s at 64 (no such generator was trained
    here).
    """
    levels, side = 1, size
    while side >= 8 and side % 2 == 0:
        levels, side = levels + 1, side // 2
    small = [level for level in range(levels) if size >> level <= 8]
    return NetworkConfig(
        size=size,
        channels=channels,
        widths=(16, *(32 * level for level in range(1, levels))),
        attention_levels=tuple(small[:1] or [levels - 1]),
    )


def adapted(start: Denoiser, *, size: int | None = None, classes: int | None = None) -> Denoiser:
    """A copy of a generator, as a training on other images begins with it.

    Weights, schedule, prediction and channels are its own. Adapted are
    - the size, as convolutions take any;
    - a fixed variance, to a learned one, which begins halfway between its bounds;
    - the classes. Embeddings of as many classes are kept. Others begin with zeros, and so with what
      the network made before it knew any.

    Args:
        start: its network is a UNet2DModel.
        size: height and width in pixels; left out, its own.
        classes: how many the images have; one more is made, which stands for none.

    Raises:
        ValueError: a network on latents or of another kind, a size that its levels do not divide,
            or a generator with classes and images without.
    """
    if start.latents is not None or not isinstance(start.network, UNet2DModel):
        raise ValueError(
            "the start is no UNet2DModel on pixels, and only such a generator is trained on; give "
            "another one, or leave it out"
        )
    network: Any = copy.deepcopy(start.network)
    image = ImageFormat(channels=start.image.channels, size=size or start.image.size)
    multiple = 2 ** (len(network.config["block_out_channels"]) - 1)
    if image.size % multiple:
        raise ValueError(
            f"the start halves its images {multiple.bit_length() - 1} times, which {image.size} "
            f"pixels do not allow; give a multiple of {multiple} for network.size"
        )
    if classes is None and start.classes is not None:
        raise ValueError(
            f"the start has {start.classes} classes, the images none; name their column with "
            "--classes, or start from a generator without classes"
        )
    network.register_to_config(sample_size=image.size)
    if start.variance != "learned_range":
        _learn_variance(network)
    if classes is not None:
        _know_classes(network, classes, keep=classes == start.classes)
    return Denoiser(
        network,
        start.schedule,
        image,
        prediction=start.prediction,
        variance="learned_range",
        classes=classes,
        null_class=classes,
        clip=start.clip,
        card=start.card,
    )


def _learn_variance(network: Any) -> None:
    """Give the head as many channels again, which are 0."""
    narrow = network.conv_out
    wide = nn.Conv2d(
        narrow.in_channels, 2 * narrow.out_channels, narrow.kernel_size, padding=narrow.padding
    )
    with torch.no_grad():
        for new, old in zip(wide.parameters(), narrow.parameters(), strict=True):
            new.zero_()[: len(old)] = old
    network.conv_out = wide
    network.register_to_config(out_channels=wide.out_channels)


def _know_classes(network: Any, classes: int, *, keep: bool) -> None:
    """Give the network a table of embeddings, the last of them that of the null class."""
    table = nn.Embedding(classes + 1, network.time_embedding.linear_2.out_features)
    with torch.no_grad():
        table.weight.zero_()
        if keep:
            known = network.class_embedding.weight
            table.weight[: len(known)] = known
    network.class_embedding = table
    network.register_to_config(num_class_embeds=classes + 1)
