"""Bootstrap over test images: counts of hits under random weights of the images.

Every count behind F1, a rate or a group's share is a sum over images, so that all draws are one
matrix product: weights (draws, images) times indicators (images, predictions).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Thresholds = float | Mapping[str, float]
"""Probability from which on an attribute is predicted: one for all, or by name (0.5 where none is
given)."""


def resample(n: int, draws: int, seed: int) -> NDArray[np.float32]:
    """How often each image occurs: in the sample itself, then in bootstrap samples of it.

    Args:
        n: Images.
        draws: Bootstrap samples, at least 2.
        seed: Of the draws.

    Returns:
        float32 (1 + draws, n): ones, then multinomial counts that sum to n.

    Raises:
        ValueError: No images or too few draws.
    """
    if n < 1 or draws < 2:
        raise ValueError(
            f"got {n} images and {draws} draws: at least 1 image and 2 draws are needed"
        )
    rng = np.random.default_rng(seed)
    weights = np.ones((1 + draws, n), np.float32)
    for row in weights[1:]:
        row[:] = np.bincount(rng.integers(n, size=n), minlength=n)
    return weights


class Counts(NamedTuple):
    """Weighted numbers of images, float64, by draw (first axis) and prediction (the others)."""

    hits: Floats
    """Positive and predicted so (true positives), (B, ...)."""
    predicted: Floats
    """Predicted positive, (B, ...)."""
    positives: Floats
    """Labelled positive, (B, 1, ...)."""
    negatives: Floats
    """Labelled negative, (B, 1, ...)."""

    def f1(self) -> Floats:
        """2 TP / (2 TP + FP + FN); NaN without positives."""
        return ratio(2 * self.hits, self.predicted + self.positives, self.positives)

    def precision(self) -> Floats:
        """TP / (TP + FP), 0 where nothing is predicted; NaN without positives."""
        return ratio(self.hits, np.maximum(self.predicted, 1), self.positives)

    def true_positive_rate(self) -> Floats:
        """TP / (TP + FN), also called recall; NaN without positives."""
        return ratio(self.hits, self.positives, self.positives)

    def false_positive_rate(self) -> Floats:
        """FP / (FP + TN); NaN without negatives."""
        return ratio(self.predicted - self.hits, self.negatives, self.negatives)

    def selection_rate(self) -> Floats:
        """Share predicted positive; NaN without images."""
        images = self.positives + self.negatives
        return ratio(self.predicted, images, images)


def count(
    weights: NDArray[np.float32], labels: NDArray[np.float32], predicted: NDArray[np.bool_]
) -> Counts:
    """Weighted counts of several predictions of one attribute.

    Args:
        weights: float32 (B, N).
        labels: (N,): 1, 0 or NaN; an image without label counts nowhere.
        predicted: bool (..., N).

    Returns:
        Counts of shape (B, ...); float32 holds them exactly below 2^24 images.
    """
    there = ~np.isnan(labels)
    if not there.all():  # a copy, so only where needed
        weights = weights[:, there]
    true = labels[there] == 1
    flags = predicted[..., there].reshape(math.prod(predicted.shape[:-1]), int(there.sum()))
    columns = np.concatenate([flags & true, flags, true[None], ~true[None]]).astype(np.float32)
    sums = (weights @ columns.T).astype(np.float64)
    m, shape = len(flags), (len(weights), *predicted.shape[:-1])
    single = (len(weights), *(1,) * (predicted.ndim - 1))
    return Counts(
        sums[:, :m].reshape(shape),
        sums[:, m : 2 * m].reshape(shape),
        sums[:, -2].reshape(single),
        sums[:, -1].reshape(single),
    )


def ratio(part: Floats, whole: Floats, support: Floats) -> Floats:
    """Part / whole; NaN where there is no support."""
    there = np.broadcast_to(support > 0, part.shape)
    quotient: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=there)
    return quotient


def threshold_of(thresholds: Thresholds, attribute: str) -> float:
    """The attribute's threshold."""
    return thresholds.get(attribute, 0.5) if isinstance(thresholds, Mapping) else thresholds


def check_predictions(
    labels: NDArray[np.float32],
    probabilities: Mapping[str, NDArray[np.float32]],
    attributes: Sequence[str],
) -> None:
    """Refuse arrays that do not fit together.

    Raises:
        ValueError: Not labels (N, A), and for each arm probabilities (S, N, A) of the same seeds.
    """
    if labels.ndim != 2 or labels.shape[1] != len(attributes):
        raise ValueError(
            f"labels: got shape {labels.shape}, (images, {len(attributes)}) is needed: a column an "
            "attribute"
        )
    if not probabilities:
        raise ValueError("probabilities: got no arm, give at least one")
    first = next(iter(probabilities.values()))
    for arm, values in probabilities.items():
        if values.ndim != 3 or values.shape[1:] != labels.shape or len(values) != len(first):
            raise ValueError(
                f"probabilities of arm {arm}: got shape {values.shape}, ({len(first)} seeds, "
                f"{', '.join(map(str, labels.shape))}) is needed: the same fits in every arm"
            )
