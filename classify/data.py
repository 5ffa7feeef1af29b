"""Batches for a fit: a stream of shuffled images, cut into rounds that end with a validation.

Up to 128 pixels the quickest loader is indexing an array in the process itself; larger images are
decoded by workers, batch by batch. Which images and which augmentation step t sees depends on
nothing but (seed, t): a fit that resumes at a round's start sees what an uninterrupted one would
have seen, and any number of workers gives the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from classify.augmentation import Augmentation, rand_augmented, transform
from classify.config import FitConfig
from classify.cores import usable_cores
from classify.datasets.images import Streamed
from classify.datasets.pixels import Pixels


class Batch(NamedTuple):
    """One step's input."""

    images: Tensor
    """uint8, or after augmentation float32 in [0, 255], (B, 3, S, S)."""
    labels: Tensor
    """float32 (B, A): 1, 0, a probability, or NaN."""
    synthetic: Tensor
    """bool (B,), which images were generated."""
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


def rows_by_value(labels: Tensor) -> list[Tensor]:
    """Positions of the rows that have each value of each attribute, without those that no row has.

    Args:
        labels: float32 (n, A): 1, 0, a probability, which counts as the nearer one, or NaN.
    """
    values = torch.cat([labels >= 0.5, labels < 0.5], dim=1)
    return [column.nonzero().flatten() for column in values.T if column.any()]


def balanced(rows: Sequence[Tensor], count: int, rng: np.random.Generator) -> Tensor:
    """Draws, int64 (count,): first one of the values, then one of its rows, with equal chances."""
    values = [rows[value] for value in rng.integers(len(rows), size=count)]
    return torch.stack([having[rng.integers(len(having))] for having in values])


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images of one split, in the order of its table."""

    pixels: Pixels
    """uint8 (N, 3, S, S), shared by all splits and arms."""
    rows: Tensor
    """Rows of `pixels`, int64 (n,)."""
    labels: Tensor
    """float32 (n, A): 1, 0, a probability, or NaN."""
    synthetic: Tensor
    """bool (n,), which images were generated."""

    def batch(self, chosen: Tensor) -> Batch:
        """Images and labels of the chosen positions, int64 (B,)."""
        return Batch(self.pixels[self.rows[chosen]], self.labels[chosen], self.synthetic[chosen])


@dataclass(frozen=True, kw_only=True)
class Batches(Dataset[Batch]):
    """Batches of chosen positions, made when they are asked for."""

    split: Split
    chosen: Sequence[Tensor]
    """Positions in the split, int64 (B,) each."""
    augmentation: Augmentation | None = None
    seed: int = 0
    """Seed of the augmentation, with the step."""
    start: int = 0
    """The first batch's step."""

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[Batch]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Batch:
        chosen, how = self.chosen[number], self.augmentation
        batch = self.split.batch(chosen)
        if how is None:
            return batch
        seed = int(np.random.SeedSequence((self.seed, self.start + number)).generate_state(1)[0])
        images = rand_augmented(batch.images, how.operations, how.magnitude, seed)
        maps = how.draw(len(chosen), images.shape[-1], torch.Generator().manual_seed(seed))
        return batch._replace(images=images, maps=maps)

    def loaded(self, workers: int) -> Batches | DataLoader[Batch]:
        """The same batches, made by so many other processes, one per core at most, where images
        have to be decoded.
        """
        if not isinstance(self.split.pixels, Streamed) or not workers:
            return self
        return DataLoader(self, batch_size=None, num_workers=min(workers, usable_cores()))


def at_a_time(count: int, size: int) -> int:
    """How many images of `size` pixels per side to judge at once: `count`, or above 128 pixels as
    many as have the pixels of `count` of 128.
    """
    return max(1, min(count, count * 128**2 // size**2))


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
        self.second_start = config.second_stage.start(steps)
        if (
            self.second_start < steps
            and config.second_stage.rows == "real"
            and train.synthetic.all()
        ):
            raise ValueError(
                "second_stage.rows is real, but all images to train on are synthetic; add real "
                "ones, or give rows all or balanced"
            )
        rounds = min(config.rounds, steps)
        self.bounds = np.linspace(0, steps, rounds + 1).round().astype(int).tolist()

    @cached_property
    def _by_value(self) -> list[Tensor]:
        return rows_by_value(self.train.labels)

    def train_dataloader(self) -> Batches | DataLoader[Batch]:
        assert self.trainer is not None
        return self.round(self.trainer.current_epoch).loaded(self.config.workers)

    def round(self, number: int) -> Batches:
        """The training batches of a round, which depend on nothing but seed and step."""
        start, stop = self.bounds[number : number + 2]
        second = min(max(start, self.second_start), stop)
        everything = torch.arange(len(self.train.rows))
        chosen = [
            *self._in_turn(everything, start, second),
            *self._second_stage(second, stop),
        ]
        return Batches(
            split=self.train,
            chosen=chosen,
            augmentation=self.config.augmentation,
            seed=self.seed,
            start=start,
        )

    def _in_turn(self, positions: Tensor, start: int, stop: int) -> Sequence[Tensor]:
        """Positions of steps `start` to `stop` of a stream that step 0 begins."""
        if start == stop:
            return []
        size = self.config.batch_size
        order = stream(len(positions), start * size, stop * size, self.seed)
        return torch.split(positions[order], size)

    def _second_stage(self, start: int, stop: int) -> Sequence[Tensor]:
        rows, first = self.config.second_stage.rows, self.second_start
        if rows == "balanced":
            rngs = [np.random.default_rng((self.seed, step, 1)) for step in range(start, stop)]
            return [balanced(self._by_value, self.config.batch_size, rng) for rng in rngs]
        if rows == "all":
            return self._in_turn(torch.arange(len(self.train.rows)), start, stop)
        real = (~self.train.synthetic).nonzero().flatten()
        return self._in_turn(real, start - first, stop - first)

    def val_dataloader(self) -> Batches | DataLoader[Batch]:
        count = at_a_time(4 * self.config.batch_size, self.val.pixels.shape[-1])
        in_order = torch.split(torch.arange(len(self.val.rows)), count)
        return Batches(split=self.val, chosen=in_order).loaded(self.config.workers)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment on the device; the random numbers came from the CPU, so that all devices see the
        same.
        """
        if batch.maps is None:
            return batch
        return batch._replace(images=transform(batch.images, batch.maps), maps=None)
