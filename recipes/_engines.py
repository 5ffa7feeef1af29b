"""Engines for the same scores, and ours; that of faiss' flat index is `recipes._faiss`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from augment.metrics import Measured, Neighbours, Orders, Reference, measure

__all__ = ["Array", "Blocks", "Engine", "EngineName", "engine"]

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


class Blocks(Engine):
    """Ours: half the products among the real images, and one sweep for all scores."""

    name = "blocks"

    def search(self) -> Neighbours:
        self.reference = Reference(self.real, self.orders)
        return self.reference.neighbours

    def measure(self, generated: Array) -> Measured:
        return measure(generated, self.reference)


def engine(name: EngineName, real: Array, orders: Orders) -> Engine:
    """The engine of this name over the real features."""
    if name == "faiss":
        from recipes._faiss import Faiss  # Not above: see there.

        return Faiss(real, orders)
    return Blocks(real, orders)
