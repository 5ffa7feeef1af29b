"""Checkpoints of guided-diffusion (ADM), as they are downloaded, made networks of diffusers.

The architecture is read off the tensors; the rest is known of the known checkpoints and otherwise
asked for. `UNet2DModel` computes the same function as the original up to rounding. Everything but
self-attention has the same tensors under another name. Of self-attention, guided-diffusion keeps
queries, keys and values in one convolution, whose rows come in one of two orders: "new", all
queries, all keys, all values; or "legacy", head by head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from augment.denoiser import Denoiser, ImageFormat
from augment.files import one_line
from augment.pretrained.architecture import Architecture, readings, tensor_names
from augment.pretrained.checkpoints import KNOWN, CheckpointOptions, Settings, settle
from augment.pretrained.files import hold_to_hash, read_tensors, sha256_of
from augment.pretrained.unet import UNet2DModel, check_channels, set_heads
from augment.schedule import Schedule

__all__ = [
    "Checkpoint",
    "build_unet",
    "load_checkpoint",
    "load_network",
    "read_architecture",
    "schedule_of",
]

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint(Generic[Network]):
    """A file of weights, made a network."""

    network: Network
    architecture: Architecture
    settings: Settings
    card: dict[str, Any]
    """Source and hash of the weights, and what is known of them."""


def load_checkpoint(path: Path, options: CheckpointOptions | None = None) -> Denoiser:
    """The denoiser in a guided-diffusion `.pt` file; of an upsampler, with twice the channels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no denoiser of guided-diffusion, tensors are missing, or it takes an
            option to know it entirely; the message says which.
    """
    found = load_network(path, options or CheckpointOptions(), build_unet, classifier=False)
    architecture = found.architecture
    return Denoiser(
        found.network,
        schedule_of(found.settings),
        ImageFormat(
            channels=check_channels(path, architecture.in_channels), size=found.settings.image_size
        ),
        variance=found.settings.variance,
        classes=architecture.classes,
        card=found.card,
    )


def load_network(
    path: Path,
    options: CheckpointOptions,
    build: Callable[[Architecture, Settings], Network],
    *,
    classifier: bool,
) -> Checkpoint[Network]:
    """The network in a `.pt` file, which is held to the hash of its first use.

    Args:
        path: the file.
        options: what its tensors cannot tell.
        build: makes the network, by diffusers' names of tensors.
        classifier: whether it is to be a noised classifier, or else a denoiser.

    Raises:
        FileNotFoundError, ValueError: as `load_checkpoint`.
    """
    state = read_tensors(path)
    architecture = read_architecture(state, path, options.image_size)
    if (architecture.pool is not None) != classifier:
        kinds = "denoiser", "noised classifier"
        loaders = "load_denoiser or load_upsampler", "load_noised_classifier"
        raise ValueError(
            f"{path} is a {kinds[not classifier]}; allowed is a {kinds[classifier]}; "
            f"give it to {loaders[not classifier]}"
        )
    made = None if classifier else architecture.out_channels
    channels = check_channels(path, architecture.in_channels, made)
    if classifier:  # Its pool tells its size, whatever is known of one built alike.
        options = replace(options, image_size=architecture.pooled_size)
    settings, card = settle(architecture, options, path, learned=made == 2 * channels)
    sha256 = sha256_of(path)
    with torch.device("meta"):
        network = build(architecture, settings)
    _load_tensors(network, state, architecture, settings, path)
    hold_to_hash(path, sha256)
    return Checkpoint(
        network, architecture, settings, {"source": str(path), "sha256": sha256, **card}
    )


def read_architecture(
    state: Mapping[str, Tensor], path: Path, image_size: int | None = None
) -> Architecture:
    """The architecture of a state dict that has every tensor of it, and no other.

    Args:
        state: tensors by guided-diffusion's names.
        path: their file, for messages.
        image_size: pixels; needed only by a classifier whose tensors fit several sizes.

    Raises:
        ValueError: it is none of guided-diffusion's, tensors are missing or too many, or the image
            size would decide and is not given.
    """
    try:
        found = readings(state)
    except ValueError as error:
        nearest, names = _nearest(state)
        raise ValueError(
            f"{path} holds no whole network of guided-diffusion ({error}): "
            f"{_listed(names - state.keys(), 'missing')} of the {len(names)} tensors of the "
            f"nearest known one, {nearest}; give a checkpoint of guided-diffusion"
        ) from error
    whole = [reading for reading in found if tensor_names(reading).keys() == state.keys()]
    if not whole:
        raise ValueError(_what_differs(state, found, path))
    sizes = [reading.pooled_size for reading in whole]
    if image_size is not None and sizes[0] is not None:
        whole = [reading for reading in whole if reading.pooled_size == image_size]
    if len(whole) != 1:
        given = "" if image_size is None else f", not {image_size}"
        raise ValueError(
            f"{path} is open: its tensors cannot tell image_size, which is "
            f"{' or '.join(map(str, sizes))}{given}; give it as CheckpointOptions(image_size=...)"
        )
    return whole[0]


def _what_differs(state: Mapping[str, Tensor], found: list[Architecture], path: Path) -> str:
    """What keeps a state dict from being the network that it is likest to."""
    expected = max((set(tensor_names(reading)) for reading in found), key=_likeness(state))
    nearest, _ = _nearest(state)
    if missing := expected - state.keys():
        return (
            f"{path} is not complete: {_listed(missing, 'missing')}, of {len(expected)} tensors; "
            f"the nearest known checkpoint is {nearest}; give the whole file"
        )
    return (
        f"{path} has tensors that guided-diffusion's networks do not: "
        f"{_listed(state.keys() - expected, 'unknown')}; the nearest known checkpoint is "
        f"{nearest}; give a checkpoint of guided-diffusion"
    )


def _nearest(state: Mapping[str, Tensor]) -> tuple[str, set[str]]:
    """The known checkpoint that shares most names with a state dict, and its names."""
    named = {known.name: set(tensor_names(known.architecture)) for known in KNOWN}
    likeness = _likeness(state)
    return max(named.items(), key=lambda known: likeness(known[1]))


def _likeness(state: Mapping[str, Tensor]) -> Callable[[set[str]], float]:
    """How many names a set shares with a state dict, of the names in either."""
    return lambda names: len(names & state.keys()) / len(names | state.keys())


def _listed(names: Collection[str], what: str) -> str:
    return f"{len(names)} {what} ({', '.join(sorted(names)[:3])}{', ...' * (len(names) > 3)})"


def build_unet(architecture: Architecture, settings: Settings) -> nn.Module:
    """The UNet2DModel of an architecture, with random weights.

    Raises:
        ValueError: the image does not divide into the levels, or the channels into the heads.
    """
    levels, size = range(len(architecture.widths)), settings.image_size
    if size % 2 ** levels[-1]:
        raise ValueError(
            f"image_size is {size}; {len(levels)} levels halve it to a fraction; "
            f"give a multiple of {2 ** levels[-1]}"
        )
    plain = "Resnet{}sampleBlock2D" if architecture.residual_steps else "{}Block2D"
    attending = [level in architecture.attention for level in levels]
    step = "resnet" if architecture.residual_steps else "conv"
    # With one number of heads for several widths, diffusers is told a width that divides them all.
    narrowest = math.gcd(*architecture.attended)
    network: nn.Module = UNet2DModel(
        sample_size=size,
        in_channels=architecture.in_channels,
        out_channels=architecture.out_channels,
        layers_per_block=architecture.blocks,
        block_out_channels=architecture.widths,
        down_block_types=tuple(
            "AttnDownBlock2D" if attends else plain.format("Down") for attends in attending
        ),
        up_block_types=tuple(
            "AttnUpBlock2D" if attends else plain.format("Up") for attends in reversed(attending)
        ),
        downsample_type=step,
        upsample_type=step,
        attention_head_dim=narrowest // settings.heads_of(narrowest),
        # Without it, diffusers leaves the middle attention unnormalised under scale-shift.
        attn_norm_num_groups=32,
        resnet_time_scale_shift="scale_shift" if architecture.scale_shift else "default",
        num_class_embeds=architecture.classes,
    )
    if settings.heads is not None:
        set_heads(network, settings.heads)
    return network


def known_network(name: str) -> nn.Module:
    """The U-Net of a public checkpoint with random weights, on torch's default device: on `meta`
    it takes no memory, and what a pass costs can be counted.

    Raises:
        ValueError: no such checkpoint.
    """
    options = CheckpointOptions(known=name)
    architecture = {one.name: one.architecture for one in KNOWN}[name]
    settings, _ = settle(architecture, options, Path(name), learned=True)
    return build_unet(architecture, settings)


def schedule_of(settings: Settings) -> Schedule:
    """The schedule of training, of 1,000 steps."""
    return Schedule.cosine() if settings.schedule == "cosine" else Schedule.linear()


def _load_tensors(
    network: nn.Module,
    state: Mapping[str, Tensor],
    architecture: Architecture,
    settings: Settings,
    path: Path,
) -> None:
    """Put the tensors of a checkpoint in the place of a network's own, every one of them."""
    heads = {width: settings.heads_of(width) for width in architecture.attended}
    legacy = settings.attention_order == "legacy"
    try:
        converted = dict(_converted(state, architecture, heads, legacy=legacy))
        network.load_state_dict(converted, assign=True)
    except (RuntimeError, TypeError, ValueError) as error:  # TypeError: a tensor without axes.
        raise ValueError(
            f"{path} has tensors of other shapes than its network ({one_line(error)}); "
            "give the file as it was downloaded"
        ) from error


def _converted(
    state: Mapping[str, Tensor],
    architecture: Architecture,
    heads: Mapping[int, int],
    *,
    legacy: bool,
) -> Iterator[tuple[str, Tensor]]:
    """The tensors by diffusers' names, in float32; `heads` are an attention's, by its channels."""
    for theirs, ours in tensor_names(architecture).items():
        tensor = state[theirs].float()
        if tensor.ndim == 3:  # A convolution of width one is a linear layer in diffusers.
            tensor = tensor.squeeze(-1)
        if ".to_qkv." not in ours:
            yield ours, tensor
            continue
        channels = len(tensor) // 3
        if channels not in heads:
            raise ValueError(f"{theirs} has {len(tensor)} rows")
        if legacy:
            rows = tensor.reshape(heads[channels], 3, -1, *tensor.shape[1:])
            tensor = rows.transpose(0, 1).reshape(tensor.shape)
        for name, part in zip(("to_q", "to_k", "to_v"), tensor.chunk(3), strict=True):
            yield ours.replace("to_qkv", name), part.contiguous()
