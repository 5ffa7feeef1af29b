"""MedMNIST's files (`chestmnist.npz` and its siblings) as a folder of images with a table.

Such a file holds the arrays `train_images`, `train_labels`, and those of val and test: images uint8
(N, S, S) or (N, S, S, 3), labels (N, A) of 1 and 0 for A findings of ChestMNIST (14), or (N, 1), a
class each. Nothing in it is executed: arrays of objects, which would be unpickled, are refused.
Images are read one at a time, for those of the largest file take 11 GB.

Data sheet: Yang et al., "MedMNIST v2", Scientific Data 2023, https://medmnist.com; ChestMNIST is
NIH's ChestX-ray14, 112,120 frontal radiographs of 30,805 patients, split by patient; CC BY 4.0.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from classify.datasets.drawn import draw_once
from classify.datasets.folder import load
from classify.files import sha256_of
from classify.progress import progress

__all__ = ["CHEST_FINDINGS", "medmnist_table"]

CHEST_FINDINGS = (
    *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia"),
    *("pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
)
"""ChestMNIST's attributes, in the order of its labels."""
_SPLITS = ("train", "val", "test")
_VERSION = 1
"""Raise when what is written changes."""
_DAMAGED = (
    *(OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error),
    *(NotImplementedError, RuntimeError),  # members that are packed otherwise, or encrypted
)


def medmnist_table(folder: Path, *, source: Path) -> pd.DataFrame:
    """Write the images as PNG files with `metadata.csv`, or read it back if they are there.

    Args:
        folder: Absent, empty, or written here from the same file.
        source: The `.npz` file, of any of MedMNIST's sizes.

    Returns:
        The table, as `load_table` reads it. The attributes of 14 columns are `CHEST_FINDINGS`, of A
        others `finding_0` and so on, of one column, whose numbers are classes, `class_0` and so on.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not of this layout, or the folder holds anything else.
    """
    if not source.is_file():
        raise FileNotFoundError(f"{source} is no file; give a .npz file of MedMNIST")

    def write(root: Path) -> None:
        labels = {split: _labels(source, split) for split in _SPLITS}
        names = _names(source, labels)
        tables = [_write_split(root, source, split, labels[split], names) for split in _SPLITS]
        pd.concat(tables, ignore_index=True).to_csv(root / "metadata.csv", index=False)

    draw_once(folder, "medmnist", {"version": _VERSION, "sha256": sha256_of(source)}, write)
    return load(folder)


def _labels(source: Path, split: str) -> NDArray[np.int64]:
    """(N, A)."""
    rows = list(_rows(source, f"{split}_labels"))
    labels = np.stack(rows) if rows else np.zeros((0, 0))
    if labels.ndim != 2 or not labels.size or labels.dtype.kind not in "biu":
        raise ValueError(
            f"{source} has {split}_labels of {labels.dtype} {labels.shape}; MedMNIST's are whole "
            "numbers (N, A), of at least one image; give one of its files"
        )
    return labels.astype(np.int64)


def _names(source: Path, labels: dict[str, NDArray[np.int64]]) -> list[str]:
    """Names of the attributes; of one column, whose numbers are classes, as many as there are."""
    widths, every = {part.shape[1] for part in labels.values()}, list(labels.values())
    if len(widths) > 1:
        raise ValueError(f"{source} has splits of {sorted(widths)} labels; give a whole file")
    (width,) = widths
    if width == 1:
        return [f"class_{number}" for number in range(1 + max(int(part.max()) for part in every))]
    if any(((part != 0) & (part != 1)).any() for part in every):
        raise ValueError(f"{source} has labels besides 1 and 0; give a file of MedMNIST")
    if width == len(CHEST_FINDINGS):
        return list(CHEST_FINDINGS)
    return [f"finding_{number}" for number in range(width)]


def _write_split(
    root: Path, source: Path, split: str, labels: NDArray[np.int64], names: list[str]
) -> pd.DataFrame:
    (root / split).mkdir(parents=True)
    files = [f"{split}/{row:06d}.png" for row in range(len(labels))]
    images = _rows(source, f"{split}_images", count=len(labels))
    for file, image in zip(
        progress(files, f"unpacking {split}", unit="image"), images, strict=True
    ):
        Image.fromarray(image).save(root / file)
    if labels.shape[1] == 1:
        labels = (labels == np.arange(len(names))).astype(np.int64)
    table = pd.DataFrame({"file_name": files, "split": split, "source": "real"})
    return table.join(pd.DataFrame(labels, columns=names))


def _rows(source: Path, name: str, count: int | None = None) -> Iterator[NDArray[np.generic]]:
    """The rows of an array of the file, one after another; with `count`, so many images."""
    headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        with zipfile.ZipFile(source) as archive, archive.open(f"{name}.npy") as member:
            shape, by_columns, dtype = headers[npy.read_magic(member)](member)
            if dtype.hasobject or by_columns or not shape:
                raise ValueError("an array of other things than numbers, row by row")
            if math.prod(shape) * dtype.itemsize > archive.getinfo(f"{name}.npy").file_size:
                raise ValueError(f"{shape} is more than the file holds")
            if count is not None:
                _check_images(shape, dtype, count)
            size = int(np.prod(shape[1:])) * dtype.itemsize
            for _ in range(shape[0]):
                yield np.frombuffer(member.read(size), dtype).reshape(shape[1:])
    except _DAMAGED as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{source} has no {name} as MedMNIST's files have ({reason}); give one of its files"
        ) from error


def _check_images(shape: tuple[int, ...], dtype: np.dtype[np.generic], count: int) -> None:
    if dtype != np.uint8 or len(shape) not in (3, 4) or shape[3:] not in ((), (3,)):
        raise ValueError(f"{dtype} {shape}; images are uint8 (N, S, S) or (N, S, S, 3)")
    if shape[0] != count:
        raise ValueError(f"{shape[0]} images for {count} rows of labels")
