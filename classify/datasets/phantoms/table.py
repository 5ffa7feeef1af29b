"""Phantoms as a folder of PNG files with `metadata.csv`, drawn once and reused; split by subject.

A subject is a pure function of (pool, number, size, seed), so that none is in two splits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from classify.datasets.drawn import Pool, draw_once, parts, settings_of, stream
from classify.datasets.folder import load
from classify.datasets.phantoms.anatomy import FINDINGS
from classify.datasets.phantoms.distribution import SLICES, draw_subject

__all__ = ["TRUTH", "phantom_table"]

TRUTH = "truth.csv"
"""Beside the table: `file_name`, `subject`, and `log_density` of what was drawn."""
_METADATA = "metadata.csv"
_VERSION = 1
"""Raise when drawing or distribution change: an old folder must not pass for a new one."""


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
        The table, as `load_table` reads it: one row per picture, `<split>/<subject>-<slice>.png`,
        with the six findings as 1 and 0.

    Raises:
        ValueError: `root` holds anything else.
    """
    counts = {Pool.TRAIN: train, Pool.VAL: val, Pool.TEST: test}
    settings = settings_of(_VERSION, size, counts, seed, pool)

    def draw(folder: Path) -> None:
        tables, truths = [], []
        for split, source, numbers in parts(counts, pool):
            (folder / split).mkdir(parents=True)
            for number in numbers:
                rng = stream(seed, source, number)
                table, truth = _write_subject(folder, split, number, rng, size)
                tables.append(table)
                truths.append(truth)
        for name, rows in ((_METADATA, tables), (TRUTH, truths)):
            pd.concat(rows, ignore_index=True).to_csv(folder / name, index=False)

    draw_once(root, "phantoms", settings, draw)
    return load(root)


def _write_subject(
    folder: Path, split: str, number: int, rng: np.random.Generator, size: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write the slices of a subject; the rows of the table and of the truth."""
    pictures, findings, density = draw_subject(rng, size)
    names = [f"{split}/{number:06d}-{place}.png" for place in range(SLICES)]
    for name, picture in zip(names, pictures, strict=True):
        Image.fromarray(picture).save(folder / name)
    table = pd.DataFrame({"file_name": names, "split": split, "source": "real"})
    truth = pd.DataFrame({"file_name": names, "subject": number, "log_density": density})
    return table.assign(**dict(zip(FINDINGS, findings, strict=True))), truth
