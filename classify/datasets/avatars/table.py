"""The embedded data set: avatars as PNG files with `metadata.csv`, drawn once and then reused.

Source: drawn by this package, in the schema of CelebA (Liu et al., 2015); no picture of CelebA is
used.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from classify.datasets.avatars.distribution import ATTRIBUTES, UNLABELLED
from classify.datasets.avatars.pool import Pool, avatar_pool

_METADATA = "metadata.csv"
_SETTINGS = "avatars.json"
_VERSION = 1
"""Raise when drawing or distribution change: an old folder must not pass for a new one."""


def avatar_table(
    root: Path,
    *,
    size: int = 32,
    train: int = 3000,
    val: int = 1000,
    test: int = 4000,
    seed: int = 0,
    pool: Pool | None = None,
) -> pd.DataFrame:
    """The embedded data set under `root`, drawn if it is not there.

    Args:
        root: Folder of the data set: absent, empty, or written here with the same settings.
        size: Side of the pictures in pixels.
        train: Number of pictures in this split; likewise `val` and `test`.
        seed: Another seed gives another data set of the same distribution.
        pool: Take the pictures of every split from this pool, one after the other, instead of from
            the study's own three: the shipped generator and labeler are trained on such.

    Returns:
        One row a picture: `file_name` (relative to `root`), `split`, `source` ("real"), then the 40
        attributes with 1 and 0, `Attractive` empty.
    """
    counts = {Pool.TRAIN: train, Pool.VAL: val, Pool.TEST: test}
    sizes = {split.name.lower(): count for split, count in counts.items()}
    settings: dict[str, int | str] = {"version": _VERSION, "size": size, **sizes, "seed": seed}
    if pool is not None:
        settings["pool"] = pool.name.lower()
    if not _is_complete(root, settings):
        _write(root, settings, counts, pool, size=size, seed=seed)
    return pd.read_csv(root / _METADATA, dtype=dict.fromkeys(ATTRIBUTES, "Int8"))


def _is_complete(root: Path, settings: Mapping[str, int | str]) -> bool:
    """Whether `root` holds this very data set; an error if it holds anything else."""
    if not root.exists():
        return False
    if not root.is_dir():
        raise ValueError(f"{root} is a file; allowed is a folder: give another path")
    if not any(root.iterdir()):
        return False
    found = root / _SETTINGS
    if not found.is_file():
        raise ValueError(
            f"{root} holds other files; allowed is an empty or absent folder: give another path"
        )
    if (stored := json.loads(found.read_text(encoding="utf-8"))) != settings:
        raise ValueError(
            f"{root} holds avatars with {stored}, allowed is a folder with {settings}: "
            "give another path or delete that folder"
        )
    return True


def _write(
    root: Path,
    settings: Mapping[str, int | str],
    counts: Mapping[Pool, int],
    pool: Pool | None,
    *,
    size: int,
    seed: int,
) -> None:
    """Draw everything beside `root` under a temporary name, then move the complete folder there."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}-") as scratch:
        folder = Path(scratch) / "avatars"
        first, tables = 0, []
        for split, count in counts.items():
            numbers = range(count) if pool is None else range(first, first := first + count)
            images, attributes = avatar_pool(numbers, pool=pool or split, size=size, seed=seed)
            tables.append(_write_split(folder, split.name.lower(), numbers, images, attributes))
        pd.concat(tables, ignore_index=True).to_csv(folder / _METADATA, index=False)
        (folder / _SETTINGS).write_text(json.dumps(settings), encoding="utf-8")
        os.replace(folder, root)  # takes the place of an empty folder, refuses a filled one


def _write_split(
    folder: Path,
    split: str,
    numbers: range,
    images: NDArray[np.uint8],
    attributes: NDArray[np.int8],
) -> pd.DataFrame:
    """Write `folder/<split>/<number>.png`; returns the split's rows."""
    (folder / split).mkdir(parents=True)
    names = [f"{split}/{number:06d}.png" for number in numbers]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name)
    labels = pd.DataFrame(attributes, columns=list(ATTRIBUTES)).astype("Int8")
    labels[list(UNLABELLED)] = pd.NA
    rows = pd.DataFrame({"file_name": names, "split": split, "source": "real"})
    return rows.join(labels)
