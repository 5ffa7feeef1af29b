"""Nearest neighbours and balls among feature vectors, exactly and a block at a time.

Distances come from one matrix product a block, in float32, about the middle of the points and
scaled, so that nothing overflows. How far their squares are off is bounded by |a|^2 + |b|^2. Pairs
that this leaves open are measured again, from differences in float64, and so is every distance that
is given out: no result depends on the product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm.auto import tqdm

from augment.metrics.vectors import Vectors, check_count, slices, vectors, vectors_alike

__all__ = ["Balls", "Nearest", "Neighbours", "blocks", "nearest", "nearest_others"]

_UNDERFLOW = 1e-30
"""What a product of scaled vectors may lose besides, by underflow."""

_SPARE = 4
"""Candidates beyond the k nearest: one that the product ranks too low is among them."""

_PAIRS = 1 << 17
"""Differences measured at a time: 1 MB, which stays in a processor's cache."""


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
    for block in blocks(queries, points):
        found.add(block)
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
    found = Nearest(points, points, k, torch.arange(len(points), device=points.device))
    for block in blocks(points, points):
        found.add(block)
    return found.neighbours()


@dataclass(frozen=True, kw_only=True)
class Block:
    """Squared distances between some rows of one set and some of another, over a scale's square."""

    rows: slice
    """Which of the first set."""
    columns: slice
    """Which of the second set."""
    squares: Tensor
    """(R, C), off by the noise of its row and its column at most; float32 or float64."""
    row_noise: Tensor
    """(R,)."""
    column_noise: Tensor
    """(C,)."""
    noise: float
    """What products are off at most, by |a|^2 + |b|^2."""
    scale: float
    """What distances are divided by, a power of 2."""

    @property
    def transposed(self) -> Block:
        """The same distances seen from the second set, without a copy."""
        return Block(
            rows=self.columns,
            columns=self.rows,
            squares=self.squares.T,
            row_noise=self.column_noise,
            column_noise=self.row_noise,
            noise=self.noise,
            scale=self.scale,
        )


def blocks(a: Tensor, b: Tensor, dtype: torch.dtype | None = None) -> Iterator[Block]:
    """All distances between the rows of `a` (N, D) and of `b` (M, D), each once.

    Of one tensor with itself, a block below the diagonal is one above it, transposed, which halves
    the cost.

    Args:
        a: any floating type.
        b: the same width and device.
        dtype: of the product, float32 if left out (float64 at the end of float32's range, and where
            PyTorch is set to round float32 products more coarsely).
    """
    centre = _middle(b)
    scale = _scale(centre, a, b)
    exact = torch.get_float32_matmul_precision() == "highest" and scale < 1e37
    kind = dtype or (torch.float32 if exact else torch.float64)

    def scaled(rows: Tensor) -> tuple[Tensor, Tensor]:
        wide = rows.to(torch.promote_types(rows.dtype, kind))
        centred = ((wide - centre.to(wide.dtype)) / scale).to(kind)
        return centred, centred.square().sum(dim=1)

    # Sums of D products round by D / 2 epsilons of |a| |b| at most, in any order (Higham 2002).
    noise = (a.shape[1] + 16) * torch.finfo(kind).eps
    # A progress bar on what takes longer than a few seconds.
    for rows in tqdm(list(slices(len(a))), "distances", unit="block", delay=5, leave=False):
        left, left_squares = scaled(a[rows])
        for columns in slices(len(b)):
            if a is b and columns.start < rows.start:
                continue
            right, right_squares = scaled(b[columns])
            squares = torch.addmm(right_squares[None], left, right.T, alpha=-2)
            block = Block(
                rows=rows,
                columns=columns,
                squares=squares.add_(left_squares[:, None]),
                row_noise=noise * left_squares + _UNDERFLOW,
                column_noise=noise * right_squares + _UNDERFLOW,
                noise=noise,
                scale=scale,
            )
            yield block
            if a is b and columns != rows:
                yield block.transposed


class Nearest:
    """Collects the k nearest columns of each row from `blocks`."""

    def __init__(self, queries: Tensor, points: Tensor, k: int, own: Tensor | None = None) -> None:
        """
        Args:
            queries: (N, D), the blocks' rows.
            points: (M, D), the blocks' columns.
            k: 1 to M, to M - 1 if queries have rows of their own.
            own: the row of each query among the points, which is no neighbour of it; int64 (N,).
        """
        self._queries, self._points, self._k, self._own = queries, points, k, own
        self._others = len(points) - (own is not None)
        shape = len(queries), min(k + _SPARE, self._others)
        self._squares = queries.new_full(shape, torch.inf, dtype=torch.float64)
        self._indices = queries.new_zeros(shape, dtype=torch.int64)
        self._noise = queries.new_zeros(len(queries), dtype=torch.float64)
        self._relative_noise, self._scale = 0.0, 1.0

    def add(self, block: Block) -> None:
        """Take the nearest of a block's columns."""
        count, rows = self._squares.shape[1], block.rows
        squares = block.squares.contiguous()  # `topk` is slow on strided rows
        if self._own is not None:
            own = self._own[rows] - block.columns.start
            there = ((own >= 0) & (own < squares.shape[1])).nonzero().flatten()
            squares[there, own[there]] = torch.inf
        squares, order = squares.topk(min(count, squares.shape[1]), largest=False, sorted=False)
        squares = torch.cat([self._squares[rows], squares.double()], dim=1)
        indices = torch.cat([self._indices[rows], order + block.columns.start], dim=1)
        self._squares[rows], kept = squares.topk(count, largest=False, sorted=False)
        self._indices[rows] = indices.gather(1, kept)
        self._noise[rows] = block.row_noise.double()
        self._relative_noise, self._scale = block.noise, block.scale

    def neighbours(self) -> Neighbours:
        """What was found; rows in which a nearer one may have been missed are searched again."""
        found = self._measured()
        doubtful = self._doubtful(found.distances[:, -1]).nonzero().flatten()
        if len(doubtful):
            again = self._again(doubtful)
            found.distances[doubtful], found.indices[doubtful] = again.distances, again.indices
        return found

    def _measured(self) -> Neighbours:
        """The k nearest of the candidates, whose distances are measured anew."""
        queries, (n, count) = self._queries, self._indices.shape
        rows = torch.arange(n, device=queries.device).repeat_interleave(count)
        apart = _distances(queries, self._points, rows, self._indices.flatten()).view(n, count)
        distances, order = apart.sort(dim=1)
        order = order[:, : self._k]
        return Neighbours(distances[:, : self._k].clone(), self._indices.gather(1, order))

    def _doubtful(self, last: Tensor) -> Tensor:
        """Rows whose k-th distance may not be below that of every point that is no candidate.

        A missed b lies nearer than the last: |b| <= |a| + last, so |b|^2 <= 2 |a|^2 + 2 last^2.
        """
        if self._squares.shape[1] == self._others:
            return torch.zeros_like(last, dtype=torch.bool)
        last_squares = (last / self._scale).square()
        noise = 3 * self._noise + 2 * self._relative_noise * last_squares
        return last_squares + noise >= self._squares.amax(dim=1)

    def _again(self, rows: Tensor) -> Neighbours:
        """The neighbours of some of the queries, from products in float64."""
        own = None if self._own is None else self._own[rows]
        again = Nearest(self._queries[rows], self._points, self._k, own)
        for block in blocks(again._queries, self._points, torch.float64):
            again.add(block)
        return again._measured()


