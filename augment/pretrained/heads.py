"""How many heads an attention has, where diffusers' configuration cannot say so.

UNet2DModel's configuration knows one width for all heads, not one number of heads for attentions of
different width (guided-diffusion's `--num_heads`, as in the 64-to-256 upsampler). Their tensors are
the same; the number is set on the network, and stands in the card of a folder it is saved to.
"""

from __future__ import annotations

from typing import Any

import diffusers
from torch import nn

__all__ = ["common_heads", "set_heads"]

_diffusers: Any = diffusers


def _attentions(network: nn.Module) -> list[Any]:
    kind = _diffusers.models.attention_processor.Attention
    return [module for module in network.modules() if isinstance(module, kind)]


def set_heads(network: nn.Module, heads: int) -> None:
    """Give every attention of a network `heads` heads; its processor divides the channels anew."""
    for attention in _attentions(network):
        attention.heads = heads


def common_heads(network: nn.Module, plain: nn.Module) -> int | None:
    """The number of heads of every attention, if the configuration does not say it; else None.

    `plain` was built from the configuration of `network` alone.
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
