"""Decoded images, wherever they are: in memory, mapped from a file, or still to be decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

__all__ = ["Mapped", "Pixels", "Rows"]


class Pixels(Protocol):
    """N decoded images: a tensor uint8 (N, 3, S, S), or what gives rows of one when asked."""

    @property
    def shape(self) -> torch.Size: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Rows:
    """Some of the decoded images, read when they are asked for."""

    pixels: Pixels
    rows: Tensor
    """int64 (M,) into them."""

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.rows), *self.pixels.shape[1:]))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: Tensor) -> Tensor:
        return self.pixels[self.rows[positions]]


@dataclass(frozen=True)
class Mapped:
    """Decoded images in a file, which is mapped while some of them are copied and no longer: the
    process does not come to hold the whole of it.
    """

    file: Path
    """A .npy of uint8 (N, 3, S, S)."""
    shape: torch.Size

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor) -> Tensor:
        """The images of rows int64 (B,), uint8 (B, 3, S, S)."""
        return torch.from_numpy(np.load(self.file, mmap_mode="r")[rows.numpy()])
