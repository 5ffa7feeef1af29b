"""Faces drawn by code in CelebA's schema, with a known joint distribution of their attributes."""

from classify.datasets.avatars.distribution import (
    ATTRIBUTES,
    MARGINALS,
    UNLABELLED,
    log_probability,
    sample,
)
from classify.datasets.avatars.drawing import draw
from classify.datasets.avatars.table import avatar_pool, avatar_table
from classify.datasets.drawn import Pool

__all__ = [
    "ATTRIBUTES",
    "MARGINALS",
    "UNLABELLED",
    "Pool",
    "avatar_pool",
    "avatar_table",
    "draw",
    "log_probability",
    "sample",
]
