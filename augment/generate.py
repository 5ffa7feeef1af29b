"""From seeds to a folder of PNG files with its table: the only writer of images.

Seeds are generated in blocks of `batch_size`, always the same ones together, so that a run that was
killed and started again writes byte for byte what an uninterrupted one writes. A file is named by
its seed and carries it, with the settings, in its text chunks.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.fabric import Fabric
from PIL import Image, PngImagePlugin
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from tqdm.auto import tqdm

from augment.denoiser import Denoiser
from augment.guidance import Guidance
from augment.sampler import sample

__all__ = ["SamplerConfig", "generate"]

_RECORD = "settings.json"
_TABLE = "metadata.csv"

_PNG_END = b"IEND\xaeB`\x82"
"""The last bytes of a PNG file: its end chunk with its check sum."""


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """The reverse process."""

    steps: int = 250
    """Reverse steps an image; at most the length of the model's schedule."""
    batch_size: int = 64
    """Images at a time on each device; fewer need less memory and change only the rounding."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"sampler.{name} is {getattr(self, name)}; give at least 1")


def generate(
    denoiser: Denoiser,
    seeds: Sequence[int],
    folder: Path,
    *,
    sampler: SamplerConfig = SamplerConfig(),
    guidance: Guidance | None = None,
    settings: Mapping[str, Any] | None = None,
    fabric: Fabric | None = None,
) -> pd.DataFrame:
    """Generate `folder/<seed>.png` for each seed and `folder/metadata.csv`.

    Whole files that stand there already are kept, and so are the rows and columns of a table.

    Args:
        denoiser: the pretrained model.
        seeds: distinct non-negative integers.
        folder: made if absent; one of another run (other weights or settings) is refused.
        sampler: steps and batch size.
        guidance: None for ordinary samples.
        settings: what identifies the guidance in the folder's record and in each file; left out,
            its `repr`, which has to be the same in every process.
        fabric: a launched Lightning Fabric; its processes take blocks in turn.

    Returns:
        The table: file_name, split (train), source (synthetic), seed, sampler, path.

    Raises:
        ValueError: a repeated or negative seed, or a folder that holds something else.
    """
    seeds = _checked(seeds)
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    record = _record(denoiser, sampler, guidance, settings)
    with fabric.rank_zero_first():
        folder.mkdir(parents=True, exist_ok=True)
        _claim(folder, record, seeds)
    denoiser.to(fabric.device)
    for block in _unfinished_blocks(folder, seeds, sampler.batch_size, fabric):
        with fabric.autocast():
            images = sample(
                denoiser, block, steps=sampler.steps, guidance=guidance, batch_size=len(block)
            )
        for seed, image in zip(block, images, strict=True):
            if not _is_whole(folder / f"{seed}.png"):
                _save(image, folder / f"{seed}.png", {"seed": seed, **record})
    fabric.barrier()
    table = _table(folder, seeds, "self-guided" if guidance else "ancestral")
    if fabric.is_global_zero:
        _write_table(folder / _TABLE, table.drop(columns="path"))
    fabric.barrier()
    return table


def _checked(seeds: Sequence[int]) -> list[int]:
    plain = [int(seed) for seed in seeds]
    if plain and min(plain) < 0:
        raise ValueError(f"seed {min(plain)} is negative; give integers from 0 up")
    if twice := [seed for seed, count in Counter(plain).items() if count > 1]:
        raise ValueError(f"seed {twice[0]} is given twice; give distinct seeds, one an image")
    return plain


def _record(
    denoiser: Denoiser,
    sampler: SamplerConfig,
    guidance: Guidance | None,
    settings: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What makes the images what they are, as JSON gives it back (a tuple as a list)."""
    described = repr(guidance) if guidance else None
    record = {
        "weights": denoiser.card.get("sha256", ""),
        "image": denoiser.image.shape,
        "steps": sampler.steps,
        "guidance": described if settings is None else dict(settings),
    }
    plain: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return plain


def _claim(folder: Path, record: Mapping[str, Any], seeds: Sequence[int]) -> None:
    """Record what the folder holds, or check that it holds the same."""
    path = folder / _RECORD
    if not path.is_file():
        strangers = [
            name for name in (_TABLE, *map("{}.png".format, seeds)) if (folder / name).exists()
        ]
        if strangers:
            raise ValueError(
                f"{folder} holds {strangers[0]} but no {_RECORD}, so no images of ours; "
                "give another folder"
            )
        _replace(path, (json.dumps(record, indent=2) + "\n").encode())
        return
    try:
        found = dict(json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is no record of generated images; give another folder") from error
    different = sorted(key for key in record if found.get(key) != record[key])
    if different:
        key = different[0]
        raise ValueError(
            f"{folder} holds images of another run ({key} {found.get(key)}, now {record[key]}); "
            "give another folder"
        )


def _unfinished_blocks(
    folder: Path, seeds: Sequence[int], batch_size: int, fabric: Fabric
) -> Iterable[Sequence[int]]:
    """Blocks of seeds that lack a file, of this process alone; a progress bar on the first one."""
    blocks = [seeds[first : first + batch_size] for first in range(0, len(seeds), batch_size)]
    mine = [
        block
        for block in blocks[fabric.global_rank :: fabric.world_size]
        if not all(_is_whole(folder / f"{seed}.png") for seed in block)
    ]
    silent = not (mine and fabric.is_global_zero)
    bar: Iterable[Sequence[int]] = tqdm(
        mine, desc=f"generate {folder.name}", unit="batch", disable=silent
    )
    return bar


def _table(folder: Path, seeds: Sequence[int], sampler: str) -> pd.DataFrame:
    names = [f"{seed}.png" for seed in seeds]
    columns = {
        "file_name": names,
        "split": "train",
        "source": "synthetic",
        "seed": seeds,
        "sampler": sampler,
    }
    return pd.DataFrame(columns).assign(path=[str((folder / name).resolve()) for name in names])


def _write_table(path: Path, table: pd.DataFrame) -> None:
    """Write the table, or add the rows that the standing one lacks; its own cells stay."""
    if path.is_file():
        found = pd.read_csv(path, dtype=str, keep_default_na=False)
        new = table[~table["file_name"].isin(found["file_name"])]
        if new.empty:
            return
        table = pd.concat([found, new.astype(str)], ignore_index=True)
    _replace(path, table.to_csv(index=False).encode())


def _is_whole(path: Path) -> bool:
    """Whether a file stands there and is a complete PNG."""
    try:
        with Image.open(path) as image:
            image.verify()
        # Pillow does not look at what follows the end chunk's name.
        return path.read_bytes().endswith(_PNG_END)
    except (OSError, SyntaxError):
        return False


def _save(image: Tensor, path: Path, text: Mapping[str, Any]) -> None:
    chunks = PngImagePlugin.PngInfo()
    for key, value in text.items():
        chunks.add_text(key, json.dumps(value))
    temporary = path.with_suffix(".tmp")
    to_pil_image(image).save(temporary, format="PNG", pnginfo=chunks)
    os.replace(temporary, path)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
