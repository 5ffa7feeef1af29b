"""Pictures by number: each a pure function of (pool, index, size, seed).

Pools can therefore be drawn in any order, in parts and in parallel. All randomness of a picture
comes from `SeedSequence(seed, spawn_key=(pool, index))`. Spawn keys give independent streams, so no
picture is in two pools, whatever the indices.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from classify.datasets.avatars.distribution import ATTRIBUTES, from_uniforms
from classify.datasets.avatars.drawing import draw


class Pool(IntEnum):
    """Disjoint sources of pictures; the value is part of every picture's seed."""

    TRAIN = 0
    VAL = 1
    TEST = 2
    GENERATOR = 3
    """For training generators; their labels are not used."""
    LABELER = 4
    """For training labelers."""


def avatar_pool(
    indices: Iterable[int], *, pool: Pool | str, size: int = 32, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Draw the pictures with these numbers.

    Args:
        indices: Numbers of the pictures, each >= 0; any number of them in any order.
        pool: A `Pool` or its name in any case, such as "generator" or "labeler".
        size: Side in pixels.
        seed: Seed of all pools.

    Returns:
        Pictures uint8 (N, size, size, 3), RGB, and attributes int8 (N, 40), 0 or 1, in the order of
        `ATTRIBUTES`. The value of `Attractive` there is drawn, but nothing in the picture shows it.
    """
    key, numbers = _pool(pool), list(indices)
    uniforms = np.empty((len(numbers), len(ATTRIBUTES)))
    seeds = np.empty(len(numbers), dtype=np.int64)
    for row, number in enumerate(numbers):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key, number)))
        uniforms[row], seeds[row] = rng.random(len(ATTRIBUTES)), rng.integers(2**63)
    attributes = from_uniforms(uniforms)
    images = np.empty((len(numbers), size, size, 3), dtype=np.uint8)
    for row in tqdm(range(len(numbers)), desc="avatars", delay=2, disable=None):
        images[row] = draw(attributes[row], int(seeds[row]), size)
    return images, attributes


def _pool(pool: Pool | str) -> Pool:
    if isinstance(pool, Pool):
        return pool
    if pool.upper() not in Pool.__members__:
        allowed = ", ".join(member.name.lower() for member in Pool)
        raise ValueError(f"pool is {pool!r}; allowed are {allowed}")
    return Pool[pool.upper()]
