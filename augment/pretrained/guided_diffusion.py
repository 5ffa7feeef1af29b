"""Checkpoints of guided-diffusion (ADM), as they are downloaded, made a network of diffusers.

The architecture is read off the tensors; the rest is known of the known checkpoints and otherwise
asked for. `UNet2DModel` computes the same function as the original up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from augment.denoiser import Denoiser, ImageFormat
from augment.pretrained.architecture import Architecture
from augment.pretrained.files import hold_to_hash, read_tensors, sha256_of
from augment.pretrained.heads import set_heads
from augment.pretrained.layers import convert_tensors
from augment.pretrained.options import CheckpointOptions, Settings
from augment.pretrained.recognise import read_architecture, recognise
from augment.schedule import Schedule

__all__ = ["build_unet", "load_checkpoint", "load_tensors", "schedule_of"]

_diffusers: Any = diffusers
"""Its classes are hardly typed."""


def load_checkpoint(path: Path, options: CheckpointOptions | None = None) -> Denoiser:
    """The denoiser in a guided-diffusion `.pt` file; of an upsampler, with twice the channels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no denoiser of guided-diffusion, tensors are missing, or it takes an
            option to know it entirely; the message says which.
    """
    options = options or CheckpointOptions()
    state = read_tensors(path)
    architecture = read_architecture(state, path, options.image_size)
    if architecture.pool is not None:
        raise ValueError(
            f"{path} is a noised classifier; allowed is a denoiser; "
            "give it to load_noised_classifier"
        )
    sha256 = sha256_of(path)
    recognised = recognise(architecture, sha256, options, path)
    settings = recognised.settings
    with torch.device("meta"):
        network = build_unet(architecture, settings)
    load_tensors(network, state, architecture, settings, path)
    hold_to_hash(path, sha256)
    return Denoiser(
        network,
        schedule_of(settings),
        ImageFormat(channels=architecture.channels, size=settings.image_size),
        variance=settings.variance,
        classes=architecture.classes,
        card=recognised.card(path, sha256),
    )


def build_unet(architecture: Architecture, settings: Settings) -> nn.Module:
    """The UNet2DModel of an architecture, with random weights.

    Raises:
        ValueError: the image does not divide into the levels, or the channels into the heads.
    """
    size, divisor = settings.image_size, 2 ** (len(architecture.widths) - 1)
    if size % divisor:
        raise ValueError(
            f"image_size is {size}; {len(architecture.widths)} levels halve it to a fraction; "
            f"give a multiple of {divisor}"
        )
    network: nn.Module = _diffusers.UNet2DModel(**_config(architecture, settings))
    if settings.heads is not None:
        set_heads(network, settings.heads)
    return network


def load_tensors(
    network: nn.Module,
    state: Mapping[str, Tensor],
    architecture: Architecture,
    settings: Settings,
    path: Path,
) -> None:
    """Put the tensors of a checkpoint in the place of a network's own, every one of them.

    Raises:
        ValueError: a tensor has another shape than its network's.
    """
    heads = {width: settings.heads_of(width) for width in _attended(architecture)}
    order = settings.attention_order
    try:
        converted = convert_tensors(state, architecture, order=order, heads=heads)
        network.load_state_dict(converted, assign=True)
    except (RuntimeError, TypeError, ValueError) as error:  # TypeError: a tensor without axes.
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{path} has tensors of other shapes than its network ({reason}); "
            "give the file as it was downloaded"
        ) from error


def schedule_of(settings: Settings) -> Schedule:
    """The schedule of training, of 1,000 steps."""
    return Schedule.cosine() if settings.schedule == "cosine" else Schedule.linear()


def _config(architecture: Architecture, settings: Settings) -> dict[str, Any]:
    """Arguments of UNet2DModel."""
    step = "Resnet{}sampleBlock2D" if architecture.residual_steps else "{}Block2D"
    down = [_block("Down", step, i in architecture.attention) for i in _levels(architecture)]
    up = [_block("Up", step, i in architecture.attention) for i in _levels(architecture)]
    # With one number of heads for several widths, diffusers is told a width that divides them all.
    narrowest = math.gcd(*_attended(architecture))
    return {
        "sample_size": settings.image_size,
        "in_channels": architecture.in_channels,
        "out_channels": architecture.out_channels,
        "layers_per_block": architecture.blocks,
        "block_out_channels": architecture.widths,
        "down_block_types": tuple(down),
        "up_block_types": tuple(reversed(up)),
        "downsample_type": "resnet" if architecture.residual_steps else "conv",
        "upsample_type": "resnet" if architecture.residual_steps else "conv",
        "attention_head_dim": narrowest // settings.heads_of(narrowest),
        # Without it, diffusers leaves the middle attention unnormalised under scale-shift.
        "attn_norm_num_groups": 32,
        "resnet_time_scale_shift": "scale_shift" if architecture.scale_shift else "default",
        "num_class_embeds": architecture.classes,
    }


def _block(direction: str, plain: str, attends: bool) -> str:
    return f"Attn{direction}Block2D" if attends else plain.format(direction)


def _levels(architecture: Architecture) -> range:
    return range(len(architecture.widths))


def _attended(architecture: Architecture) -> set[int]:
    """Widths of all attentions; the middle always has one."""
    return {architecture.widths[level] for level in (*architecture.attention, -1)}
