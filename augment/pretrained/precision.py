"""Half precision where it is safe: convolutions and attention, nothing else.

Normalisation, embeddings and head stay in float32, as in guided-diffusion; `network.half()` would
halve them too. So does the first convolution here, a thousandth of the work, by whose precision
diffusers chooses that of the time embedding. It is meant for GPUs: a processor without arithmetic
in half precision is slower by it.

In float16 the gradient of the very first step of sampling (i = N - 1), where the estimate of the
image is huge, is unreliable; only guidance at every step uses it. bfloat16 has the range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["halve_convolutions"]


def halve_convolutions(network: Any, dtype: torch.dtype) -> None:
    """Store and run the convolutions and attentions of a UNet2DModel's blocks in `dtype`, in place.

    Args:
        network: a UNet2DModel in float32; inputs and outputs stay so.
        dtype: torch.float16 or torch.bfloat16.

    Raises:
        ValueError: another dtype.
    """
    if dtype not in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"dtype is {dtype}; allowed are torch.float16 and torch.bfloat16; "
            "leave it out for float32"
        )
    network.conv_in.register_forward_hook(_output_as(dtype))
    network.conv_norm_out.register_forward_pre_hook(_input_as(torch.float32))
    middle = [] if network.mid_block is None else [network.mid_block]
    for block in (*network.down_blocks, *middle, *network.up_blocks):
        for name, module in block.named_modules():
            if isinstance(module, nn.GroupNorm):
                module.register_forward_pre_hook(_input_as(torch.float32))
                module.register_forward_hook(_output_as(dtype))
            elif name.endswith("time_emb_proj"):
                module.register_forward_hook(_output_as(dtype))
            elif isinstance(module, (nn.Conv2d, nn.Linear)):
                module.to(dtype)


def _input_as(dtype: torch.dtype) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    return lambda module, arguments: (arguments[0].to(dtype), *arguments[1:])


def _output_as(dtype: torch.dtype) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    return lambda module, arguments, output: output.to(dtype)
