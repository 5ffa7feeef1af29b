"""Image files as tensors: `augment` is handed paths and a function that reads one.

`augment` decodes no file that a user brings. Whoever calls it knows what stands in the files and
passes a reader, as `classify.datasets.read_image` is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, overload

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

__all__ = ["Crop", "ImageFiles", "Pixels", "Read", "centre_crop", "pixels_sha256"]

_AT_ONCE = 64

Read = Callable[[str], Image.Image]
"""The image in a file, upright, with 8 bits per channel, grey (mode `L`) or in colour (`RGB`)."""

Crop = Callable[[Image.Image, int], Image.Image]
"""The square of so many pixels per side that stands for an image."""


class Pixels(Protocol):
    """N images by their positions: a tensor, or what reads some of a file when it is asked for."""

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W), C 1 or 3."""

    def __len__(self) -> int: ...

    def __getitem__(self, positions: Tensor, /) -> Tensor:
        """uint8 (B, C, H, W) of int64 (B,)."""


def pixels_sha256(images: Pixels) -> str:
    """Hash of the bytes of images, a few of which are held."""
    digest = hashlib.sha256()
    for rows in torch.split(torch.arange(len(images)), _AT_ONCE):
        digest.update(images[rows].contiguous().numpy(force=True).tobytes())
    return digest.hexdigest()


def fitted(image: Image.Image, size: int) -> Image.Image:
    """The largest centred square at `size` pixels per side, in one bicubic step."""
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """The largest centred square at `size` pixels per side, as guided-diffusion's loader cuts it.

    It halves the image by averaging while its short side is at least twice the size, then resizes
    (bicubic) and cuts. Large images become a little softer than by one bicubic step.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


class ImageFiles(Dataset[Tensor]):
    """Files as square images, each uint8 (channels, size, size), read when it is asked for, by its
    position or several by theirs (`Pixels`).

    `torch.utils.data.StackDataset(ImageFiles(...), labels)` is the same with one label per image.

    Args:
        paths: the files.
        read: how one is decoded.
        size: height and width in pixels.
        channels: 1 (grey) or 3 (RGB); what is read is converted to it.
        crop: how a square comes out of an image of any shape.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        read: Read,
        *,
        size: int,
        channels: int,
        crop: Crop = fitted,
    ) -> None:
        if channels not in (1, 3):
            raise ValueError(f"channels is {channels}; give 1 for grey images or 3 for RGB")
        self.paths = [str(path) for path in paths]
        self.read, self.size, self.crop = read, size, crop
        self.mode = "L" if channels == 1 else "RGB"

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), len(self.mode), self.size, self.size))

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: Tensor) -> Tensor: ...

    def __getitem__(self, index: int | Tensor) -> Tensor:
        if isinstance(index, Tensor):
            return torch.stack([self[int(row)] for row in index])
        square = self.crop(self.read(self.paths[index]).convert(self.mode), self.size)
        pixels: Tensor = pil_to_tensor(square)
        return pixels

    def stack(self) -> Tensor:
        """Every image, uint8 (N, channels, size, size), N at least 1."""
        return self[torch.arange(len(self))]
