"""Image files as tensors: the one way every part of `augment` reads pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

__all__ = ["ImageFiles", "find_images"]

_EXTENSIONS = frozenset(Image.registered_extensions())


class ImageFiles(Dataset[Tensor]):
    """Images cropped to a centred square and resized (bicubic): uint8 (channels, size, size), decoded when asked for."""

    def __init__(self, paths: Sequence[Path], *, size: int, channels: int) -> None:
        self.paths = list(paths)
        self.size = size
        self.mode = {1: "L", 3: "RGB"}[channels]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        try:
            with Image.open(self.paths[index]) as image:
                square = ImageOps.fit(
                    image.convert(self.mode), (self.size, self.size), Image.Resampling.BICUBIC
                )
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(
                f"{self.paths[index]} does not decode as an image; repair it or take it out"
            ) from error
        return pil_to_tensor(square)

    def stack(self) -> Tensor:
        """Every image, uint8 (N, channels, size, size)."""
        return torch.stack([self[i] for i in range(len(self))])


def find_images(folder: Path) -> list[Path]:
    """Images of a folder: the train rows of its `metadata.csv` if it has one, else every image file in it and below, sorted."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder; give a folder of images, with or without a metadata.csv"
        )
    table = folder / "metadata.csv"
    if table.is_file():
        rows = pd.read_csv(table)
        kept = rows[rows["split"] == "train"] if "split" in rows else rows
        paths = [folder / name for name in kept["file_name"]]
    else:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _EXTENSIONS)
    if not paths:
        raise ValueError(
            f"{folder} holds no image to train on; allowed are the formats Pillow reads, or train rows in metadata.csv"
        )
    return paths
