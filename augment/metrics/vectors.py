"""Feature vectors as every metric takes them: checked, and read in blocks.

A set of vectors is one array; nothing here copies a whole one, so that a memory-mapped file does.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = [
    "BLOCK",
    "Vectors",
    "check_count",
    "largest",
    "mean_of",
    "slices",
    "vectors",
    "vectors_alike",
]

Vectors = Tensor | npt.NDArray[np.floating]
"""(N, D) of any floating type, one row an image; a tensor's device is where the work is done."""

_ARRAYS = (np.float16, np.float32, np.float64)

_ALLOWED = 1e100
"""Largest magnitude of a feature: sums of the squares of float64 ones stay finite."""

BLOCK = 4096
"""Rows at a time: a block of distances is 64 MB in float32, and costs little to set up."""


def vectors(name: str, features: Vectors) -> Tensor:
    """The features as a tensor, which shares their memory unless PyTorch cannot read it.

    Raises:
        ValueError: not (N, D) with N, D >= 1, not floating, or an entry that is not finite or
            beyond 1e100.
    """
    if isinstance(features, np.ndarray) and features.dtype.newbyteorder("=") in _ARRAYS:
        features = _from_numpy(features)
    floating = isinstance(features, Tensor) and features.is_floating_point()
    if not floating or features.ndim != 2 or 0 in features.shape:
        kind, shape = getattr(features, "dtype", type(features).__name__), np.shape(features)
        raise ValueError(
            f"{name}: got {kind} of shape {tuple(shape)}; give floating (N, D), an array or tensor "
            "of at least one row and column, one row an image"
        )
    tensor = torch.as_tensor(features)
    for rows in slices(len(tensor)):
        usable = (tensor[rows].abs() <= _ALLOWED).all(dim=1)
        if not usable.all():
            row = rows.start + int(usable.int().argmin())
            raise ValueError(
                f"{name}: row {row} has entries that are NaN, infinite or beyond {_ALLOWED:g}; "
                "leave that image out"
            )
    return tensor


def vectors_alike(**sets: Vectors) -> tuple[Tensor, ...]:
    """`vectors` of several sets that are compared, by their names.

    Raises:
        ValueError: one is refused, or they differ in width or device.
    """
    checked = {name: vectors(name, features) for name, features in sets.items()}
    kinds = {name: (x.shape[1], str(x.device)) for name, x in checked.items()}
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{name} {width} on {where}" for name, (width, where) in kinds.items())
        raise ValueError(
            f"the features' widths and devices are {told}; give features of one encoder, "
            "on one device"
        )
    return tuple(checked.values())


def check_count(name: str, value: int, most: int, given: str) -> None:
    """Refuse a number outside 1..most, `given` saying of how many images that comes."""
    if most < 1:
        raise ValueError(f"{name} is {value}, but got {given}, too few for any; give more")
    if not 1 <= value <= most:
        raise ValueError(
            f"{name} is {value}, but with {given} allowed are 1 to {most}; give one of these, or "
            "more images"
        )


def mean_of(features: Tensor) -> Tensor:
    """Mean row, float64 (D,)."""
    total = features.new_zeros(features.shape[1], dtype=torch.float64)
    for rows in slices(len(features)):
        total += features[rows].double().sum(dim=0)
    return total / len(features)


def largest(features: Tensor) -> float:
    """Largest magnitude of an entry."""
    return max(float(features[rows].abs().amax()) for rows in slices(len(features)))


def slices(count: int) -> Iterator[slice]:
    """Consecutive slices that cover `count` rows."""
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))


def _from_numpy(array: npt.NDArray[np.floating]) -> Tensor:
    native = array.dtype.newbyteorder("=")
    if array.dtype != native or min(array.strides) < 0:
        array = array.astype(native, order="C")
    with warnings.catch_warnings():
        # A memory-mapped file is read-only; nothing here writes.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
