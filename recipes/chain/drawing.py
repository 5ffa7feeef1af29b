"""What the recipes share that draw or unpack a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd

from classify import load_table
from classify.datasets.drawn import Pool
from recipes.chain.run import Run

__all__ = ["DrawSettings", "own_data"]


def own_data(this_run: Run, make: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
    """The images that a run draws or unpacks into its own folder, at the first run.

    Args:
        this_run: the run.
        make: has them in the folder that it is given, and returns their table.
    """
    this_run.check_claim()  # before anything is drawn into its folder
    folder, attributes = this_run.config.out / "data", this_run.config.attributes
    with this_run.fabric.rank_zero_first():
        table = make(folder)
    return load_table(folder, attributes) if attributes else table


@dataclass(frozen=True, kw_only=True)
class DrawSettings:
    """Which pictures are drawn; how many of each split, a recipe says itself."""

    what: ClassVar[str]

    size: int = 32
    """Side of the pictures in pixels."""
    train: int
    val: int
    test: int
    seed: int = 0
    """Another seed gives other pictures of the same distribution."""
    pool: Literal["train", "val", "test", "generator", "labeler"] | None = None
    """Take all splits from this one pool; left out, each comes from its own."""
    out: Path
    """Folder of the images, absent or empty; the same pictures are not drawn twice."""

    def __post_init__(self) -> None:
        if self.size < 8:
            raise ValueError(f"size is {self.size}; {self.what} need 8 pixels or more; 32 is usual")
        if min(self.train, self.val, self.test) < 0 or not self.train + self.val + self.test:
            raise ValueError(
                f"train, val, test are {self.train}, {self.val}, {self.test}; no count is "
                "negative and one is positive; correct them"
            )

    def given(self) -> dict[str, Any]:
        """The keyword arguments of the function that draws them into `out`."""
        names = "size", "train", "val", "test", "seed"
        pool = None if self.pool is None else Pool[self.pool.upper()]
        return {name: getattr(self, name) for name in names} | {"pool": pool}
