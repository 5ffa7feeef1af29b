"""A network's identity, where there is no single file to take it from."""

from __future__ import annotations

import hashlib

from safetensors.torch import save
from torch import nn

__all__ = ["digest"]


def digest(network: nn.Module) -> str:
    """sha256 of the network's names and values."""
    state = {
        name: value.detach().cpu().contiguous().clone()  # safetensors refuses shared memory
        for name, value in network.state_dict().items()
    }
    return hashlib.sha256(save(state)).hexdigest()
