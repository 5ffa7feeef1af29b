"""Batches for a fit: a stream of shuffled images, cut into rounds that end with a validation.

At 32 to 64 pixels the quickest loader is indexing a tensor in the process itself, so there are no
workers. Which images and which augmentation step t sees depends on nothing but (seed, t): a fit
that resumes at a round's start sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import lightning as L
import numpy as np
import torch
from torch import Tensor

from classify.augmentation import rand_augmented, transform
from classify.config import FitConfig


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


@dataclass(frozen=True)
class Batches:
    """Batches of chosen positions, made one after another when they are asked for."""

    chosen: Sequence[Tensor]
    """Positions in a split, int64 (B,) each."""
    make: Callable[[int, Tensor], Batch]
    """Of a batch's number and positions."""

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[Batch]:
        return itertools.starmap(self.make, enumerate(self.chosen))


class FitData(L.LightningDataModule):
    """Training batches of equal size, and the validation split in order.

    A Lightning epoch here is a round: the steps between two validations. `config.rounds` cuts
    `steps` as evenly as it can, so that the last step is validated too.
    """

    def __init__(
        self, train: Split, val: Split, *, config: FitConfig, steps: int, seed: int
    ) -> None:
        super().__init__()
        self.train, self.val, self.config, self.seed = train, val, config, seed
        rounds = min(config.rounds, steps)
        self.bounds = np.linspace(0, steps, rounds + 1).round().astype(int).tolist()

    def train_dataloader(self) -> Batches:
        assert self.trainer is not None
        return self.round(self.trainer.current_epoch)

    def round(self, number: int) -> Batches:
        """The training batches of a round, which depend on nothing but seed and step."""
        start, stop = self.bounds[number : number + 2]
        size = self.config.batch_size
        order = stream(len(self.train.rows), start * size, stop * size, self.seed)
        return Batches(torch.split(order, size), partial(self._training_batch, start))

    def _training_batch(self, start: int, number: int, chosen: Tensor) -> Batch:
        seed = int(np.random.SeedSequence((self.seed, start + number)).generate_state(1)[0])
        batch, how = self.train.batch(chosen), self.config.augmentation
        images = rand_augmented(batch.images, how.operations, how.magnitude, seed)
        maps = how.draw(len(chosen), images.shape[-1], torch.Generator().manual_seed(seed))
        return batch._replace(images=images, maps=maps)

    def val_dataloader(self) -> Batches:
        in_order = torch.split(torch.arange(len(self.val.rows)), 4 * self.config.batch_size)
        return Batches(in_order, lambda _, chosen: self.val.batch(chosen))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment on the device; the random numbers came from the CPU, so that all devices see the
        same.
        """
        if batch.maps is None:
            return batch
        return Batch(transform(batch.images, batch.maps), batch.labels)