class Balls:
    """Collects from `blocks` which rows lie in which columns' balls, of several radii a column.

    The distance to every point decides, not only to the nearest ones: a far point may have a large
    ball. A ball is open, so that a point with as near a duplicate as its radius reaches (radius 0)
    holds nothing, itself included.
    """

    def __init__(self, queries: Tensor, centres: Tensor, radii: Tensor) -> None:
        """
        Args:
            queries: (N, D), the blocks' rows.
            centres: (M, D), the blocks' columns.
            radii: of the balls, float64 (M, K).
        """
        self._queries, self._centres, self._radii = queries, centres, radii
        shape = len(queries), radii.shape[1]
        self.count = torch.zeros(shape, dtype=torch.int64, device=queries.device)
        """Balls that hold a row, (N, K)."""
        self.smallest = torch.full_like(self.count, torch.inf, dtype=torch.float64)
        """Radius of the smallest ball that holds a row, infinite if none does; float64 (N, K)."""
        self.members = torch.zeros_like(radii, dtype=torch.int64)
        """Rows that a ball holds, (M, K)."""

    def add(self, block: Block) -> None:
        """Take the pairs of a block."""
        rows, columns, inside = self._inside(block)
        self.count.index_add_(0, rows, inside.long())
        self.members.index_add_(0, columns, inside.long())
        held = self._radii[columns].where(inside, torch.inf)
        self.smallest.scatter_reduce_(0, rows[:, None].expand_as(held), held, "amin")

    def _inside(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """Rows and columns (P,) of pairs that come near, and whether each is inside, (P, K).

        Few do, so that the one comparison of all pairs takes nearly all the time.
        """
        limits = (self._radii[block.columns] / block.scale).square()
        reach = limits.amax(dim=1).to(block.squares.dtype) + block.column_noise
        rows, columns = (block.squares - reach <= block.row_noise[:, None]).nonzero(as_tuple=True)
        beyond = block.squares[rows, columns, None].double() - limits[columns]
        noise = block.row_noise[rows] + block.column_noise[columns]
        inside, open_ = beyond < 0, (beyond.abs() <= noise[:, None]).any(dim=1)
        rows, columns = rows + block.rows.start, columns + block.columns.start
        apart = _distances(self._queries, self._centres, rows[open_], columns[open_])
        inside[open_] = apart[:, None] < self._radii[columns[open_]]
        return rows, columns, inside


def _distances(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Distances of the pairs (a[rows], b[columns]) from differences, float64 (P,)."""
    squares = torch.empty(len(rows), dtype=torch.float64, device=a.device)
    step = max(1, _PAIRS // a.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        if a.is_cpu:  # NumPy starts no threads, which would take longer than so small a piece
            left, right = _numpy_rows(a, rows[part]), _numpy_rows(b, columns[part])
            apart = np.subtract(left, right, dtype=np.float64)
            squares[part] = torch.from_numpy(np.einsum("pd,pd->p", apart, apart))
        else:
            squares[part] = (a[rows[part]].double() - b[columns[part]]).square_().sum(dim=1)
    return squares.sqrt_()


def _numpy_rows(features: Tensor, rows: Tensor) -> npt.NDArray[np.floating]:
    if features.dtype == torch.bfloat16:  # which NumPy does not have
        features, rows = features[rows].float(), torch.arange(len(rows))
    taken: npt.NDArray[np.floating] = features.numpy()[rows.numpy()]
    return taken


def _middle(points: Tensor) -> Tensor:
    """(D,): the median of some rows, which a few outliers do not move as they would the mean."""
    some = points[:: -(-len(points) // 512)].double()
    middle: Tensor = some.T.contiguous().median(dim=1).values
    return middle


def _scale(centre: Tensor, *sets: Tensor) -> float:
    """A power of 2 that no entry exceeds once it is centred."""
    largest = max(float(x[rows].abs().amax()) for x in sets for rows in slices(len(x)))
    largest += float(centre.abs().amax())
    return float(2.0 ** math.frexp(max(largest, torch.finfo(torch.float32).tiny))[1])
