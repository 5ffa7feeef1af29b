"""Which rows lie in which balls, each ball about a point with a radius of its own.

The distance to every point decides, not only to the nearest ones: a far point may have a large
ball. A ball is open, so that a point with as near a duplicate as its radius reaches (radius 0)
holds nothing, itself included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from augment.metrics.distances import Block, exact_squares, sweep
from augment.metrics.neighbours import nearest_others
from augment.metrics.vectors import Vectors

__all__ = ["Balls", "balls_of", "radii"]


def radii(points: Vectors, k: int) -> Tensor:
    """Distance of each point to its k-th nearest other one, float64 (N,)."""
    return nearest_others(points, k=k).distances[:, -1]


class Balls:
    """Collects from a sweep's blocks which rows lie strictly inside which columns' balls."""

    def __init__(self, queries: Tensor, centres: Tensor, reach: Tensor) -> None:
        """
        Args:
            queries: (N, D), the sweep's rows.
            centres: (M, D), the sweep's columns.
            reach: radii of the balls, float64 (M,).
        """
        self._queries, self._centres, self._radii = queries, centres, reach
        self.count = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
        """Balls that hold a row, (N,)."""
        self.smallest = torch.full_like(self.count, torch.inf, dtype=torch.float64)
        """Radius of the smallest ball that holds a row, infinite if none does; float64 (N,)."""
        self.members = torch.zeros(len(centres), dtype=torch.int64, device=queries.device)
        """Rows that a ball holds, (M,)."""

    def __call__(self, block: Block) -> None:
        inside = self._inside(block)
        self.count[block.rows] += inside.sum(dim=1)
        self.members[block.columns] += inside.sum(dim=0)
        rows, columns = inside.nonzero(as_tuple=True)
        self.smallest.scatter_reduce_(
            0, rows + block.rows.start, self._radii[columns + block.columns.start], "amin"
        )

    def _inside(self, block: Block) -> Tensor:
        """Entries (R, C); a pair that the product's noise leaves open is computed exactly."""
        excess = block.squares - self._radii[block.columns].square().to(block.squares.dtype)
        inside = excess < 0
        rows, columns = (excess.abs_() <= block.noise).nonzero(as_tuple=True)
        at, of = rows + block.rows.start, columns + block.columns.start
        exact = exact_squares(self._queries, self._centres, at, of).sqrt()
        inside[rows, columns] = exact < self._radii[of]
        return inside


def balls_of(queries: Tensor, centres: Tensor, reach: Tensor) -> Balls:
    """`Balls` after a sweep of its own."""
    found = Balls(queries, centres, reach)
    sweep(queries, centres, found)
    return found
