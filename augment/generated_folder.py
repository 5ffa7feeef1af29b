"""A folder of generated images: `<seed>.png`, a table and a record. What is missing is made.

Seeds are generated in blocks of `batch_size`, always the same ones together, so that a run that was
killed and started again writes byte for byte what an uninterrupted one writes. Each file carries
its seed and the settings in its text chunks. Images are those of the seeds asked for and no others:
nothing is made only to fill a batch and thrown away.
"""

from __future__ import annotations

import json
import secrets
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.fabric import Fabric
from PIL import Image, PngImagePlugin
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from tqdm.auto import tqdm

from augment.files import claim, one_line, write_bytes
from augment.sampler import Batch, warn_unguided

__all__ = ["RECORD", "TABLE", "checked_seeds", "make_missing", "read_png", "read_table"]

RECORD = "settings.json"
TABLE = "metadata.csv"

_PNG_END = b"IEND\xaeB`\x82"
"""The last bytes of a PNG file: its end chunk with its check sum."""
_TAKEN = ".taken-{}"
"""Folder by which processes tell one another which blocks they are at."""


def checked_seeds(seeds: Iterable[int]) -> list[int]:
    """Seeds that can each name a file.

    Raises:
        ValueError: a seed is repeated or negative.
    """
    plain = [int(seed) for seed in seeds]
    if plain and min(plain) < 0:
        raise ValueError(f"seed {min(plain)} is negative; give integers from 0 up")
    if twice := [seed for seed, count in Counter(plain).items() if count > 1]:
        raise ValueError(f"seed {twice[0]} is given twice; give distinct seeds, one per image")
    return plain


def make_missing(
    folder: Path,
    table: pd.DataFrame,
    seeds: Sequence[int],
    make: Callable[[Sequence[int], list[int] | None], Batch],
    *,
    batch_size: int,
    record: Mapping[str, Any],
    labels: Mapping[int, int] | None,
    fabric: Fabric,
) -> pd.DataFrame:
    """Write `folder/<seed>.png` wherever there is no whole one, and the table.

    An image that is not finite is not written and has no row; it is made anew when the run is taken
    up again.

    Args:
        folder: made if absent; claimed for the record.
        table: one row per seed, with the `file_name` that it is to have.
        seeds: distinct; blocks of `batch_size` of them are always made together.
        make: the images of a block, given its seeds and their classes.
        batch_size: images at a time on each device.
        record: what makes the images what they are, to which the precision is added; it stands in
            every file's text chunks too, beside the seed.
        labels: the class of each seed's image, likewise, if it has one.
        fabric: its processes take the next block whenever they are free; devices of different kinds
            round differently, so that of these a block may differ from run to run.

    Returns:
        The rows of the images that are there, with their absolute `path`.

    Raises:
        ValueError: the folder holds something else, or no image is finite.

    Warns:
        UserWarning: some images are not finite, or the guidance failed on some steps of those made
            now.
    """
    names = [f"{seed}.png" for seed in seeds]
    record = {**record, "precision": str(fabric.strategy.precision.precision)}
    with fabric.rank_zero_first():
        record = claim(folder / RECORD, record, results=(TABLE, *names))
    counts = torch.zeros(2, len(seeds), dtype=torch.int64)
    for rows in _unfinished(folder, seeds, batch_size, fabric):
        block = seeds[rows]
        with fabric.autocast():
            batch = make(block, None if labels is None else [labels[seed] for seed in block])
        counts[0, rows] = batch.unguided
        counts[1, rows] = _save(batch, block, labels, folder, record)
    total: Tensor = fabric.all_reduce(counts, reduce_op="sum")  # type: ignore[assignment]
    unguided, left_out = total.cpu()
    for taken in folder.glob(_TAKEN.format("*")) if fabric.is_global_zero else ():
        shutil.rmtree(taken, ignore_errors=True)
    _report_left_out(folder, [seeds[int(i)] for i in left_out.nonzero()], len(seeds), fabric)
    table = table[(left_out == 0).numpy()]
    if fabric.is_global_zero:
        warn_unguided(int(unguided.sum()))
        _write_table(folder / TABLE, table)
    fabric.barrier()
    return table.assign(path=[str((folder / name).resolve()) for name in table["file_name"]])


