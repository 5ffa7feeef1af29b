"""What an engine of the benchmark of metrics does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from augment.metrics import Measured, Neighbours, Orders

__all__ = ["Array", "Engine", "EngineName"]

EngineName = Literal["blocks", "faiss"]

Array = npt.NDArray[np.float32]


class Engine(ABC):
    """Scores a generated set (M, D) against a real one (N, D), both float32."""

    name: ClassVar[EngineName]

    def __init__(self, real: Array, orders: Orders) -> None:
        self.real, self.orders = real, orders

    @abstractmethod
    def search(self) -> Neighbours:
        """The real images' nearest others."""

    @abstractmethod
    def measure(self, generated: Array) -> Measured:
        """Every score, after `search`."""
