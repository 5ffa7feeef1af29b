"""One source of noise an image, so that an image depends on its seed and on nothing else.

Each image has separate streams for the reverse process and for the guidance: a plain and a guided
run of the same seed share the reverse noise (they are paired), and neither batch size, order,
process count nor restart changes a draw. (The paper's code draws both from one generator: its
plain and guided runs of one seed part at the first guided step, and depend on the batch size.)
Streams live on the CPU, whose generator is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "CONDITION",
    "LABEL",
    "PERTURBATION",
    "REVERSE",
    "SCORE",
    "UPSAMPLING",
    "NoiseStream",
    "derived_seeds",
    "seeded_generator",
    "uniform_labels",
]

REVERSE = 0
"""Start state and reverse noise."""
PERTURBATION = 1
"""The noise e that the guidance adds to its estimate of the image."""
LABEL = 2
"""The class of an image, where the model has classes and none is asked for."""
UPSAMPLING = 3
"""Everything of the upsampled image, so that it shares no draw with the small one."""
SCORE = 4
"""The noise that an image is restored from, for its minority score."""
CONDITION = 5
"""The noise on the embedding of an image's class."""


class NoiseStream:
    """Standard normal draws for a batch of images, one generator per image."""

    def __init__(
        self, seeds: Sequence[int], purpose: int, shape: tuple[int, ...], device: torch.device
    ) -> None:
        """
        Args:
            seeds: the images' seeds, non-negative, one per row of the batch.
            purpose: one of the constants above; with `derived_seeds` of one, any number.
            shape: one image's shape, (C, H, W).
            device: where the draws are wanted.
        """
        self._generators = [seeded_generator(seed, purpose) for seed in seeds]
        self._shape = shape
        self._device = device

    def draw(self) -> Tensor:
        """The next draw, float32 (B, C, H, W)."""
        images = torch.empty(len(self._generators), *self._shape)
        for image, generator in zip(images, self._generators, strict=True):
            image.normal_(generator=generator)
        return images.to(self._device)

    def rows(self, rows: slice) -> NoiseStream:
        """The same streams, of these images alone; a draw from them advances them here too."""
        part = NoiseStream((), REVERSE, self._shape, self._device)
        part._generators = self._generators[rows]
        return part

    @contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """Take back the draws of a block that fails, so that another attempt repeats them."""
        states = [generator.get_state() for generator in self._generators]
        try:
            yield
        except BaseException:
            for generator, state in zip(self._generators, states, strict=True):
                generator.set_state(state)
            raise


def uniform_labels(seeds: Sequence[int], classes: int) -> Tensor:
    """A class 0..classes-1 for each image, uniform, by its seed alone; int64 (B,) on the CPU."""
    drawn = [int(torch.randint(classes, (), generator=seeded_generator(s, LABEL))) for s in seeds]
    return torch.tensor(drawn, dtype=torch.int64)


def derived_seeds(seeds: Sequence[int], purpose: int) -> list[int]:
    """A seed for each seed, for another run on the same images."""
    return [_mix(seed, purpose) for seed in seeds]


def seeded_generator(seed: int, purpose: int) -> torch.Generator:
    """An image's own stream of random numbers for a purpose."""
    return torch.Generator().manual_seed(_mix(seed, purpose))


def _mix(seed: int, purpose: int) -> int:
    """A 63-bit seed that neighbouring seeds and purposes do not share."""
    sequence = np.random.SeedSequence(seed, spawn_key=(purpose,))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
