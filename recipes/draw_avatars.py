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
from typing import ClassVar

import pandas as pd

from classify.datasets.avatars import avatar_table
from recipes.chain.command.command_line import parse, run
from recipes.chain.drawing import DrawSettings


@dataclass(frozen=True, kw_only=True)
class Settings(DrawSettings):
    """Which faces are drawn."""

    what: ClassVar[str] = "faces"

    train: int = 3000
    """Pictures for training."""
    val: int = 1000
    """Pictures for choosing what was trained."""
    test: int = 2000
    """Pictures for judging it."""
    out: Path = Path("runs/draw_avatars")
    """Folder of the images, absent or empty; the same pictures are not drawn twice."""


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame:
    """Draw what is not there; the table."""
    settings = parse(Settings, arguments)
    table = avatar_table(settings.out, **settings.given())
    print(f"{settings.out}: {len(table):,} faces of {settings.size} pixels")
    return table


if __name__ == "__main__":
    run(main)
