"""Folders of very many images: a few thousand faces are drawn, and every image is one of them,
turned, moved, enlarged and tinted by its own random numbers, so that no two files are equal.

Drawing takes milliseconds an image, a variation a tenth of one: a folder of CelebA's size takes
minutes. What is measured on it is the work that so many images make, not what is learned from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from classify.datasets.avatars import ATTRIBUTES, avatar_pool
from classify.datasets.drawn import Pool, draw_once, stream

__all__ = ["Crowd", "celeba_folder", "image_folder", "split_sizes"]

_AT_ONCE = 500
"""Images that a process draws or varies before it is given others."""
_TURN, _ZOOM, _MOVE, _TINT = 0.2, 0.1, 0.12, 0.2
"""At most: radians, share of the size, of half a side, of a channel's brightness."""
_SHARES = {"train": 162_770, "val": 19_867, "test": 19_962}
"""CelebA's own partition."""


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """Which images."""

    count: int
    distinct: int
    """Faces drawn; image n is a variation of number n modulo this."""
    size: int
    """Side in pixels."""
    pool: Pool
    """Of the faces: those of two pools have nothing in common."""
    suffix: str
    """.jpg or .png."""

    def write(self, folder: Path, processes: Executor) -> NDArray[np.int8]:
        """Write the files by these processes; the attributes int8 (count, 40), 0 or 1."""
        folder.mkdir(parents=True)
        draw = partial(avatar_pool, pool=self.pool, size=self.size)
        drawn = list(processes.map(draw, _parts(min(self.distinct, self.count))))
        faces = folder.with_name(f".{folder.name}.npy")
        np.save(faces, np.concatenate([images for images, _ in drawn]))
        list(processes.map(partial(_write, self, folder, faces), _parts(self.count)))
        faces.unlink()
        attributes = np.concatenate([attributes for _, attributes in drawn])
        return attributes[np.arange(self.count) % len(attributes)]

    def name(self, number: int) -> str:
        return f"{number + 1:06d}{self.suffix}"


def celeba_folder(root: Path, crowd: Crowd, processes: Executor) -> None:
    """Have the crowd in CelebA's own layout under `root`, drawn unless it is there."""

    def draw(folder: Path) -> None:
        attributes = crowd.write(folder / "img_align_celeba", processes)
        names = [crowd.name(number) for number in range(crowd.count)]
        rows = (
            f"{n} {' '.join(map(str, row))}"
            for n, row in zip(names, 2 * attributes - 1, strict=True)
        )
        listed = chain([str(crowd.count), " ".join(ATTRIBUTES)], rows)
        (folder / "list_attr_celeba.txt").write_text("\n".join(listed), encoding="utf-8")
        splits = np.repeat(range(3), list(split_sizes(crowd.count).values()))
        lines = (f"{name} {split}" for name, split in zip(names, splits, strict=True))
        (folder / "list_eval_partition.txt").write_text("\n".join(lines), encoding="utf-8")

    draw_once(root, "crowd", _record(crowd), draw)


def image_folder(root: Path, crowd: Crowd, processes: Executor) -> None:
    """Have the crowd as images alone in `root`/images, drawn unless they are there."""

    def draw(folder: Path) -> None:
        crowd.write(folder / "images", processes)

    draw_once(root, "crowd", _record(crowd), draw)


def split_sizes(count: int) -> dict[str, int]:
    """How many of so many images are of each split, in CelebA's proportions."""
    train, val = (round(count * _SHARES[name] / sum(_SHARES.values())) for name in ("train", "val"))
    return {"train": train, "val": val, "test": count - train - val}


def _record(crowd: Crowd) -> Mapping[str, int | str]:
    return asdict(crowd) | {"pool": crowd.pool.name.lower()}


def _parts(count: int) -> Sequence[range]:
    return [range(start, min(start + _AT_ONCE, count)) for start in range(0, count, _AT_ONCE)]


def _write(crowd: Crowd, folder: Path, faces: Path, numbers: range) -> None:
    """Write the variations of these numbers."""
    drawn = np.load(faces, mmap_mode="r")
    chosen = torch.from_numpy(drawn[np.array(numbers) % len(drawn)])
    rngs = [stream(1, crowd.pool, number) for number in numbers]
    for number, image in zip(numbers, varied(chosen, rngs).numpy(), strict=True):
        Image.fromarray(image).save(folder / crowd.name(number), quality=90, compress_level=1)


def varied(faces: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Images uint8 (N, S, S, 3) turned, moved, enlarged and tinted, each by its random numbers."""
    drawn = torch.from_numpy(np.stack([rng.uniform(-1, 1, 7) for rng in rngs])).float()
    angle, zoom, move, tint = torch.split(drawn, [1, 1, 2, 3], dim=1)
    turned = torch.cat([torch.cos(_TURN * angle), torch.sin(_TURN * angle)], dim=1)
    cos, sin = (turned * (1 + _ZOOM * zoom)).unbind(1)
    maps = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    maps = torch.cat([maps, _MOVE * move[:, :, None]], dim=2)
    pixels = faces.permute(0, 3, 1, 2).float()
    grid = F.affine_grid(maps, list(pixels.shape), align_corners=False)
    seen = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    tinted: Tensor = seen * (1 + _TINT * tint)[:, :, None, None]
    return tinted.clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()
