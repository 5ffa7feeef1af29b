"""Guided-diffusion's networks: what their tensors are called, and what the tensors tell.

Levels are counted from the image's own resolution (0) downwards, each half as wide as the one
above. An encoder level is `blocks` residual blocks, then a step down; a decoder level is one block
more, then a step up. The names of all tensors follow from an architecture, here beside those that
diffusers gives the same layers; an architecture is read off the tensors by trying how the input
blocks divide into levels.

Reference: Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233, and openai/guided-diffusion.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Architecture", "readings", "tensor_names"]

Layers = Mapping[str, str]
"""Guided-diffusion's name of a layer in its module, and diffusers'."""

_RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
}
_SHORTCUT = _RESIDUAL | {"skip_connection": "conv_shortcut"}
_ATTENTION = {"norm": "group_norm", "qkv": "to_qkv", "proj_out": "to_out.0"}
_STEP_DOWN = {"op": "conv"}
_STEP_UP = {"conv": "conv"}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A guided-diffusion U-Net, or the encoder half of one with an attention pool: a classifier."""

    widths: tuple[int, ...]
    """Channels of each level."""
    blocks: int
    """Residual blocks of each encoder level."""
    attention: tuple[int, ...]
    """Levels that have self-attention."""
    in_channels: int = 3
    """Channels of the input: the image's, or twice as many in an upsampler."""
    out_channels: int = 6
    """Channels of a denoiser's output, classes of a classifier's."""
    classes: int | None = None
    """Classes a denoiser is conditioned on; None if it is not."""
    pool: int | None = None
    """Side in pixels of the grid that a classifier pools over; None in a denoiser."""
    scale_shift: bool = True
    """Whether the time embedding scales and shifts, or is only added."""
    residual_steps: bool = True
    """Whether residual blocks halve and double the resolution, or plain convolutions."""

    @property
    def attended(self) -> set[int]:
        """Widths of all attentions; the middle always has one."""
        return {self.widths[level] for level in (*self.attention, -1)}

    @property
    def pooled_size(self) -> int | None:
        """The size of a classifier's images in pixels, which its pool's grid tells."""
        return None if self.pool is None else self.pool * 2 ** (len(self.widths) - 1)


def tensor_names(architecture: Architecture) -> dict[str, str]:
    """Guided-diffusion's name of every tensor of a network, and diffusers'.

    The fused `to_qkv` stands for `to_q`, `to_k` and `to_v`. A classifier's pool, which diffusers
    does not know, is `pool`.
    """
    names = {}
    for theirs, ours, layers in _modules(architecture):
        for layer, renamed in layers.items():
            for kind in ("weight", "bias"):
                names[f"{theirs}{layer}.{kind}"] = f"{ours}{renamed}.{kind}"
    if architecture.classes is not None:
        names["label_emb.weight"] = "class_embedding.weight"
    if architecture.pool is not None:
        names["out.2.positional_embedding"] = "pool.positions"
    return names


def _modules(architecture: Architecture) -> Iterator[tuple[str, str, Layers]]:
    """Every module: its prefix there, its prefix here, and its layers."""
    yield "time_embed.", "time_embedding.", {"0": "linear_1", "2": "linear_2"}
    yield "input_blocks.0.", "", {"0": "conv_in"}
    yield from _encoder(architecture)
    yield "middle_block.0.", "mid_block.resnets.0.", _RESIDUAL
    yield "middle_block.1.", "mid_block.attentions.0.", _ATTENTION
    yield "middle_block.2.", "mid_block.resnets.1.", _RESIDUAL
    if architecture.pool is None:
        yield from _decoder(architecture)
        yield "out.", "", {"0": "conv_norm_out", "2": "conv_out"}
    else:
        yield "out.", "", {"0": "norm"}
        yield "out.2.", "pool.", {"qkv_proj": "qkv", "c_proj": "out"}


