"""Phantoms as a folder of PNG files with `metadata.csv`, drawn once and reused; split by subject.

A subject is a pure function of (pool, number, size, seed): all randomness comes from
`SeedSequence(seed, spawn_key=(pool, number))`. So no subject is in two pools, or in two splits.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from classify.datasets.drawn import draw_once
from classify.datasets.phantoms.anatomy import FINDINGS
from classify.datasets.phantoms.distribution import SLICES, draw_subject

__all__ = ["TRUTH", "Pool", "phantom_table"]

TRUTH = "truth.csv"
"""Beside the table: `file_name`, `subject`, and `log_density` of what was drawn."""
_METADATA = "metadata.csv"
_VERSION = 1
"""Raise when drawing or distribution change: an old folder must not pass for a new one."""


class Pool(IntEnum):
    """Disjoint sources of subjects; the value is part of every subject's seed."""

    TRAIN = 0
    VAL = 1
    TEST = 2
    GENERATOR = 3
    """For training generators; their findings are not used."""


def phantom_table(
    root: Path,
    *,
    size: int = 32,
    train: int = 750,
    val: int = 250,
    test: int = 500,
    seed: int = 0,
    pool: Pool | None = None,
) -> pd.DataFrame:
    """The data set under `root`, drawn if it is not there.

    Args:
        root: Folder of the data set: absent, empty, or written here with the same settings.
        size: Side of the pictures in pixels.
        train: Number of subjects in this split, of four pictures each; likewise `val` and `test`.
        seed: Another seed gives another data set of the same distribution.
        pool: Take the subjects of every split from this pool, one after the other, instead of from
            the study's own three, as for training a generator.

    Returns:
        One row a picture: `file_name` (`<split>/<subject>-<slice>.png`), `split`, `source`
        ("real"), then the six findings with 1 and 0.

    Raises:
        ValueError: `root` holds anything else.
    """
    subjects = {Pool.TRAIN: train, Pool.VAL: val, Pool.TEST: test}
    counts = {split.name.lower(): count for split, count in subjects.items()}
    settings: dict[str, int | str] = {"version": _VERSION, "size": size, **counts, "seed": seed}
    if pool is not None:
        settings["pool"] = pool.name.lower()

    def draw(folder: Path) -> None:
        first, tables, truths = 0, [], []
        for split, count in subjects.items():
            numbers = range(count) if pool is None else range(first, first := first + count)
            seeds = [
                np.random.SeedSequence(seed, spawn_key=(split if pool is None else pool, number))
                for number in numbers
            ]
            (folder / split.name.lower()).mkdir(parents=True)
            for number, of_subject in zip(numbers, seeds, strict=True):
                table, truth = _write_subject(folder, split.name.lower(), number, of_subject, size)
                tables.append(table)
                truths.append(truth)
        for name, parts in ((_METADATA, tables), (TRUTH, truths)):
            pd.concat(parts, ignore_index=True).to_csv(folder / name, index=False)

    draw_once(root, "phantoms", settings, draw)
    return pd.read_csv(root / _METADATA)


def _write_subject(
    folder: Path, split: str, number: int, seed: np.random.SeedSequence, size: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write the slices of a subject; the rows of the table and of the truth."""
    pictures, findings, density = draw_subject(np.random.default_rng(seed), size)
    names = [f"{split}/{number:06d}-{place}.png" for place in range(SLICES)]
    for name, picture in zip(names, pictures, strict=True):
        Image.fromarray(picture).save(folder / name)
    table = pd.DataFrame({"file_name": names, "split": split, "source": "real"})
    truth = pd.DataFrame({"file_name": names, "subject": number, "log_density": density})
    return table.assign(**dict(zip(FINDINGS, findings, strict=True))), truth
