"""Where a model runs."""

from __future__ import annotations

from lightning.fabric import Fabric
from torch import nn

__all__ = ["settled"]


def settled(model: nn.Module, fabric: Fabric | None) -> Fabric:
    """Move a model to a launched fabric's device; without a fabric it stays where it is.

    Returns:
        The fabric, or one of this process alone, which moves nothing.
    """
    if fabric is None:
        return Fabric(accelerator="cpu", devices=1)
    model.to(fabric.device)
    return fabric
