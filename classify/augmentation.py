"""Random changes of training images: mirrored, moved, rotated, and RandAugment's operations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import RandAugment


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of a training image, drawn for each image by itself."""

    flip: bool = True
    """Mirror half of the images."""
    shift: float = 0.0
    """Largest shift in either direction, as a share of the side; rounded to whole pixels."""
    rotation: float = 0.0
    """Largest rotation in degrees."""
    operations: int = 0
    """RandAugment's number of random operations, besides; 0 is none, 2 usual."""
    magnitude: int = 9
    """RandAugment's strength, 0 to 30."""

    def __post_init__(self) -> None:
        allowed = {
            "shift": (0 <= self.shift < 1, "a share of the side in [0, 1)"),
            "rotation": (0 <= self.rotation <= 180, "degrees in [0, 180]"),
            "operations": (0 <= self.operations <= 100, "a whole number in [0, 100]"),
            "magnitude": (0 <= self.magnitude <= 30, "a whole number in [0, 30]"),
        }
        for name, (holds, what) in allowed.items():
            if not holds:
                raise ValueError(f"augmentation.{name} is {getattr(self, name)}; give {what}")

    def draw(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """Affine maps float32 (count, 2, 3) from output to input, in `affine_grid`'s coordinates in
        [-1, 1].
        """
        mirror = torch.randint(2, (count,), generator=generator) * 2.0 - 1.0
        angle = (torch.rand(count, generator=generator) * 2 - 1) * math.radians(self.rotation)
        pixels = ((torch.rand(count, 2, generator=generator) * 2 - 1) * self.shift * size).round()
        if not self.flip:
            mirror = torch.ones(count)
        cos, sin = angle.cos(), angle.sin()
        linear = torch.stack([mirror * cos, -sin, mirror * sin, cos], dim=1).view(count, 2, 2)
        return torch.cat([linear, (2 * pixels / size)[:, :, None]], dim=2)


def rand_augmented(images: Tensor, operations: int, magnitude: int, seed: int) -> Tensor:
    """RandAugment (Cubuk et al., 2020), torchvision's, of each image by itself.

    Args:
        images: uint8 (B, 3, H, W) on the CPU.
        operations: how many random operations; 0 leaves the images as they are.
        magnitude: strength in [0, 30].
        seed: of the operations; the global generator is left as it was.

    Returns:
        uint8 (B, 3, H, W).
    """
    if not operations:
        return images
    operate = RandAugment(operations, magnitude, fill=127)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.stack([operate(image) for image in images])


def transform(images: Tensor, maps: Tensor) -> Tensor:
    """Move images by affine maps; what comes in from outside repeats the border.

    Args:
        images: uint8 (B, C, H, W).
        maps: float32 (B, 2, 3), see `Augmentation.draw`.

    Returns:
        float32 (B, C, H, W) in [0, 255], interpolated bilinearly.
    """
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
