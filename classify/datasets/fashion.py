"""Fashion-MNIST made long-tailed: real photographs of clothes, one attribute a class.

60,000 + 10,000 grey images of 28 px, MIT licence (Xiao et al. 2017,
https://github.com/zalandoresearch/fashion-mnist). Train keeps 5,000 images of the first class down
to 50 of the last, exponentially (imbalance 100, the usual construction of Cui et al. 2019); val is
200 a class of the images that train leaves over, test the official 10,000. Both are balanced and
real.
"""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import FashionMNIST

__all__ = ["CLASSES", "fashion_longtail_table", "longtail_counts"]

CLASSES = tuple(name.replace("/", "_").replace(" ", "_") for name in FashionMNIST.classes)
"""The attributes, most common first."""

_FILES = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)


def longtail_counts(
    largest: int = 5000, imbalance: float = 100, classes: int = len(CLASSES)
) -> list[int]:
    """Images a class: `largest` times `imbalance`^(-c / (classes - 1)), rounded."""
    return [round(largest * imbalance ** (-c / (classes - 1))) for c in range(classes)]


def fashion_longtail_table(
    folder: Path,
    *,
    source: Path | None = None,
    largest: int = 5000,
    imbalance: float = 100,
    val: int = 200,
) -> pd.DataFrame:
    """Write the long-tailed set as PNG files with `metadata.csv`, or read it back if complete.

    Args:
        folder: where it goes.
        source: holds the four original files, gzipped or not, flat or as torchvision lays them
            out; left out, torchvision downloads them into `folder/original`.
        largest: train images of the first class.
        imbalance: ratio of the first class to the last.
        val: validation images a class.

    Returns:
        The table, with `path`.
    """
    csv = folder / "metadata.csv"
    if not csv.is_file():
        parts = _read(folder / "original", source)
        rng = np.random.default_rng(0)
        labels = np.asarray(parts[True].targets)
        order = rng.permutation(len(labels))
        counts = longtail_counts(largest, imbalance)
        chosen = [order[labels[order] == c][: counts[c] + val] for c in range(len(CLASSES))]
        splits = {
            "train": (parts[True], np.concatenate([rows[val:] for rows in chosen])),
            "val": (parts[True], np.concatenate([rows[:val] for rows in chosen])),
            "test": (parts[False], np.arange(len(parts[False]))),
        }
        table = pd.concat(
            [_write(folder, split, *part) for split, part in splits.items()], ignore_index=True
        )
        temporary = csv.with_suffix(".tmp")
        table.to_csv(temporary, index=False)
        os.replace(temporary, csv)
    table = pd.read_csv(csv)
    return table.assign(path=[str((folder / name).resolve()) for name in table["file_name"]])


def _write(
    folder: Path, split: str, dataset: FashionMNIST, rows: NDArray[np.int64]
) -> pd.DataFrame:
    (folder / split).mkdir(parents=True, exist_ok=True)
    for row in rows:
        Image.fromarray(dataset.data[row].numpy()).save(folder / split / f"{row}.png")
    labels = np.asarray(dataset.targets)[rows]
    table = pd.DataFrame(
        {"file_name": [f"{split}/{row}.png" for row in rows], "split": split, "source": "real"}
    )
    return table.assign(**{name: (labels == c).astype(int) for c, name in enumerate(CLASSES)})


def _read(root: Path, source: Path | None) -> dict[bool, FashionMNIST]:
    """The original train (True) and test (False) images; one line if the files are none."""
    if source is not None:
        _lay_out(source, root)
    try:
        return {
            train: FashionMNIST(str(root), train=train, download=source is None)
            for train in (True, False)
        }
    # torchvision asserts and slices, whatever the files hold; its download raises RuntimeError
    except (AssertionError, IndexError, KeyError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"the files of Fashion-MNIST in {source or root} cannot be read "
            f"({' '.join(str(error).split()) or type(error).__name__}); "
            "give --data with the four original ones"
        ) from error


def _lay_out(source: Path, root: Path) -> None:
    """Put the four files where torchvision looks for them; nothing if one is missing or broken."""
    contents = {name: _content(_find(source, name)) for name in _FILES}
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (raw / name).write_bytes(content)


def _find(source: Path, name: str) -> Path:
    for folder in (source, source / "FashionMNIST" / "raw"):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"{source} has no {name}.gz; give the folder with Fashion-MNIST's four files, "
        "or leave --data out to download them"
    )


def _content(path: Path) -> bytes:
    """The file's bytes, unpacked; an IDX file starts with two zeros and 8 for unsigned bytes."""
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (EOFError, OSError, zlib.error):
        content = b""
    if not content.startswith(b"\0\0\x08"):
        raise ValueError(f"{path} is no whole IDX file of Fashion-MNIST; restore the original")
    return content
