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
from typing import ClassVar, Literal

import pandas as pd

from classify.datasets.phantoms import phantom_table
from recipes.chain.command.command_line import parse, run
from recipes.chain.drawing import DrawSettings


@dataclass(frozen=True, kw_only=True)
class Settings(DrawSettings):
    """Which phantoms are drawn."""

    what: ClassVar[str] = "phantoms"

    train: int = 750
    """Subjects for training, of four pictures each."""
    val: int = 250
    """Subjects for choosing what was trained."""
    test: int = 500
    """Subjects for judging it."""
    pool: Literal["train", "val", "test", "generator"] | None = None
    """Take all splits from this one pool; left out, each comes from its own."""
    out: Path = Path("runs/draw_phantoms")
    """Folder of the images, absent or empty; the same pictures are not drawn twice."""


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame:
    """Draw what is not there; the table."""
    settings = parse(Settings, arguments)
    table = phantom_table(settings.out, **settings.given())
    print(f"{settings.out}: {len(table):,} phantoms of {settings.size} pixels")
    return table


if __name__ == "__main__":
    run(main)
