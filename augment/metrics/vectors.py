"""Feature vectors as every metric takes them: checked once, and read a block at a time.

A set of vectors is one array. Nothing here copies a whole one: a memory-mapped file will do.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["BLOCK", "Vectors", "check_count", "slices", "vectors", "vectors_alike"]

Vectors = Tensor | npt.NDArray[np.floating]
"""(N, D) of any floating type, one row per image; a tensor's device is where the work is done."""

_LARGEST = 1e100
"""Largest magnitude of a feature: sums of such squares stay finite in float64."""

BLOCK = 4096
"""Rows at a time: 4,096 x 4,096 distances are 64 MB in float32."""


def vectors(name: str, features: Vectors) -> Tensor:
    """The features as a tensor, which shares their memory unless PyTorch cannot read it.

    Raises:
        ValueError: not (N, D) with N, D >= 1, not floating, or an entry that is not finite or
            beyond 1e100.
    """
    if isinstance(features, np.ndarray) and features.dtype.newbyteorder("=") in (
        np.float16,
        np.float32,
        np.float64,
    ):
        features = _from_numpy(features)
    floating = isinstance(features, Tensor) and features.is_floating_point()
    if not floating or features.ndim != 2 or 0 in features.shape:
        kind, shape = getattr(features, "dtype", type(features).__name__), np.shape(features)
        raise ValueError(
            f"{name} is {kind} of shape {tuple(shape)}; give a floating array or tensor (N, D) "
            "of at least one row and column, one row per image"
        )
    tensor = torch.as_tensor(features)
    for rows in slices(len(tensor)):
        usable = (tensor[rows].abs() <= _LARGEST).all(dim=1)
        if not usable.all():
            row = rows.start + int(usable.int().argmin())
            raise ValueError(
                f"row {row} of {name} has entries that are NaN, infinite or beyond {_LARGEST:g}; "
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
        raise ValueError(f"{name} is {value}, and {given} are too few for any; give more")
    if not 1 <= value <= most:
        raise ValueError(f"{name} is {value}; with {given}, give 1 to {most}, or more images")


def slices(count: int) -> Iterator[slice]:
    """Consecutive slices of `BLOCK` that cover `count` rows."""
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
