"""Guided-diffusion's layers and diffusers' names for them; the tensors carried from one to other.

Everything but self-attention has the same tensors under another name. Of self-attention,
guided-diffusion keeps queries, keys and values in one convolution, whose rows come in one of two
orders: "new", all queries, all keys, all values; or "legacy", head by head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from torch import Tensor

from augment.pretrained.architecture import Architecture

__all__ = ["AttentionOrder", "convert_tensors", "tensor_names"]

AttentionOrder = Literal["new", "legacy"]

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
_QKV = ("to_q", "to_k", "to_v")

Part = tuple[str, str, Mapping[str, str]]
"""A module's name there and here, and those of its layers."""


def tensor_names(architecture: Architecture) -> dict[str, str]:
    """Guided-diffusion's name of every tensor of a network, and diffusers'.

    The fused `to_qkv` stands for `to_q`, `to_k` and `to_v`. A classifier's pool, which diffusers
    does not know, is `pool`.
    """
    names = {}
    for theirs, ours, layers in _parts(architecture):
        for layer, renamed in layers.items():
            for kind in ("weight", "bias"):
                names[f"{theirs}{layer}.{kind}"] = f"{ours}{renamed}.{kind}"
    if architecture.classes is not None:
        names["label_emb.weight"] = "class_embedding.weight"
    if architecture.pool is not None:
        names["out.2.positional_embedding"] = "pool.positions"
    return names


def convert_tensors(
    state: Mapping[str, Tensor],
    architecture: Architecture,
    *,
    order: AttentionOrder,
    heads: Mapping[int, int],
) -> dict[str, Tensor]:
    """A guided-diffusion state dict, complete, as one of diffusers, in float32.

    Args:
        state: tensors by the names in `tensor_names(architecture)`.
        architecture: what they make up.
        order: of the rows of queries, keys and values.
        heads: of an attention, by its channels.

    Raises:
        ValueError: an attention has other channels than those.
    """
    converted = {}
    for theirs, ours in tensor_names(architecture).items():
        tensor = state[theirs].float()
        if ".to_qkv." in ours:
            if len(tensor) // 3 not in heads:
                raise ValueError(f"{theirs} has {len(tensor)} rows")
            rows = _in_new_order(tensor, order, heads[len(tensor) // 3])
            for name, part in zip(_QKV, rows.chunk(3), strict=True):
                converted[ours.replace("to_qkv", name)] = _linear(part).contiguous()
        else:
            converted[ours] = _linear(tensor)
    return converted


def _in_new_order(rows: Tensor, order: AttentionOrder, heads: int) -> Tensor:
    """Queries of all heads, then keys, then values, from rows (3C, ...)."""
    if order == "new":
        return rows
    return rows.reshape(heads, 3, -1, *rows.shape[1:]).transpose(0, 1).reshape(rows.shape)


def _linear(tensor: Tensor) -> Tensor:
    """The weight of a convolution of width one as that of a linear layer."""
    return tensor.squeeze(-1) if tensor.ndim == 3 else tensor


def _parts(architecture: Architecture) -> Iterator[Part]:
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


def _encoder(architecture: Architecture) -> Iterator[Part]:
    k, last = 1, len(architecture.widths) - 1
    before = architecture.widths[0]
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


def _decoder(architecture: Architecture) -> Iterator[Part]:
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
