"""Image files as tensors: the one way every part of `augment` reads pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

__all__ = ["ImageFiles", "decoded", "find_images", "read_rows"]

_EXTENSIONS = frozenset(Image.registered_extensions())

_DEEP = ("I", "F")
"""How the modes begin whose conversion to 8 bits cuts off instead of scaling."""


def decoded(path: Path, mode: str) -> Image.Image:
    """An image file in a mode of 8 bits a channel.

    Raises:
        ValueError: it does not decode, or has more than 8 bits a channel, of which nobody knows
            the range.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith(_DEEP):
                raise ValueError(
                    f"{path} has pixels of mode {image.mode}; allowed are 8 bits a channel; "
                    "convert it, or take it out"
                )
            return image.convert(mode)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} does not decode as an image; repair it or take it out") from error


def _fit(image: Image.Image, size: int) -> Image.Image:
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)


class ImageFiles(Dataset[Tensor]):
    """Images cropped to a centred square and resized (bicubic), decoded when asked for.

    Each is uint8 (channels, size, size). Another `crop` does both its own way.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        size: int,
        channels: int,
        crop: Callable[[Image.Image, int], Image.Image] = _fit,
    ) -> None:
        self.paths = list(paths)
        self.size = size
        self.crop = crop
        self.mode = {1: "L", 3: "RGB"}[channels]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        square = self.crop(decoded(self.paths[index], self.mode), self.size)
        pixels: Tensor = pil_to_tensor(square)
        return pixels

    def stack(self) -> Tensor:
        """Every image, uint8 (N, channels, size, size)."""
        return torch.stack([self[i] for i in range(len(self))])


def find_images(folder: Path) -> list[Path]:
    """Paths of a folder's images.

    They are the train rows of its `metadata.csv` if it has one, else every image file in it and
    below, sorted.

    Raises:
        FileNotFoundError: no such folder, or a row's image is missing.
        ValueError: no image, or a table without file names in the folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder; give a folder of images, with or without a metadata.csv"
        )
    table = folder / "metadata.csv"
    if table.is_file():
        rows = read_rows(table, "train")
        paths = [folder / name for name in rows["file_name"]]
    else:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _EXTENSIONS)
    if not paths:
        raise ValueError(
            f"{folder} holds no image; allowed are the formats Pillow reads, "
            "or train rows in metadata.csv; put images there"
        )
    return paths


def read_rows(table: Path, split: str | None = None) -> pd.DataFrame:
    """The rows of a `metadata.csv`, every cell as text; with `split`, if it has splits, its own.

    Raises:
        FileNotFoundError: the table or a row's image is missing.
        ValueError: it is no table, or has no file names in its folder.
    """
    if not table.is_file():
        raise FileNotFoundError(f"{table} is missing; give a folder of images with its table")
    try:
        rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{table} is no table ({reason}); repair it or take it out") from error
    if "file_name" not in rows:
        raise ValueError(
            f"{table} has no column file_name, only {', '.join(map(str, rows))}; "
            "add it or take the table out"
        )
    if split is not None and "split" in rows:
        rows = rows[rows["split"] == split]
    names = [Path(name) for name in rows["file_name"]]
    if outside := [name for name in names if name.is_absolute() or ".." in name.parts]:
        raise ValueError(
            f"file_name {outside[0]} of {table} leads out of the folder; "
            "give names relative to the table"
        )
    if missing := [table.parent / name for name in names if not (table.parent / name).is_file()]:
        raise FileNotFoundError(
            f"{len(missing)} images of {table} are missing, the first {missing[0]}; "
            "copy them there or take their rows out"
        )
    return rows
