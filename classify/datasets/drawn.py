"""Data sets that are drawn by code: pools of pictures, and a folder that is drawn once and reused.

All randomness of number n of a pool comes from `stream(seed, pool, n)`. Spawn keys give independent
streams, so nothing is in two pools, whatever the numbers, and pools can be drawn in parts. A record
of the settings stands in the folder: what is there is either that very data set or refused.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from pathlib import Path

import numpy as np

__all__ = ["Pool", "draw_once", "parts", "settings_of", "stream"]


class Pool(IntEnum):
    """Disjoint sources of what is drawn; the value is part of every seed."""

    TRAIN = 0
    VAL = 1
    TEST = 2
    GENERATOR = 3
    """For training generators; the labels are not used."""
    LABELER = 4
    """For training labelers."""


Counts = Mapping[Pool, int]
"""How many of each split, a study's three pools."""


def stream(seed: int, pool: Pool, number: int) -> np.random.Generator:
    """The random numbers of one number of a pool."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(pool, number)))


def settings_of(
    version: int, size: int, counts: Counts, seed: int, pool: Pool | None
) -> dict[str, int | str]:
    """What the pictures of a folder follow from, as `draw_once` records it."""
    splits = {split.name.lower(): count for split, count in counts.items()}
    record: dict[str, int | str] = {"version": version, "size": size, **splits, "seed": seed}
    return record if pool is None else record | {"pool": pool.name.lower()}


def parts(counts: Counts, pool: Pool | None) -> Iterator[tuple[str, Pool, range]]:
    """Each split's name, the pool that it is drawn from, and its numbers there: of its own pool the
    first ones, or of the one pool given for all, one split after the other.
    """
    first = 0
    for split, count in counts.items():
        start = 0 if pool is None else first
        yield split.name.lower(), split if pool is None else pool, range(start, start + count)
        first += count


def draw_once(
    root: Path,
    what: str,
    settings: Mapping[str, float | str],
    draw: Callable[[Path], None],
) -> None:
    """Have a drawn data set under `root`.

    Args:
        root: Its folder: absent, empty, or drawn here with the same settings.
        what: What is drawn, as messages say it; the record is the file `<what>.json`.
        settings: What the pictures follow from.
        draw: Makes the folder it is given and writes the data set into it. That folder is moved to
            `root` when it is complete.

    Raises:
        ValueError: `root` holds anything else.
    """
    record = root / f"{what}.json"
    if _is_complete(root, record, what, settings):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}-") as scratch:
        folder = Path(scratch) / what
        draw(folder)
        (folder / record.name).write_text(json.dumps(settings), encoding="utf-8")
        try:
            os.replace(folder, root)  # takes the place of an empty folder, refuses a filled one
        except OSError:
            if not _is_complete(root, record, what, settings):  # else another process drew the same
                raise


def _is_complete(root: Path, record: Path, what: str, settings: Mapping[str, float | str]) -> bool:
    """Whether `root` holds this very data set; an error if it holds anything else."""
    if not root.exists():
        return False
    if not root.is_dir():
        raise ValueError(f"{root} is a file; {what} go into a folder; give another path")
    if not any(root.iterdir()):
        return False
    if not record.is_file():
        raise ValueError(
            f"{root} holds other files; {what} go into an empty or absent folder; give another path"
        )
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{record} is damaged; it says which {what} stand there; delete that folder, or give "
            "another path"
        ) from error
    if found != settings:
        raise ValueError(
            f"{root} holds {what} with {found}; it may hold those with {settings}; give another "
            "path, or delete that folder"
        )
    return True
