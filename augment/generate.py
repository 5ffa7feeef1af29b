"""From seeds to a folder of PNG files with its table: the only writer of images.

Seeds are generated in blocks of `batch_size`, always the same ones together, so that a run that was killed and started again
writes byte for byte what an uninterrupted one writes. A file is named by its seed and carries it, with the settings, in its
text chunks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """The reverse process."""

    steps: int = 250
    """Reverse steps an image; at most the length of the model's schedule."""
    batch_size: int = 64
    """Images at a time on each device; fewer need less memory and give the same images up to rounding."""

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
    """Generate `folder/<seed>.png` for each seed and `folder/metadata.csv`; files that stand there already are kept.

    Args:
        denoiser: the pretrained model.
        seeds: distinct non-negative integers.
        folder: made if absent; one of another run (other weights or settings) is refused.
        sampler: steps and batch size.
        guidance: None for ordinary samples.
        settings: what identifies the guidance in the folder's record and in each file; left out, its `repr`.
        fabric: a launched Lightning Fabric; its processes take blocks in turn.

    Returns:
        The table: file_name, split (train), source (synthetic), seed, sampler, path.
    """
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    record = {
        "weights": denoiser.card.get("sha256", ""),
        "image": list(denoiser.image.shape),
        "steps": sampler.steps,
        "guidance": dict(settings)
        if settings is not None
        else repr(guidance)
        if guidance
        else None,
    }
    with fabric.rank_zero_first():
        folder.mkdir(parents=True, exist_ok=True)
        _claim(folder / "settings.json", record)
    denoiser.to(fabric.device)
    blocks = [
        seeds[first : first + sampler.batch_size]
        for first in range(0, len(seeds), sampler.batch_size)
    ]
    mine = [
        block
        for block in blocks[fabric.global_rank :: fabric.world_size]
        if not all(_is_image(folder, seed) for seed in block)
    ]
    for block in tqdm(
        mine,
        desc=f"generate {folder.name}",
        unit="batch",
        disable=not (mine and fabric.is_global_zero),
    ):
        with fabric.autocast():
            images = sample(
                denoiser, block, steps=sampler.steps, guidance=guidance, batch_size=len(block)
            )
        for seed, image in zip(block, images, strict=True):
            _save(image, folder / f"{seed}.png", {"seed": seed, **record})
    fabric.barrier()
    table = _table(folder, seeds, "self-guided" if guidance else "ancestral")
    if fabric.is_global_zero and not (folder / "metadata.csv").is_file():
        _replace(folder / "metadata.csv", table.drop(columns="path").to_csv(index=False).encode())
    fabric.barrier()
    return table


def _table(folder: Path, seeds: Sequence[int], sampler: str) -> pd.DataFrame:
    names = [f"{seed}.png" for seed in seeds]
    columns = {
        "file_name": names,
        "split": "train",
        "source": "synthetic",
        "seed": list(seeds),
        "sampler": sampler,
    }
    return pd.DataFrame(columns).assign(path=[str((folder / name).resolve()) for name in names])


def _claim(path: Path, record: Mapping[str, Any]) -> None:
    """Record what the folder holds, or check that it holds the same."""
    if path.is_file():
        found = json.loads(path.read_text())
        different = sorted(key for key in record if found.get(key) != record[key])
        if different:
            key = different[0]
            raise ValueError(
                f"{path.parent} holds images of another run ({key} {found.get(key)}, now {record[key]}); give another folder"
            )
    else:
        _replace(path, (json.dumps(record, indent=2) + "\n").encode())


def _is_image(folder: Path, seed: int) -> bool:
    """Whether the seed's file stands there and is whole."""
    try:
        with Image.open(folder / f"{seed}.png") as image:
            image.verify()
    except (OSError, SyntaxError):
        return False
    return True


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