def read_table(path: Path) -> pd.DataFrame:
    """The table of a folder that `make_missing` wrote, every cell as the text that stands there.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give a folder as `generate` wrote it")
    content = path.read_bytes()
    try:
        rows = pd.read_csv(BytesIO(content), dtype=str, keep_default_na=False)
    except ValueError as error:
        raise ValueError(
            f"{path} is not a table ({one_line(error)}); repair it, or delete it and generate again"
        ) from error
    if "file_name" not in rows or not content.endswith(b"\n"):
        what = "is cut off" if "file_name" in rows else "has no column file_name"
        raise ValueError(f"{path} {what}; repair it, or delete it and generate again")
    return rows


def read_png(path: str) -> Image.Image:
    """Read back an image that `make_missing` wrote.

    Raises:
        ValueError: it is damaged.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.convert(image.mode)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} is damaged; delete it and generate again") from error


def _unfinished(
    folder: Path, seeds: Sequence[int], batch_size: int, fabric: Fabric
) -> Iterator[slice]:
    """Blocks of seeds that lack a file, as this process is free for them; a progress bar on the
    first one.
    """
    blocks = [slice(first, first + batch_size) for first in range(0, len(seeds), batch_size)]
    lacking = torch.zeros(len(blocks), dtype=torch.int64)
    for i in range(fabric.global_rank, len(blocks), fabric.world_size):
        lacking[i] = not all(_is_whole(folder / f"{seed}.png") for seed in seeds[blocks[i]])
    lacking = fabric.all_reduce(lacking, reduce_op="sum").cpu()  # type: ignore[union-attr]
    missing = [block for block, lacks in zip(blocks, lacking.tolist(), strict=True) if lacks]
    is_ours = _turns(folder, fabric)
    silent = not (missing and fabric.is_global_zero)
    for block in tqdm(missing, f"generate {folder.name}", unit="batch", disable=silent):
        if is_ours(block):
            yield block


def _turns(folder: Path, fabric: Fabric) -> Callable[[slice], bool]:
    """Tells a process whether a block is its own: whichever comes to it first makes it, so that
    unequal devices finish together.

    A block is taken by creating a file, in a folder that is new for each call, so that what a run
    that was killed had taken counts for nothing.
    """
    if fabric.world_size == 1:
        return lambda block: True
    taken = folder / fabric.broadcast(_TAKEN.format(secrets.token_hex(4)))

    def is_ours(block: slice) -> bool:
        taken.mkdir(exist_ok=True)
        try:
            (taken / str(block.start)).touch(exist_ok=False)
        except FileExistsError:
            return False
        except FileNotFoundError:  # another run has tidied up just now
            pass
        return True

    return is_ours


def _save(
    batch: Batch,
    seeds: Sequence[int],
    labels: Mapping[int, int] | None,
    folder: Path,
    record: Mapping[str, Any],
) -> Tensor:
    """Write the images of a block that are not there yet; which were left out, int64 (B,)."""
    left_out = torch.zeros(len(seeds), dtype=torch.int64)
    for row, seed in enumerate(seeds):
        path = folder / f"{seed}.png"
        if _is_whole(path):
            continue
        if not batch.finite[row]:
            path.unlink(missing_ok=True)
            left_out[row] = 1
            continue
        text = {"seed": seed, **record}
        if labels is not None:
            text["class_label"] = labels[seed]
        if failed := int(batch.unguided[row]):
            text["unguided_steps"] = failed
        chunks = PngImagePlugin.PngInfo()
        for key, value in text.items():
            chunks.add_text(key, json.dumps(value))
        file = BytesIO()
        to_pil_image(batch.images[row]).save(file, format="PNG", pnginfo=chunks)
        write_bytes(path, file.getvalue())
    return left_out


def _is_whole(path: Path) -> bool:
    """Whether a file stands there and is a complete PNG."""
    try:
        with Image.open(path) as image:
            image.verify()
        # Pillow does not look at what follows the end chunk's name.
        return path.read_bytes().endswith(_PNG_END)
    except (OSError, SyntaxError):
        return False


def _report_left_out(folder: Path, seeds: Sequence[int], count: int, fabric: Fabric) -> None:
    """Warn of the seeds whose image is not finite; refuse a run of nothing else."""
    if not seeds:
        return
    message = (
        f"{len(seeds)} of {count} images of {folder} are not finite, the first of seed {seeds[0]}; "
        "they are left out; if these are many, take a weaker guidance, precision 32-true or "
        "another generator"
    )
    if len(seeds) == count:
        raise ValueError(message)
    if fabric.is_global_zero:
        warnings.warn(message, stacklevel=4)


def _write_table(path: Path, table: pd.DataFrame) -> None:
    """Write the table, or add the rows that the standing one lacks; its own cells stay."""
    if path.is_file():
        found = read_table(path)
        new = table[~table["file_name"].isin(found["file_name"])]
        if new.empty:
            return
        table = pd.concat([found, new.astype(str)], ignore_index=True)
    write_bytes(path, table.to_csv(index=False).encode())
