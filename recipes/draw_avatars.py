"""Draw faces by code, in CelebA's schema: a folder of images with `metadata.csv`, 7,000 a minute.

    python recipes/draw_avatars.py                                        # the embedded data set
    python recipes/draw_avatars.py --pool generator --train 50000 --val 0 --test 0

The shipped generator and labeler are trained on the pools `generator` and `labeler`, which have no
picture in common with the data set of the studies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from classify.datasets.avatars import Pool, avatar_table
from recipes.chain.command_line import parse, run


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which faces are drawn."""

    size: int = 32
    """Side of the pictures in pixels."""
    train: int = 3000
    """Pictures for training."""
    val: int = 1000
    """Pictures for choosing what was trained."""
    test: int = 2000
    """Pictures for judging it."""
    seed: int = 0
    """Another seed gives other pictures of the same distribution."""
    pool: Literal["train", "val", "test", "generator", "labeler"] | None = None
    """Take all splits from this one pool; left out, each comes from its own."""
    out: Path = Path("runs/draw_avatars")
    """Folder of the images, absent or empty; the same pictures are not drawn twice."""

    def __post_init__(self) -> None:
        if self.size < 8:
            raise ValueError(f"size is {self.size}; faces need 8 pixels or more; 32 is usual")
        if min(self.train, self.val, self.test) < 0 or not self.train + self.val + self.test:
            raise ValueError(
                f"train, val, test are {self.train}, {self.val}, {self.test}; no count is "
                "negative and one is positive; correct them"
            )


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame:
    """Draw what is not there; the table."""
    settings = parse(Settings, arguments)
    table = avatar_table(
        settings.out,
        size=settings.size,
        train=settings.train,
        val=settings.val,
        test=settings.test,
        seed=settings.seed,
        pool=None if settings.pool is None else Pool[settings.pool.upper()],
    )
    print(f"{settings.out}: {len(table):,} faces of {settings.size} pixels")
    return table


if __name__ == "__main__":
    run(main)
