"""Several classifications by one network: its logits are cut into heads, each a softmax.

A head of two classes is one attribute, absent or present; a head for each class of a conditional
generator tells apart the images of that class alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["NOT_ASKED", "log_likelihood"]

NOT_ASKED = -1
"""The target of a head that has no part in an image's likelihood."""


def log_likelihood(logits: Tensor, sizes: Sequence[int], targets: Tensor) -> Tensor:
    """The sum over heads of log p(target of the head), for each image, (B,), float32.

    Args:
        logits: of all heads, (B, sum of sizes).
        sizes: how many classes each of the H heads has.
        targets: int64 (B, H), a class of each head or `NOT_ASKED`.
    """
    total = torch.zeros(len(logits), device=logits.device)
    for head, target in zip(
        torch.split(logits.float(), list(sizes), dim=1), targets.T, strict=True
    ):
        log_p = head.log_softmax(dim=1).gather(1, target.clamp(min=0)[:, None]).squeeze(1)
        # Not by a product: a log p of -inf that nobody asks for would make the sum NaN.
        total = total + torch.where(target == NOT_ASKED, 0, log_p)
    return total
