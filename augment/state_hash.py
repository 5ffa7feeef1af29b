"""The identity of weights that came from no file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from torch import Tensor

__all__ = ["state_sha256"]


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Hash of tensors by name, as they are in memory."""
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(name.encode() + value.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()
