"""What adapters of other libraries share: the import of a library, the identity of a network."""

from __future__ import annotations

import hashlib
import importlib
from types import ModuleType

from safetensors.torch import save
from torch import nn

__all__ = ["digest", "require"]


def require(module: str, *, extra: str) -> ModuleType:
    """Import a module that comes with an extra of this package.

    Raises:
        ValueError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{module} cannot be imported ({error}); it belongs to the extra {extra!r}; "
            f"install it with: pip install '.[{extra}]'"
        ) from error


def digest(network: nn.Module) -> str:
    """sha256 of a network's names and values, where there is no single file to take it from."""
    state = {
        name: value.detach().cpu().contiguous().clone()  # safetensors refuses shared memory
        for name, value in network.state_dict().items()
    }
    return hashlib.sha256(save(state)).hexdigest()
