"""A folder's images in blocks of seeds: what is missing is made, and written as it is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor
from tqdm.auto import tqdm

from augment.generated_folder import claim, is_whole, save_image
from augment.sampler import Batch

__all__ = ["checked_seeds", "fill"]


def checked_seeds(seeds: Iterable[int]) -> list[int]:
    """Seeds that can each name a file.

    Raises:
        ValueError: a seed is repeated or negative.
    """
    plain = [int(seed) for seed in seeds]
    if plain and min(plain) < 0:
        raise ValueError(f"seed {min(plain)} is negative; give integers from 0 up")
    if twice := [seed for seed, count in Counter(plain).items() if count > 1]:
        raise ValueError(f"seed {twice[0]} is given twice; give distinct seeds, one an image")
    return plain


def fill(
    folder: Path,
    seeds: Sequence[int],
    make: Callable[[Sequence[int]], Batch],
    *,
    batch_size: int,
    record: Mapping[str, Any],
    labels: Mapping[int, int] | None,
    fabric: Fabric,
) -> int:
    """Write `folder/<seed>.png` wherever there is none, or no whole one; return when all have.

    Args:
        folder: made if absent; claimed for the record.
        seeds: distinct; blocks of `batch_size` of them are always made together.
        make: the images of a block.
        batch_size: images at a time on each device.
        record: what makes the images what they are, to which the precision is added; it stands in
            every file's text chunks too, beside the seed.
        labels: the class of each seed's image, likewise, if it has one.
        fabric: its processes take blocks in turn.

    Returns:
        On how many steps of its images, in all processes, the guidance failed.

    Raises:
        ValueError: the folder holds something else.
    """
    record = {**record, "precision": str(fabric.strategy.precision.precision)}
    with fabric.rank_zero_first():
        folder.mkdir(parents=True, exist_ok=True)
        claim(folder, record, seeds)
    total = torch.zeros((), dtype=torch.int64)
    for block in _unfinished(folder, seeds, batch_size, fabric):
        with fabric.autocast():
            batch = make(block)
        total += batch.unguided.sum()
        _save(batch, block, labels, folder, record)
    summed: Tensor = fabric.all_reduce(total, reduce_op="sum")  # type: ignore[assignment]
    fabric.barrier()
    return int(summed)


def _save(
    batch: Batch,
    seeds: Sequence[int],
    labels: Mapping[int, int] | None,
    folder: Path,
    record: Mapping[str, Any],
) -> None:
    """Write the images that are not there yet."""
    for row, seed in enumerate(seeds):
        if is_whole(folder / f"{seed}.png"):
            continue
        text = {"seed": seed, **record}
        if labels is not None:
            text["class_label"] = labels[seed]
        if failed := int(batch.unguided[row]):
            text["unguided_steps"] = failed
        save_image(batch.images[row], folder / f"{seed}.png", text)


def _unfinished(
    folder: Path, seeds: Sequence[int], batch_size: int, fabric: Fabric
) -> Iterable[Sequence[int]]:
    """Blocks of seeds that lack a file, of this process alone; a progress bar on the first one."""
    blocks = [seeds[first : first + batch_size] for first in range(0, len(seeds), batch_size)]
    mine = [
        block
        for block in blocks[fabric.global_rank :: fabric.world_size]
        if not all(is_whole(folder / f"{seed}.png") for seed in block)
    ]
    silent = not (mine and fabric.is_global_zero)
    bar: Iterable[Sequence[int]] = tqdm(
        mine, desc=f"generate {folder.name}", unit="batch", disable=silent
    )
    return bar