def _encoder(architecture: Architecture) -> Iterator[tuple[str, str, Layers]]:
    k, before, last = 1, architecture.widths[0], len(architecture.widths) - 1
    for level, width in enumerate(architecture.widths):
        ours = f"down_blocks.{level}."
        for block in range(architecture.blocks):
            layers = _RESIDUAL if width == before else _SHORTCUT
            yield f"input_blocks.{k}.0.", f"{ours}resnets.{block}.", layers
            if level in architecture.attention:
                yield f"input_blocks.{k}.1.", f"{ours}attentions.{block}.", _ATTENTION
            k, before = k + 1, width
        if level != last:
            layers = _RESIDUAL if architecture.residual_steps else _STEP_DOWN
            yield f"input_blocks.{k}.0.", f"{ours}downsamplers.0.", layers
            k += 1


def _decoder(architecture: Architecture) -> Iterator[tuple[str, str, Layers]]:
    k = 0
    for position, level in enumerate(reversed(range(len(architecture.widths)))):
        ours = f"up_blocks.{position}."
        attends = level in architecture.attention
        for block in range(architecture.blocks + 1):
            # Its input has a skip's channels besides, so that the width always changes.
            yield f"output_blocks.{k}.0.", f"{ours}resnets.{block}.", _SHORTCUT
            if attends:
                yield f"output_blocks.{k}.1.", f"{ours}attentions.{block}.", _ATTENTION
            k += 1
        if level:
            layers = _RESIDUAL if architecture.residual_steps else _STEP_UP
            yield f"output_blocks.{k - 1}.{1 + attends}.", f"{ours}upsamplers.0.", layers


def readings(state: Mapping[str, Tensor]) -> list[Architecture]:
    """The architectures that a state dict may be of, one per way to divide its blocks into levels.

    The right one's `tensor_names` are the names in `state`. Of a classifier, which has no decoder
    and may have one width and no attention, there can be several such.

    Raises:
        ValueError: it has no input blocks, or lacks a tensor that every reading begins with.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    blocks = {found[1] for name in state if (found := re.match(r"input_blocks\.(\d+)\.", name))}
    tried: list[Architecture] = []
    reason = f"its {len(blocks)} input blocks do not divide into levels"
    for levels in range(1, len(blocks)):
        if len(blocks) % levels == 0:
            try:
                tried.append(_reading(shapes, levels, len(blocks) // levels))
            except ValueError as error:
                reason = str(error)
    if not tried:
        raise ValueError(reason)
    return tried


def _reading(shapes: Mapping[str, tuple[int, ...]], levels: int, period: int) -> Architecture:
    """The architecture of `levels` levels, each of which has `period` input blocks."""
    starts = [1 + period * level for level in range(levels)]
    modules = {".".join(name.split(".")[:4]) for name in shapes}
    # Of weight and bias one is enough, so that a single tensor that lacks is missed by its name.
    widths = tuple(
        _size(shapes, f"input_blocks.{k}.0.out_layers.3.", "weight bias") for k in starts
    )
    shifts = _size(shapes, "input_blocks.1.0.emb_layers.1.", "weight bias")
    classifier = any(name.startswith("out.2.c_proj.") for name in shapes)
    cells = _size(shapes, "out.2.", "positional_embedding", axis=1) if classifier else 0
    return Architecture(
        widths=widths,
        blocks=period - 1,
        attention=tuple(
            level
            for level, k in enumerate(starts)
            if any(f"input_blocks.{k}.1.{layer}" in modules for layer in _ATTENTION)
        ),
        in_channels=_size(shapes, "input_blocks.0.0.", "weight", axis=1),
        out_channels=_size(shapes, "out.2.c_proj." if classifier else "out.2."),
        classes=_size(shapes, "label_emb.", "weight") if "label_emb.weight" in shapes else None,
        # The mean of all positions has an embedding besides.
        pool=math.isqrt(cells - 1) if classifier else None,
        scale_shift=shifts == 2 * widths[0],
        residual_steps=f"input_blocks.{period}.0.op" not in modules,
    )


def _size(
    shapes: Mapping[str, tuple[int, ...]],
    module: str,
    tensors: str = "weight bias",
    *,
    axis: int = 0,
) -> int:
    """The length of an axis of the first of a module's tensors that is there."""
    names = [f"{module}{tensor}" for tensor in tensors.split()]
    there = [name for name in names if name in shapes]
    if not there:
        raise ValueError(f"{names[0]} is missing")
    shape = shapes[there[0]]
    if len(shape) <= axis or not shape[axis]:
        raise ValueError(f"{there[0]} has the shape {shape}")
    return shape[axis]
