"""Folders of very many images: a few thousand faces are drawn, and every image is one of them,
turned, moved, enlarged and tinted by its own random numbers, so that no two files are equal.

Drawing takes milliseconds an image, a variation a tenth of one: a folder of CelebA's size takes
minutes. What is measured on it is the work that so many images make, not what is learned from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classify.datasets.avatars import ATTRIBUTES, avatar_pool
from classify.datasets.drawn import Pool, draw_once, stream

__all__ = ["Crowd", "celeba_folder", "image_folder", "split_sizes"]

_AT_ONCE = 500
"""Images that a process draws or varies before it is given others."""
_TURN, _ZOOM, _MOVE, _TINT = 12.0, 0.1, 0.06, 0.2
"""At most: degrees, share of the size, share of the side, share of a channel's brightness."""
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

    def write(self, folder: Path, workers: int) -> NDArray[np.int8]:
        """Write the files by so many processes; the attributes int8 (count, 40), 0 or 1."""
        folder.mkdir(parents=True)
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
            draw = partial(avatar_pool, pool=self.pool, size=self.size)
            drawn = list(processes.map(draw, _parts(min(self.distinct, self.count))))
            faces = folder.with_name(f".{folder.name}.npy")
            np.save(faces, np.concatenate([images for images, _ in drawn]))
            write = partial(_write, self, folder, faces)
            list(processes.map(write, _parts(self.count)))
        faces.unlink()
        attributes = np.concatenate([attributes for _, attributes in drawn])
        return attributes[np.arange(self.count) % len(attributes)]

    def name(self, number: int) -> str:
        return f"{number + 1:06d}{self.suffix}"


def celeba_folder(root: Path, crowd: Crowd, workers: int) -> None:
    """Have the crowd in CelebA's own layout under `root`, drawn unless it is there."""

    def draw(folder: Path) -> None:
        attributes = crowd.write(folder / "img_align_celeba", workers)
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


def image_folder(root: Path, crowd: Crowd, workers: int) -> None:
    """Have the crowd as images alone in `root`/images, drawn unless they are there."""

    def draw(folder: Path) -> None:
        crowd.write(folder / "images", workers)

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
    for number in numbers:
        face = Image.fromarray(drawn[number % len(drawn)])
        varied(face, stream(1, crowd.pool, number)).save(folder / crowd.name(number), quality=90)


def varied(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A square RGB image turned, moved, enlarged and tinted at random."""
    side = face.width
    angle, zoom, right, down = rng.uniform(-1, 1, 4) * (np.radians(_TURN), _ZOOM, _MOVE, _MOVE)
    cos, sin = np.cos(angle) * (1 + zoom), np.sin(angle) * (1 + zoom)
    middle = side / 2
    back = (1 - cos + sin) * middle + right * side, (1 - cos - sin) * middle + down * side
    border = face.getpixel((0, 0))
    turned = face.transform(
        face.size,
        Image.Transform.AFFINE,
        (cos, -sin, back[0], sin, cos, back[1]),
        Image.Resampling.BILINEAR,
        fillcolor=border,
    )
    gains = 1 + rng.uniform(-_TINT, _TINT, 3)
    levels = np.outer(gains, np.arange(256)).clip(0, 255).astype(int)
    return turned.point(levels.ravel().tolist())
