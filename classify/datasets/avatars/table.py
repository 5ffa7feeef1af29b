"""The avatars by number, and as a folder of PNG files with `metadata.csv`, drawn once and reused.

A picture is a pure function of (pool, index, size, seed), so that pools can be drawn in any order,
in parts and in parallel.

Source: drawn by this package, in the schema of CelebA (Liu et al., 2015); no picture of CelebA is
used.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from classify.datasets.avatars.distribution import ATTRIBUTES, UNLABELLED, from_uniforms
from classify.datasets.avatars.drawing import draw
from classify.datasets.drawn import Pool, draw_once, parts, settings_of, stream
from classify.datasets.folder import load

_METADATA = "metadata.csv"
_VERSION = 1
"""Raise when drawing or distribution change: an old folder must not pass for a new one."""


def avatar_pool(
    indices: Iterable[int], *, pool: Pool | str, size: int = 32, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Draw the pictures with these numbers.

    Args:
        indices: Numbers of the pictures, each >= 0; any number of them in any order.
        pool: A `Pool` or its name in any case, such as "generator" or "labeler".
        size: Side in pixels.
        seed: Seed of all pools.

    Returns:
        Pictures uint8 (N, size, size, 3), RGB, and attributes int8 (N, 40), 0 or 1, in the order of
        `ATTRIBUTES`. The value of `Attractive` there is drawn, but nothing in the picture shows it.
    """
    key, numbers = _pool(pool), list(indices)
    uniforms = np.empty((len(numbers), len(ATTRIBUTES)))
    seeds = np.empty(len(numbers), dtype=np.int64)
    for row, number in enumerate(numbers):
        rng = stream(seed, key, number)
        uniforms[row], seeds[row] = rng.random(len(ATTRIBUTES)), rng.integers(2**63)
    attributes = from_uniforms(uniforms)
    images = np.empty((len(numbers), size, size, 3), dtype=np.uint8)
    for row in tqdm(range(len(numbers)), desc="avatars", delay=2, disable=None):
        images[row] = draw(attributes[row], int(seeds[row]), size)
    return images, attributes


def _pool(pool: Pool | str) -> Pool:
    if isinstance(pool, Pool):
        return pool
    if pool.upper() not in Pool.__members__:
        known = ", ".join(member.name.lower() for member in Pool)
        raise ValueError(f"pool is {pool!r}; give one of {known}")
    return Pool[pool.upper()]


def avatar_table(
    root: Path,
    *,
    size: int = 32,
    train: int = 3000,
    val: int = 1000,
    test: int = 2000,
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
        The table, as `load_table` reads it: one row per picture, with the 40 attributes as 1 and 0,
        `Attractive` empty.
    """
    counts = {Pool.TRAIN: train, Pool.VAL: val, Pool.TEST: test}
    settings = settings_of(_VERSION, size, counts, seed, pool)

    def draw_all(folder: Path) -> None:
        tables = []
        for split, source, numbers in parts(counts, pool):
            images, attributes = avatar_pool(numbers, pool=source, size=size, seed=seed)
            tables.append(_write_split(folder, split, numbers, images, attributes))
        pd.concat(tables, ignore_index=True).to_csv(folder / _METADATA, index=False)

    draw_once(root, "avatars", settings, draw_all)
    return load(root)


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
