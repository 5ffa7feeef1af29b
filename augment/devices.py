"""Where a model runs, and less at a time where memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from lightning.fabric import Fabric
from torch import nn

__all__ = ["Backoff", "settled"]

Part = TypeVar("Part")


class Backoff:
    """Does a batch at once, and in ever smaller parts once the device's memory has run out.

    What is done must not depend on an image's neighbours beyond its group, nor leave traces when it
    fails. The size that fitted is remembered, so that memory runs out once and not at every step.
    """

    def __init__(self, group: int = 1) -> None:
        """
        Args:
            group: images in succession that are not parted.
        """
        self.group = group
        self.size: int | None = None
        """Images at a time, once fewer than all were too many."""

    def parts(self, batch: int, do: Callable[[slice], Part]) -> list[Part]:
        """Call `do` on rows that cover 0..batch-1 in order.

        Raises:
            torch.OutOfMemoryError: not even one image, or one group, fits.
        """
        done: list[Part] = []
        first = 0
        while first < batch:
            size = min(self.size or batch, batch - first)
            try:
                done.append(do(slice(first, first + size)))
            except torch.OutOfMemoryError:
                if size <= self.group:
                    raise
            else:
                first += size
                continue
            # Here and not in the handler: its traceback would hold on to the failed part's tensors.
            self.size = size // 2 // self.group * self.group or self.group
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return done


def settled(model: nn.Module, fabric: Fabric | None) -> Fabric:
    """Move a model to a launched fabric's device; without a fabric it stays where it is.

    Returns:
        The fabric, or one of this process alone, which moves nothing.
    """
    if fabric is None:
        return Fabric(accelerator="cpu", devices=1)
    model.to(fabric.device)
    return fabric
