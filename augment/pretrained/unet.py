"""What is done to a UNet2DModel of diffusers beyond its configuration: heads and half precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from augment.denoiser import Denoiser

__all__ = [
    "UNet2DModel",
    "check_channels",
    "common_heads",
    "halve_convolutions",
    "halved",
    "set_heads",
]

UNet2DModel: Any = diffusers.UNet2DModel
"""diffusers is hardly typed."""


def check_channels(source: object, taken: int, made: int | None = None) -> int:
    """The channels of the images of a network, 1 or 3, by the channels that it takes and makes.

    An upsampler takes twice as many as its image has, a network with learned variance makes twice
    as many.

    Raises:
        ValueError: they belong to no network on pixels; the message begins with `source`.
    """
    channels = {2: 1, 6: 3}.get(taken, taken)
    if channels not in (1, 3):
        raise ValueError(
            f"{source} takes {taken} channels; allowed are 1 (grey) and 3 (RGB) pixels, or twice "
            "as many in an upsampler; give a model on pixels, not on latents"
        )
    if made not in (None, channels, 2 * channels):
        raise ValueError(
            f"{source} makes {made} channels of {channels}; allowed are {channels}, or "
            f"{2 * channels} with learned variance; give such a model"
        )
    return channels


def _attentions(network: nn.Module) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, Attention)]


def set_heads(network: nn.Module, heads: int) -> None:
    """Give every attention of a network the same number of heads.

    A UNet2DModel's configuration knows one width for all heads, not one number of heads for
    attentions of different width (guided-diffusion's `--num_heads`, as in the 64-to-256
    upsampler). The tensors are the same; the attention divides its channels anew.

    Raises:
        ValueError: the channels of an attention do not divide into them.
    """
    for attention in _attentions(network):
        if type(heads) is not int or heads < 1 or attention.inner_dim % heads:
            raise ValueError(
                f"heads is {heads!r}; allowed are divisors of the {attention.inner_dim} channels "
                "of an attention; give the heads of the training"
            )
        attention.heads = heads


def common_heads(network: nn.Module, plain: nn.Module) -> int | None:
    """The number of heads of every attention, or None if the configuration says it.

    `plain` was built from the configuration of `network` alone.

    Raises:
        ValueError: the attentions differ in a way that neither states.
    """
    found = [attention.heads for attention in _attentions(network)]
    if found == [attention.heads for attention in _attentions(plain)]:
        return None
    if len(set(found)) > 1:
        raise ValueError(
            f"the network's attentions have {found} heads; allowed is one number everywhere; "
            "give a network made by load_denoiser or by its configuration"
        )
    return int(found[0])


def halved(denoiser: Denoiser, dtype: torch.dtype) -> Denoiser:
    """The denoiser in half precision: the convolutions of a UNet2DModel, or all of another network,
    whose inputs are brought to it. Latents are decoded in float32 all the same.

    Raises:
        ValueError: as `halve_convolutions`.
    """
    if isinstance(denoiser.network, UNet2DModel):
        halve_convolutions(denoiser.network, dtype)
        made = denoiser
    else:
        _check_half(dtype)
        if denoiser.latents is None:
            raise ValueError(
                f"dtype is {dtype}, and the generator, one of EDM's, runs in torch.float32 alone; "
                "leave it out"
            )
        made = denoiser.with_network(_Halved(denoiser.network.to(dtype), dtype).eval())
    made.card["dtype"] = str(dtype)
    return made


class _Halved(nn.Module):
    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, x: Tensor, *conditions: Tensor) -> Any:
        return self.network(x.to(self.dtype), *conditions)


def halve_convolutions(network: Any, dtype: torch.dtype) -> None:
    """Store and run the convolutions and attentions of a UNet2DModel's blocks in `dtype`, in place.

    Normalisation, embeddings and head stay in float32, as in guided-diffusion; `network.half()`
    would halve them too. So does the first convolution, a thousandth of the work, by whose dtype
    diffusers chooses that of the time embedding. This is for GPUs: a processor without arithmetic
    in half precision becomes slower. In float16 the gradient of the very first step of sampling
    (i = N - 1), where the estimate of the image is huge, is unreliable; bfloat16 has the range.

    Args:
        network: a UNet2DModel in float32; its inputs and outputs stay so.
        dtype: torch.float16 or torch.bfloat16.

    Raises:
        ValueError: another dtype.
    """
    _check_half(dtype)
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


def _check_half(dtype: torch.dtype) -> None:
    if dtype not in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"dtype is {dtype}; allowed are torch.float16 and torch.bfloat16; "
            "leave it out for float32"
        )


def _input_as(dtype: torch.dtype) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    return lambda module, arguments: (arguments[0].to(dtype), *arguments[1:])


def _output_as(dtype: torch.dtype) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    return lambda module, arguments, output: output.to(dtype)
