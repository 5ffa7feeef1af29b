"""Batches for a fit: a stream of shuffled images, cut into rounds that end with a validation.

At 32 to 64 pixels the quickest loader is indexing a tensor in the process itself, so there are no
workers. Which images and which augmentation step t sees depends on nothing but (seed, t): a fit
that resumes at a round's start sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import lightning as L
import numpy as np
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
        if not 0 <= self.shift < 1:
            raise ValueError(f"shift: got {self.shift}, a share of the side in [0, 1) is needed")
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"rotation: got {self.rotation}, degrees in [0, 180] are needed")
        if self.operations < 0:
            raise ValueError(f"operations: got {self.operations}, 0 or more are needed")
        if not 0 <= self.magnitude <= 30:
            raise ValueError(f"magnitude: got {self.magnitude}, a number in [0, 30] is needed")

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


class Batch(NamedTuple):
    """One step's input."""

    images: Tensor
    """uint8, or after augmentation float32 in [0, 255], (B, 3, S, S)."""
    labels: Tensor
    """float32 (B, A): 1, 0 or NaN."""
    maps: Tensor | None = None
    """Affine maps float32 (B, 2, 3) yet to be applied."""


def stream(n_rows: int, start: int, stop: int, seed: int) -> Tensor:
    """Elements `start` to `stop` of an endless stream of rows 0 to n_rows - 1: one permutation
    after another.
    """
    first, last = start // n_rows, (stop - 1) // n_rows
    epochs = [
        np.random.default_rng((seed, epoch)).permutation(n_rows) for epoch in range(first, last + 1)
    ]
    return torch.from_numpy(np.concatenate(epochs)[start - first * n_rows : stop - first * n_rows])


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images of one split, in the order of its table."""

    pixels: Tensor
    """uint8 (N, 3, S, S), shared by all splits and arms."""
    rows: Tensor
    """Rows of `pixels`, int64 (n,)."""
    labels: Tensor
    """float32 (n, A): 1, 0 or NaN."""

    def batch(self, chosen: Tensor) -> Batch:
        """Images and labels of the chosen positions, int64 (B,)."""
        return Batch(self.pixels[self.rows[chosen]], self.labels[chosen])


class FitData(L.LightningDataModule):
    """Training batches of equal size, and the validation split in order.

    A Lightning epoch here is a round: the steps between two validations. `rounds` cuts `steps` as
    evenly as it can, so that the last step is validated too.
    """

    def __init__(
        self,
        train: Split,
        val: Split,
        *,
        steps: int,
        rounds: int,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        super().__init__()
        self.train, self.val = train, val
        self.bounds = np.linspace(0, steps, min(rounds, steps) + 1).round().astype(int).tolist()
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.seed = seed

    def train_dataloader(self) -> TrainRound:
        assert self.trainer is not None
        epoch = self.trainer.current_epoch
        return TrainRound(self, self.bounds[epoch], self.bounds[epoch + 1])

    def val_dataloader(self) -> InOrder:
        return InOrder(self.val, batch_size=4 * self.batch_size)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment on the device; the random numbers came from the CPU, so that all devices see the
        same.
        """
        if batch.maps is None:
            return batch
        return Batch(transform(batch.images, batch.maps), batch.labels)


@dataclass(frozen=True)
class TrainRound:
    """The training batches of steps `start` to `stop`."""

    data: FitData
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[Batch]:
        data, size = self.data, self.data.batch_size
        n_rows = len(data.train.rows)
        order = torch.split(stream(n_rows, self.start * size, self.stop * size, data.seed), size)
        for step, chosen in enumerate(order, self.start):
            seed = int(np.random.SeedSequence((data.seed, step)).generate_state(1)[0])
            batch, how = data.train.batch(chosen), data.augmentation
            images = rand_augmented(batch.images, how.operations, how.magnitude, seed)
            maps = how.draw(size, images.shape[-1], torch.Generator().manual_seed(seed))
            yield batch._replace(images=images, maps=maps)


@dataclass(frozen=True)
class InOrder:
    """A split from first to last."""

    split: Split
    batch_size: int

    def __len__(self) -> int:
        return math.ceil(len(self.split.rows) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for chosen in torch.split(torch.arange(len(self.split.rows)), self.batch_size):
            yield self.split.batch(chosen)
