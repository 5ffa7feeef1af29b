"""Fashion-MNIST made long-tailed: real photographs of clothes, one attribute a class.

60,000 + 10,000 grey images of 28 px, MIT licence (Xiao et al. 2017,
https://github.com/zalandoresearch/fashion-mnist). Train keeps 5,000 images of the first class down
to 50 of the last, exponentially (imbalance 100, the usual construction of Cui et al. 2019); val is
200 a class of the images that train leaves over, test the official 10,000. Both are balanced and
real.
"""

from __future__ import annotations

import gzip
import zlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import FashionMNIST

from classify.datasets.drawn import draw_once
from classify.datasets.folder import load
from classify.files import write_text

__all__ = ["CLASSES", "fashion_longtail_table", "longtail_counts"]

CLASSES = tuple(name.replace("/", "_").replace(" ", "_") for name in FashionMNIST.classes)
"""The attributes, most common first."""


def longtail_counts(
    largest: int = 5000, imbalance: float = 100, classes: int = len(CLASSES)
) -> list[int]:
    """Images per class: `largest` times `imbalance`^(-c / (classes - 1)), rounded."""
    return [round(largest * imbalance ** (-c / (classes - 1))) for c in range(classes)]


def fashion_longtail_table(
    folder: Path,
    *,
    source: Path | None = None,
    largest: int = 5000,
    imbalance: float = 100,
    val: int = 200,
) -> pd.DataFrame:
    """Have the long-tailed set as PNG files with `metadata.csv`, written if it is not there yet.

    Args:
        folder: where it goes.
        source: holds the four original files, gzipped or not, flat or as torchvision lays them
            out; left out, torchvision downloads them into `folder/original`.
        largest: train images of the first class.
        imbalance: ratio of the first class to the last.
        val: validation images per class.

    Returns:
        The table, as `load_table` reads it.

    Raises:
        FileNotFoundError: One of the four files is missing.
        ValueError: One is damaged, the download failed, or the folder holds anything else.
    """

    def write(root: Path) -> None:
        train, test = _read(root / "original" if source is None else source, source is None)
        rng = np.random.default_rng(0)
        order = rng.permutation(len(train.labels))
        counts = longtail_counts(largest, imbalance)
        chosen = [order[train.labels[order] == c][: counts[c] + val] for c in range(len(CLASSES))]
        splits = {
            "train": (train, np.concatenate([rows[val:] for rows in chosen])),
            "val": (train, np.concatenate([rows[:val] for rows in chosen])),
            "test": (test, np.arange(len(test.labels))),
        }
        tables = [_write(root, split, *part) for split, part in splits.items()]
        write_text(root / "metadata.csv", pd.concat(tables).to_csv(index=False))

    draw_once(folder, "fashion", {"largest": largest, "imbalance": imbalance, "val": val}, write)
    return load(folder)


class _Part(NamedTuple):
    images: NDArray[np.uint8]
    """(N, 28, 28)."""
    labels: NDArray[np.uint8]
    """(N,), places in `CLASSES`."""


def _write(folder: Path, split: str, part: _Part, rows: NDArray[np.int64]) -> pd.DataFrame:
    (folder / split).mkdir(parents=True, exist_ok=True)
    for row in rows:
        Image.fromarray(part.images[row]).save(folder / split / f"{row}.png")
    labels = part.labels[rows]
    table = pd.DataFrame(
        {"file_name": [f"{split}/{row}.png" for row in rows], "split": split, "source": "real"}
    )
    return table.assign(**{name: (labels == c).astype(int) for c, name in enumerate(CLASSES)})


def _read(source: Path, download: bool) -> tuple[_Part, _Part]:
    """The original train and test images; torchvision downloads them, if asked to."""
    if download:
        try:
            FashionMNIST(str(source), download=True)
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"Fashion-MNIST cannot be downloaded ({' '.join(str(error).split())}); its four "
                "files are read from a folder too; give it with --data"
            ) from error
    images = [_idx(_find(source, f"{part}-images-idx3-ubyte"), 3) for part in ("train", "t10k")]
    labels = [_idx(_find(source, f"{part}-labels-idx1-ubyte"), 1) for part in ("train", "t10k")]
    train, test = (_Part(*part) for part in zip(images, labels, strict=True))
    if any(len(part.images) != len(part.labels) for part in (train, test)):
        raise ValueError(
            f"{source} has not one label per image; both come from one set; restore the original"
        )
    return train, test


def _find(source: Path, name: str) -> Path:
    for folder in (source, source / "FashionMNIST" / "raw"):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"{source} has no {name}.gz; the set has four files; give their folder, or leave --data "
        "out to download them"
    )


def _idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """An IDX file, gzipped or not: two zeros, 8 for unsigned bytes, the number of axes, their
    lengths (4 bytes each, the highest first), the values.
    """
    content = path.read_bytes()
    with suppress(EOFError, OSError, zlib.error):  # what is left packed has the wrong head
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    start = 4 + 4 * axes
    shape = np.frombuffer(content[4:start].ljust(4 * axes, b"\0"), ">u4").astype(int)
    if content[:4] != bytes((0, 0, 8, axes)) or len(content) != start + np.prod(shape):
        raise ValueError(
            f"{path} is no whole IDX file of Fashion-MNIST; it is one of the four original files; "
            "restore it"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
