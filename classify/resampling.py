"""Bootstrap over test images: counts of hits, and average precision, under random weights of the
images.

Every count behind F1, a rate or a group's share is a sum over images, so that all draws are one
matrix product: weights (draws, images) times indicators (images, predictions). That is a hundred
times quicker than drawing the images and scoring each draw with torchmetrics, whose figures these
are (`tests/test_classify_comparison.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from classify.metrics import refuse_names_of_means
from classify.progress import progress

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
        raise ValueError(f"there are {n} images and {draws} draws; give at least 1 and 2")
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


def average_precision(
    weights: NDArray[np.float32], labels: NDArray[np.float32], scores: NDArray[np.float32]
) -> Floats:
    """Average precision of one prediction in every draw, as scikit-learn's
    `average_precision_score` with the weights as `sample_weight`.

    That is the mean, over the positives, of the precision among all images that score at least as
    high as each. So images are sorted once, each into the step of the highest positive that it does
    not surpass; a draw then only adds weights up.

    Args:
        weights: float32 (N, B), an image's weights beside one another in memory.
        labels: (N,): 1, 0 or NaN; an image without label counts nowhere.
        scores: float32 (N,), higher where an image is rather positive.

    Returns:
        float64 (B,); NaN without positives.
    """
    positive = labels == 1
    steps = np.unique(-scores[positive])  # from the highest positive on
    step_of = np.searchsorted(steps, -scores)

    def added(images: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Their weights, step by step."""
        at = np.flatnonzero(images & (step_of < len(steps)))
        shape = (len(steps), len(scores))
        ones = np.ones(len(at), np.float32)
        sums: NDArray[np.float32] = csr_matrix((ones, (step_of[at], at)), shape=shape) @ weights
        return sums

    hits, called = added(positive), added(~np.isnan(labels))
    precision = _cumulate(hits.copy())
    np.divide(precision, _cumulate(called), out=precision, where=called > 0)
    positives = hits.sum(axis=0, dtype=np.float64)
    return ratio(np.einsum("sb,sb->b", hits, precision, dtype=np.float64), positives, positives)


def _cumulate(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cumulated sum down the rows, in place: `np.cumsum`, which takes six times as long."""
    for above, row in pairwise(rows):
        row += above
    return rows


def ratio(part: Floats, whole: Floats, support: Floats) -> Floats:
    """Part / whole; NaN where there is no support."""
    there = np.broadcast_to(support > 0, part.shape)
    quotient: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=there)
    return quotient


def threshold_of(name: str, thresholds: Thresholds) -> float:
    """The threshold of one attribute."""
    return thresholds.get(name, 0.5) if isinstance(thresholds, Mapping) else thresholds


def by_attribute(
    labels: NDArray[np.float32],
    probabilities: Mapping[str, NDArray[np.float32]],
    attributes: Sequence[str],
    thresholds: Thresholds,
) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.bool_]]]:
    """Attribute by attribute its name, labels (N,) and predictions bool (S, R, N) of the R arms."""
    bar = progress(attributes, "auditing", unit="attribute")
    for column, name in enumerate(bar):
        limit = threshold_of(name, thresholds)
        predicted = [values[..., column] >= limit for values in probabilities.values()]
        yield name, labels[:, column], np.stack(predicted, axis=1)


def check_predictions(
    labels: NDArray[np.float32],
    probabilities: Mapping[str, NDArray[np.float32]],
    attributes: Sequence[str],
    baseline: str | None,
) -> None:
    """Refuse arrays that do not fit together, and a baseline that is no arm.

    Raises:
        ValueError: Not labels (N, A), and for each arm probabilities (S, N, A) of the same seeds.
    """
    refuse_names_of_means(attributes)
    if labels.ndim != 2 or labels.shape[1] != len(attributes):
        raise ValueError(
            f"labels have shape {labels.shape}; give (images, {len(attributes)}), a column an "
            "attribute"
        )
    if not probabilities:
        raise ValueError("no probabilities are given; give those of at least one arm")
    first = next(iter(probabilities.values()))
    for arm, values in probabilities.items():
        if values.ndim != 3 or values.shape[1:] != labels.shape or len(values) != len(first):
            raise ValueError(
                f"probabilities of arm {arm} have shape {values.shape}; give ({len(first)} seeds, "
                f"{', '.join(map(str, labels.shape))}), the same fits in every arm"
            )
    if baseline is not None and baseline not in probabilities:
        raise ValueError(f"baseline is {baseline!r}; give one of {', '.join(probabilities)}")
