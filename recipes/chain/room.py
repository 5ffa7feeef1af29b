"""Whether the disk has room for what a run makes."""

from __future__ import annotations

import shutil

import torch

from augment import Denoiser
from recipes.chain.run import RECORD
from recipes.chain.settings.study import RunConfig

__all__ = ["check_room", "disk_bytes"]


def disk_bytes(config: RunConfig, n_real: int, denoiser: Denoiser) -> int:
    """About what a run writes at most: the PNG files of its sets, and the decoded copy of all
    images.

    A small PNG and its row take 1.2 bytes for each byte of its pixels, as measured on the embedded
    generator's.
    """
    sets = config.synthetic_sets.values()
    synthetic = sum(max(made.count or 0, 0 if made.folder else config.limit or 0) for made in sets)
    side = config.image_size or denoiser.image.size
    files = synthetic * torch.Size(denoiser.image.shape).numel() * 6 // 5
    return files + (n_real + synthetic) * 3 * side**2


def check_room(config: RunConfig, n_real: int, denoiser: Denoiser) -> None:
    """Refuse a run that the disk has no room for, before it begins; one that stands there already
    has taken a part of its room.
    """
    if (config.out / RECORD).exists():
        return
    nearest = next(p for p in (config.out, *config.out.absolute().parents) if p.exists())
    wanted, free = disk_bytes(config, n_real, denoiser), shutil.disk_usage(nearest).free
    if wanted > free:
        raise ValueError(
            f"the run takes about {wanted // 10**6:,} MB of disk, and {nearest} has "
            f"{free // 10**6:,} MB free; ask for fewer or smaller images, or give an --out with "
            "more room"
        )
