"""Which rows lie in which balls, each ball about a point with a radius of its own.

The distance to every point decides, not only to the nearest ones: a far point may have a large
ball. A ball is open, so that a point with as near a duplicate as its radius reaches (radius 0)
holds nothing, itself included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from augment.metrics.distances import Block, exact_squares, noise, sweep
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
        rows, columns = self._inside(block)
        one = torch.ones_like(rows)
        self.count.scatter_add_(0, rows, one)
        self.members.scatter_add_(0, columns, one)
        self.smallest.scatter_reduce_(0, rows, self._radii[columns], "amin")

    def _inside(self, block: Block) -> tuple[Tensor, Tensor]:
        """Rows and columns of the pairs; those that the product's noise leaves open are exact.

        Few pairs come near, so that nearly all the time goes into the one comparison of a block.
        """
        reach, kind = self._radii[block.columns], block.squares.dtype
        limits = reach.square().to(kind) + noise(block.column_squares)
        near = (block.squares - limits) <= noise(block.row_squares)[:, None]
        rows, columns = near.nonzero(as_tuple=True)
        squares = block.squares[rows, columns].double() - reach[columns].square()
        inside = squares < 0
        margin = noise(block.row_squares[rows] + block.column_squares[columns])
        rows, columns = rows + block.rows.start, columns + block.columns.start
        open_ = squares.abs() <= margin
        at, of = rows[open_], columns[open_]
        exact = exact_squares(self._queries, self._centres, at, of).sqrt()
        inside[open_] = exact < self._radii[of]
        return rows[inside], columns[inside]


def balls_of(queries: Tensor, centres: Tensor, reach: Tensor) -> Balls:
    """`Balls` after a sweep of its own."""
    found = Balls(queries, centres, reach)
    sweep(queries, centres, found)
    return found
