"""All distances between two sets, a block at a time: the engine of every neighbour metric.

The full matrix never exists. A block of squared distances is one matrix product, in float32 about
the middle of the points, so that it is off by `_NOISE` of |a|^2 + |b|^2 at most and not by more for
features far from the origin. Where that is not enough to decide, the pair is computed anew by
`exact_squares`: no result rests on the product. Features so large that their squares overflow
float32 are multiplied in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm.auto import tqdm

from augment.metrics.vectors import BLOCK, largest, slices

__all__ = ["Block", "exact_squares", "noise", "sweep", "sweep_own"]

_NOISE = 16
"""In machine epsilons. The largest error seen is 4.5 of them (3 to 4096 Gaussian, rectified and
low-rank features)."""

_UNDERFLOW = 1 << 16
"""In smallest normal numbers: what sums of squares may lose besides, by underflow."""

_LARGEST = 1e15
"""Of a feature in a float32 product; the squares of thousands of such add up to less than 3e38."""

_PAIRS = 1 << 17
"""Differences that `exact_squares` holds at a time: 1 MB, which stays in a processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Squared distances between some rows of one set and some of another."""

    rows: slice
    """Which of the first set."""
    columns: slice
    """Which of the second set."""
    squares: Tensor
    """(R, C), at least 0; off by `noise(|a|^2 + |b|^2)` at most."""
    row_squares: Tensor
    """|a|^2 about the common centre, (R,)."""
    column_squares: Tensor
    """|b|^2 about the common centre, (C,)."""

    @property
    def transposed(self) -> Block:
        """The same distances seen from the second set, without a copy."""
        return Block(
            rows=self.columns,
            columns=self.rows,
            squares=self.squares.T,
            row_squares=self.column_squares,
            column_squares=self.row_squares,
        )


Visitor = Callable[[Block], None]
"""Takes what it needs of a block; several share the cost of one."""


def noise(squares: Tensor) -> Tensor:
    """The most that a product of this type is off, by |a|^2 + |b|^2 of its pair.

    Two halves of that sum may be given one after the other and what they give be added.
    """
    kind = torch.finfo(squares.dtype)
    return squares * (_NOISE * kind.eps) + _UNDERFLOW * kind.tiny


def sweep(a: Tensor, b: Tensor, *visitors: Visitor, dtype: torch.dtype | None = None) -> None:
    """Show every block of distances between the rows of `a` (N, D) and of `b` (M, D).

    Args:
        a: any floating type.
        b: the same width and device; its middle is the centre.
        visitors: each sees each pair once.
        dtype: of the product, float32 if left out (float64 for very large features, or if PyTorch
            is set to round float32 products more coarsely).
    """
    centre, kind = _centre(b), dtype or _product_type(a, b)
    for rows in _progress(list(slices(len(a)))):
        left = _centred(a[rows], centre, kind)
        for columns in slices(len(b)):
            right = _centred(b[columns], centre, kind)
            _show(_block(rows, columns, left, right), visitors)


def sweep_own(a: Tensor, *visitors: Visitor) -> None:
    """`sweep` of a set and itself at half the cost: a block below the diagonal is one transposed.

    The distance of a row to itself is infinite.
    """
    centre, kind = _centre(a), _product_type(a)
    for rows in _progress(list(slices(len(a)))):
        left = _centred(a[rows], centre, kind)
        for columns in slices(len(a)):
            if columns.start < rows.start:
                continue
            if columns == rows:
                block = _block(rows, columns, left, left)
                block.squares.fill_diagonal_(torch.inf)
                _show(block, visitors)
            else:
                block = _block(rows, columns, left, _centred(a[columns], centre, kind))
                _show(block, visitors)
                _show(block.transposed, visitors)


def exact_squares(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Squared distances of the pairs (a[rows], b[columns]), float64 (P,).

    The differences have the features' own precision, float32 at least, and are added in float64:
    of float32 features off by 1e-7 of themselves at most, and 0 for equal ones.
    """
    squares = torch.empty(len(rows), dtype=torch.float64, device=a.device)
    step = max(1, _PAIRS // a.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        squares[part] = _squares(a, b, rows[part], columns[part])
    return squares


def _squares(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    if a.device.type != "cpu":
        return (_wide(a[rows]) - _wide(b[columns])).double().square_().sum(dim=1)
    # NumPy starts no threads: PyTorch's take up to ten times as long on pieces that small.
    left, right = _numpy_rows(a, rows), _numpy_rows(b, columns)
    wide = np.result_type(left, right, np.float32)
    differences = np.subtract(left, right, dtype=wide).astype(np.float64)
    return torch.from_numpy(np.einsum("pd,pd->p", differences, differences))


def _numpy_rows(features: Tensor, rows: Tensor) -> npt.NDArray[np.floating]:
    if features.dtype == torch.bfloat16:  # which NumPy does not have
        features, rows = features[rows].float(), torch.arange(len(rows))
    taken: npt.NDArray[np.floating] = features.numpy()[rows.numpy()]
    return taken


def _block(rows: slice, columns: slice, a: Tensor, b: Tensor) -> Block:
    a_squares, b_squares = a.square().sum(dim=1), b.square().sum(dim=1)
    squares = torch.addmm(b_squares[None], a, b.T, alpha=-2).add_(a_squares[:, None]).clamp_(min=0)
    return Block(
        rows=rows,
        columns=columns,
        squares=squares,
        row_squares=a_squares,
        column_squares=b_squares,
    )


def _centre(points: Tensor) -> Tensor:
    """(D,): the median of some rows, which a few outliers do not move as they would the mean."""
    middle: Tensor = points[:: -(-len(points) // BLOCK)].double().median(dim=0).values
    return middle


def _centred(features: Tensor, centre: Tensor, kind: torch.dtype) -> Tensor:
    """The rows about the centre; subtracted before anything is rounded to the product's type."""
    wide = features.to(torch.promote_types(features.dtype, kind))
    return (wide - centre.to(wide.dtype)).to(kind)


def _wide(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))


def _product_type(*sets: Tensor) -> torch.dtype:
    """TF32 and bfloat16 products would break the bound on the noise, overflow all of it."""
    exact = torch.get_float32_matmul_precision() == "highest"
    fits = all(largest(features) <= _LARGEST for features in sets)
    return torch.float32 if exact and fits else torch.float64


def _show(block: Block, visitors: tuple[Visitor, ...]) -> None:
    for visit in visitors:
        visit(block)


def _progress(rows: list[slice]) -> Iterator[slice]:
    """The rows, with a bar on what takes longer than a few seconds."""
    yield from tqdm(rows, desc="distances", unit="block", delay=5, leave=False)
