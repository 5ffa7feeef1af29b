"""What each fit of a study predicted for the val and the test images, kept beside its scores.

Two compressed files per fit, `predictions.npz` of test and `val_predictions.npz`, which hold no
pickled objects: `files` (N,) text, `attributes` (A,) text, `labels` int8 (N, A) with -1 =
unlabelled, `probabilities` float32 (N, A). What is fitted on val afterwards, such as the thresholds
of the best F1, follows from the second file alone.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classify.files import write_bytes
from classify.metrics import best_thresholds

__all__ = ["PREDICTIONS", "Predictions", "read_predictions", "unit_folder", "write_predictions"]

Judged = Literal["val", "test"]
"""The splits that a fit predicts."""
PREDICTIONS: Mapping[Judged, str] = {"val": "val_predictions.npz", "test": "predictions.npz"}
"""Split -> file in the folder of a fit."""
_UNLABELLED = -1
_ARRAYS = ("files", "attributes", "labels", "probabilities")
_Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions of all fits for the same N images of a split, in the same order."""

    files: pd.Index
    """`file_name` of each image."""
    attributes: tuple[str, ...]
    """The A names."""
    labels: NDArray[np.float32]
    """(N, A): 1, 0 or NaN = unlabelled."""
    probabilities: Mapping[str, NDArray[np.float32]]
    """Arm -> (S, N, A) in [0, 1], one per seed."""

    def best_thresholds(self) -> dict[str, NDArray[np.float32]]:
        """Arm -> (S, A), the thresholds of the best F1 of each fit on these images, which have to
        be those of val.
        """
        return {
            arm: np.stack([best_thresholds(values, self.labels) for values in fits])
            for arm, fits in self.probabilities.items()
        }


def unit_folder(out: Path, arm: str, seed: int) -> Path:
    """Folder of one fit of the study in `out`."""
    return out / "fits" / f"{arm}-{seed}"


def write_predictions(
    folder: Path,
    table: pd.DataFrame,
    attributes: Sequence[str],
    probabilities: NDArray[np.float32],
    split: Judged = "test",
) -> None:
    """Write one fit's predictions of a split.

    Args:
        folder: Of the fit; exists.
        table: The N rows of the split.
        attributes: The A names.
        probabilities: float32 (N, A), in the order of the rows; kept to the last bit, so that they
            give the same scores again.
        split: What the rows are.
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
    write_bytes(folder / PREDICTIONS[split], buffer.getvalue())


def read_predictions(
    out: Path, arms: Sequence[str], seeds: int, split: Judged = "test"
) -> Predictions:
    """Read a study's predictions of a split, images in the order of the first fit.

    Args:
        out: The study's folder, see `run_study`.
        arms: Names.
        seeds: Fits per arm.
        split: Whose images.

    Raises:
        FileNotFoundError: A fit has none.
        ValueError: No fit asked for, a damaged file, or fits of other images and labels.
    """
    if not arms or seeds < 1:
        raise ValueError(
            f"predictions of {len(arms)} arms and {seeds} seeds are asked for; give at least one "
            "of each"
        )
    units = {
        (arm, seed): _read(unit_folder(out, arm, seed) / PREDICTIONS[split])
        for arm in arms
        for seed in range(seeds)
    }
    (origin, first), *others = units.items()
    files = pd.Index(first["files"])
    if not files.is_unique:
        twice = files[files.duplicated()][0]
        raise ValueError(f"{split} image {twice} occurs twice; give every image its own file_name")
    for key, unit in others:
        if not _sorted_as(first, unit):
            raise ValueError(
                f"{unit_folder(out, *key)} and {unit_folder(out, *origin)} are about other {split} "
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


def _read(path: Path) -> _Arrays:
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
