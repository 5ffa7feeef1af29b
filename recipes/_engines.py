"""Engines for the same scores: ours, and that of faiss' flat index (`recipes._faiss`)."""

from __future__ import annotations

from augment.metrics import Measured, Neighbours, Orders, Reference, measure
from recipes._engine import Array, Engine, EngineName

__all__ = ["Blocks", "engine"]


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
