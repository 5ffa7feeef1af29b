"""Draw chests in cross-section by code: a folder of grey images with `metadata.csv`, and their true
density in `truth.csv`.

    python recipes/draw_phantoms.py                                   # the data set of phantoms.py
    python recipes/draw_phantoms.py --pool generator --train 5000 --val 0 --test 0

Generators are trained on the pool `generator`, which has no subject in common with the data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from classify.datasets.phantoms import Pool, phantom_table
from recipes.chain.command_line import parse, run


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which phantoms are drawn."""

    size: int = 32
    """Side of the pictures in pixels."""
    train: int = 750
    """Subjects for training, of four pictures each."""
    val: int = 250
    """Subjects for choosing what was trained."""
    test: int = 500
    """Subjects for judging it."""
    seed: int = 0
    """Another seed gives other subjects of the same distribution."""
    pool: Literal["train", "val", "test", "generator"] | None = None
    """Take all splits from this one pool; left out, each comes from its own."""
    out: Path = Path("runs/draw_phantoms")
    """Folder of the images, absent or empty; the same pictures are not drawn twice."""

    def __post_init__(self) -> None:
        if self.size < 8:
            raise ValueError(f"size is {self.size}; phantoms need 8 pixels or more; 32 is usual")
        if min(self.train, self.val, self.test) < 0 or not self.train + self.val + self.test:
            raise ValueError(
                f"train, val, test are {self.train}, {self.val}, {self.test}; no count is "
                "negative and one is positive; correct them"
            )


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame:
    """Draw what is not there; the table."""
    settings = parse(Settings, arguments)
    table = phantom_table(
        settings.out,
        size=settings.size,
        train=settings.train,
        val=settings.val,
        test=settings.test,
        seed=settings.seed,
        pool=None if settings.pool is None else Pool[settings.pool.upper()],
    )
    print(f"{settings.out}: {len(table):,} phantoms of {settings.size} pixels")
    return table


if __name__ == "__main__":
    run(main)
