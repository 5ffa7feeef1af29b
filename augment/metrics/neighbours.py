"""The k nearest neighbours of every row, exactly.

Candidates come from blocks of float32 products, their distances from float64 differences. A missed
neighbour is at most twice the product's noise nearer than the last candidate; a row in which that
could be more than `_TOLERANCE` of the distance is searched again in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from augment.metrics.distances import Block, exact_squares, noise, sweep, sweep_own
from augment.metrics.vectors import Vectors, check_count, vectors, vectors_alike

__all__ = ["Nearest", "Neighbours", "nearest", "nearest_others"]

_TOLERANCE = 1e-4
"""Relative error allowed to a squared distance, so half of it to a distance."""


class Neighbours(NamedTuple):
    """The k nearest rows of another set or, without itself, of the same one, nearest first."""

    distances: Tensor
    """Euclidean, float64 (N, k)."""
    indices: Tensor
    """Their rows, int64 (N, k); among equally near ones, any."""


def nearest(queries: Vectors, points: Vectors, *, k: int) -> Neighbours:
    """The k nearest points of each query.

    Args:
        queries: floating (N, D).
        points: floating (M, D).
        k: 1 to M.

    Raises:
        ValueError: refused features or k.
    """
    queries, points = vectors_alike(queries=queries, points=points)
    check_count("k", k, len(points), f"{len(points)} points")
    found = Nearest(queries, points, k)
    sweep(queries, points, found)
    return found.neighbours()


def nearest_others(points: Vectors, *, k: int) -> Neighbours:
    """The k nearest other points of each; a duplicate is an other point, at distance 0.

    Args:
        points: floating (N, D).
        k: 1 to N - 1.

    Raises:
        ValueError: refused features or k.
    """
    points = vectors("points", points)
    check_count("k", k, len(points) - 1, f"{len(points)} points")
    found = Nearest(points, points, k)
    sweep_own(points, found)
    return found.neighbours(own=True)


class Nearest:
    """Collects the k nearest columns of each row from a sweep's blocks."""

    def __init__(self, queries: Tensor, points: Tensor, k: int) -> None:
        """
        Args:
            queries: (N, D), the sweep's rows.
            points: (M, D), the sweep's columns.
            k: at most M.
        """
        self._queries, self._points = queries, points
        shape, device = (len(queries), k), queries.device
        self._squares = torch.full(shape, torch.inf, dtype=torch.float64, device=device)
        self._indices = torch.zeros(shape, dtype=torch.int64, device=device)
        self._row_squares = torch.zeros(len(queries), dtype=torch.float64, device=device)
        self._noise_type = torch.float32

    def __call__(self, block: Block) -> None:
        k = self._squares.shape[1]
        squares, order = block.squares.topk(
            min(k, block.squares.shape[1]), largest=False, sorted=False
        )
        squares = torch.cat([self._squares[block.rows], squares.double()], dim=1)
        indices = torch.cat([self._indices[block.rows], order + block.columns.start], dim=1)
        self._squares[block.rows], kept = squares.topk(k, largest=False, sorted=False)
        self._indices[block.rows] = indices.gather(1, kept)
        self._row_squares[block.rows] = block.row_squares.double()
        self._noise_type = block.squares.dtype

    def neighbours(self, *, own: bool = False) -> Neighbours:
        """What was found, its distances exact; `own` if the points are the queries."""
        found = self._measured(self._queries, self._indices)
        doubtful = self._doubtful(found.distances[:, -1]).nonzero().flatten()
        if len(doubtful):
            self._search_again(doubtful, found, own)
        return found

    def _measured(self, queries: Tensor, indices: Tensor) -> Neighbours:
        n, k = indices.shape
        rows = torch.arange(n, device=indices.device).repeat_interleave(k)
        squares = exact_squares(queries, self._points, rows, indices.flatten()).view(n, k)
        distances, order = squares.sqrt().sort(dim=1)
        return Neighbours(distances, indices.gather(1, order))

    def _doubtful(self, last: Tensor) -> Tensor:
        """Rows where a neighbour may be missed that is nearer than the last by more than allowed.

        A missed point lies no farther than the last candidate, hence |b| <= |a| + last.
        """
        if self._noise_type == torch.float64:
            return torch.zeros_like(last, dtype=torch.bool)
        squares = self._row_squares + (self._row_squares.sqrt() + last).square()
        return 2 * noise(squares.float()) > _TOLERANCE * last.square()

    def _search_again(self, rows: Tensor, found: Neighbours, own: bool) -> None:
        """Search the rows anew in float64, and write what is found in their place."""
        queries = self._queries[rows]
        again = Nearest(queries, self._points, self._squares.shape[1])

        def visit(block: Block) -> None:
            if own:
                columns = torch.arange(block.columns.start, block.columns.stop, device=rows.device)
                block.squares[rows[block.rows, None] == columns[None]] = torch.inf
            again(block)

        sweep(queries, self._points, visit, dtype=torch.float64)
        measured = again._measured(queries, again._indices)
        found.distances[rows], found.indices[rows] = measured.distances, measured.indices
