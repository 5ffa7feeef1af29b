"""What each fit of a study predicted for the test images, kept beside its scores.

One compressed `predictions.npz` a fit, which holds no pickled objects: `files` (N,) text,
`attributes` (A,) text, `labels` int8 (N, A) with -1 = unlabelled, `probabilities` float32 (N, A).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classify.files import write_bytes

__all__ = ["PREDICTIONS", "Predictions", "read_predictions", "unit_folder", "write_predictions"]

PREDICTIONS = "predictions.npz"
"""File in the folder of a fit."""
_UNLABELLED = -1
_ARRAYS = ("files", "attributes", "labels", "probabilities")
_Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions of all fits for the same N test images, in the same order."""

    files: pd.Index
    """`file_name` of each image."""
    attributes: tuple[str, ...]
    """The A names."""
    labels: NDArray[np.float32]
    """(N, A): 1, 0 or NaN = unlabelled."""
    probabilities: Mapping[str, NDArray[np.float32]]
    """Arm -> (S, N, A) in [0, 1], one a seed."""


def unit_folder(out: Path, arm: str, seed: int) -> Path:
    """Folder of one fit of the study in `out`."""
    return out / "fits" / f"{arm}-{seed}"


def write_predictions(
    folder: Path,
    table: pd.DataFrame,
    attributes: Sequence[str],
    probabilities: NDArray[np.float32],
) -> None:
    """Write one fit's predictions.

    Args:
        folder: Of the fit; exists.
        table: The N test rows.
        attributes: The A names.
        probabilities: float32 (N, A), in the order of the rows; kept to the last bit, so that they
            give the same scores again.
    """
    labels = table[list(attributes)].fillna(_UNLABELLED).to_numpy(dtype=np.int8)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        files=np.array(table["file_name"], dtype=np.str_),
        attributes=np.array(attributes, dtype=np.str_),
        labels=labels,
        probabilities=np.asarray(probabilities, np.float32),
    )
    write_bytes(folder / PREDICTIONS, buffer.getvalue())


def read_predictions(out: Path, arms: Sequence[str], seeds: int) -> Predictions:
    """Read a study's predictions, images in the order of the first fit.

    Args:
        out: The study's folder, see `run_study`.
        arms: Names.
        seeds: Fits an arm.

    Raises:
        FileNotFoundError: A fit has none.
        ValueError: No fit asked for, a damaged file, or fits of other images and labels.
    """
    if not arms or seeds < 1:
        raise ValueError(
            f"predictions of {len(arms)} arms and {seeds} seeds are none; give at least one of each"
        )
    units = {(arm, seed): _read(out, arm, seed) for arm in arms for seed in range(seeds)}
    (origin, first), *others = units.items()
    files = pd.Index(first["files"])
    if not files.is_unique:
        twice = files[files.duplicated()][0]
        raise ValueError(f"test image {twice} occurs twice; give every image its own file_name")
    for key, unit in others:
        if not _sorted_as(first, unit):
            raise ValueError(
                f"{unit_folder(out, *key)} and {unit_folder(out, *origin)} are about other test "
                "images, attributes or labels; run the study anew in another folder"
            )
    labels = first["labels"].astype(np.float32)
    labels[labels == _UNLABELLED] = np.nan
    probabilities = {
        arm: np.stack([units[arm, seed]["probabilities"] for seed in range(seeds)]) for arm in arms
    }
    attributes = tuple(first["attributes"].tolist())
    return Predictions(
        files=files, attributes=attributes, labels=labels, probabilities=probabilities
    )


def _sorted_as(first: _Arrays, unit: _Arrays) -> bool:
    """Put the unit's images into the order of the first; False if they are not the same."""
    order = pd.Index(unit["files"]).get_indexer(pd.Index(first["files"]))
    if len(order) != len(unit["files"]) or (order < 0).any():
        return False
    unit["labels"], unit["probabilities"] = unit["labels"][order], unit["probabilities"][order]
    return np.array_equal(unit["attributes"], first["attributes"]) and np.array_equal(
        unit["labels"], first["labels"]
    )


def _read(out: Path, arm: str, seed: int) -> _Arrays:
    path = unit_folder(out, arm, seed) / PREDICTIONS
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in _ARRAYS}
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing; every finished fit has one; run the study's command again"
        ) from None
    except Exception as error:  # the reader raises what zip, zlib and NumPy do
        raise ValueError(
            f"{path} is damaged ({error}); run the study's command again, which makes it anew"
        ) from error
