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

__all__ = ["PREDICTIONS", "Predictions", "read_predictions", "write_predictions"]

PREDICTIONS = "predictions.npz"
"""File in the folder of a fit."""
_UNLABELLED = -1


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
        ValueError: No fit asked for, or the fits are not about the same images and labels.
    """
    if not arms or seeds < 1:
        raise ValueError(
            f"got {len(arms)} arms and {seeds} seeds: at least one of each has predictions"
        )
    first = _read(out, arms[0], 0)
    files, attributes = pd.Index(first["files"]), tuple(first["attributes"].tolist())
    if not files.is_unique:
        twice = files[files.duplicated()][0]
        raise ValueError(f"test image {twice} occurs twice: give every image its own file_name")
    stacked = {arm: np.empty((seeds, *first["labels"].shape), np.float32) for arm in arms}
    for arm in arms:
        for seed in range(seeds):
            unit = _read(out, arm, seed)
            order = pd.Index(unit["files"]).get_indexer(files)
            same = len(order) == len(unit["files"]) and (order >= 0).all()
            same = same and attributes == tuple(unit["attributes"].tolist())
            if not same or not np.array_equal(unit["labels"][order], first["labels"]):
                raise ValueError(
                    f"{_folder(out, arm, seed)} and {_folder(out, arms[0], 0)} are about other "
                    "test images, attributes or labels: run the study anew in another folder"
                )
            stacked[arm][seed] = unit["probabilities"][order]
    labels = first["labels"].astype(np.float32)
    labels[labels == _UNLABELLED] = np.nan
    return Predictions(files=files, attributes=attributes, labels=labels, probabilities=stacked)


def _folder(out: Path, arm: str, seed: int) -> Path:
    return out / "fits" / f"{arm}-{seed}"


def _read(out: Path, arm: str, seed: int) -> dict[str, NDArray[Any]]:
    file = _folder(out, arm, seed) / PREDICTIONS
    if not file.exists():
        raise FileNotFoundError(
            f"{file} is missing: every finished fit has one; run the study's command again"
        )
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
