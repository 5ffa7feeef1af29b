"""What a study can see: the smallest difference in mean F1 that it would find, told beforehand.

Found is what the study's own rule finds, the 95 % interval over seeds and test images
(`classify.intervals`). Two arms are simulated on the real test labels y: attribute k of image i has
in arm a with seed s the score

    y_ki (d + u_ask) + v_ask + x_ki + m_aki + e_aski

with normal u and v (of a fit), x (of an image, in every fit), m (in every fit of an arm) and e (in
this fit), and as many images are predicted as have the attribute. Their differences give the three
variances that an interval is made of: between fits, of the images alike for all seeds, and of fits
and images together. Means with these variances are then drawn for any number of seeds and of
images, and judged by the rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from classify.intervals import half_width, shared_variance
from classify.metrics import MACRO, MACRO_RARE, RARE
from classify.resampling import Floats, count, ratio, resample

__all__ = ["Noise", "Visible", "in_words", "sees_nothing", "smallest_difference", "visible"]

_POWER = 0.8
"""How often a difference is found that counts as visible."""
_NOTHING = 0.1
"""A study that sees no smaller difference in macro F1 counts as blind."""
_STUDIES, _SEEDS, _DRAWS = 8, 8, 100
"""Simulated studies, fits of an arm in each, and bootstrap draws of its images."""
_MEANS = 20_000
_MOST = 64
"""Seeds, and times as many test images, that are thought of."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What two arms differ by with one seed, where neither is the better one; the unit is the
    standard deviation of the scores that a fit gives to images of one value.

    Measured on the log-odds of 40 fits of the embedded avatars' study: 5 arms, 3 seeds with the
    generator's labeler and 5 with a better one, 2,000 test images, means over 39 attributes.
    `in_common` alone was set so that the differences in F1 vary over seeds as seen there: their
    standard deviation is .0077 in macro F1 (seen: .0061 and .0077) and .0144 over the 16 rare
    attributes (.0127 and .0140).
    """

    skill: float = 2.7
    """d: how far the mean scores of images with and without an attribute lie apart."""
    of_skill: float = 0.14
    """Standard deviation of u, what the skill differs by from fit to fit."""
    of_shift: float = 0.085
    """Standard deviation of v, what all scores of a fit differ by."""
    in_common: float = 0.01
    """Share of the variances of u and v that all attributes of a fit have in common."""
    of_arm: float = 0.10
    """Variance of m."""
    of_fit: float = 0.225
    """Variance of e; that of x is the rest to 1."""


@dataclass(frozen=True, kw_only=True)
class Visible:
    """What a study can see of one mean."""

    attributes: int
    """How many attributes it is over."""
    difference: float
    """The smallest difference in F1 that is found 4 times in 5; infinite where none is."""
    seeds: int | None
    """Seeds with which half of it would be; None where not even 64 are enough."""
    images: int | None
    """Times as many test images with which half of it would be; likewise."""


def visible(
    labels: NDArray[np.float32],
    attributes: Sequence[str],
    seeds: int,
    shares: Mapping[str, float],
    noise: Noise | None = None,
) -> dict[str, Visible]:
    """How far two arms have to lie apart for a study to find it.

    Args:
        labels: (N, A) of the test images: 1, 0 or NaN.
        attributes: The A names; those without both values are in no mean.
        seeds: Fits per arm.
        shares: Attribute -> share of positives in [0, 1] among the real training images.
        noise: How the classifiers vary.

    Returns:
        `macro`, and `macro, rare` where an attribute is rare -> what is seen.
    """
    is_rare = np.array([shares[name] < RARE for name in attributes])
    judged = (labels == 1).any(axis=0) & (labels == 0).any(axis=0)
    expected, f1 = _differences(labels[:, judged], noise or Noise())
    members = {MACRO: judged[judged], MACRO_RARE: is_rare[judged]}
    if not is_rare.any():
        del members[MACRO_RARE]
    return {mean: _visible(expected[:, of], f1[:, of], seeds) for mean, of in members.items()}


def _visible(expected: Floats, f1: Floats, seeds: int) -> Visible:
    """What is seen of the differences that `_differences` gives, for the attributes of one mean."""
    attributes = f1.shape[1]
    if seeds < 2 or not attributes:
        return Visible(attributes=attributes, difference=np.inf, seeds=None, images=None)
    there = (~np.isnan(f1)).sum(axis=1).astype(np.float64)
    means = np.moveaxis(ratio(np.nansum(f1, axis=1), there, there), 0, -1)
    fits = float(expected.mean(axis=1).var(axis=-1, ddof=1).mean())
    both = max(float(means[0].var(axis=0, ddof=1).mean()) - fits, 0.0)
    shared = float(shared_variance(means[1:]).mean())
    of = partial(smallest_difference, fits, both, shared)
    smallest, more = of(seeds), range(2, _MOST + 1)
    return Visible(
        attributes=attributes,
        difference=smallest,
        seeds=next((s for s in more if s > seeds and of(s) <= smallest / 2), None),
        images=next((k for k in more if of(seeds, k) <= smallest / 2), None),
    )


def smallest_difference(
    fits: float, both: float, shared: float, seeds: int, images: float = 1.0
) -> float:
    """The difference whose interval excludes 0 4 times in 5.

    Args:
        fits: Variance of the difference between seeds, were there endless test images.
        both: What it varies by between seeds because the test images are few.
        shared: Variance by the test images, alike for all seeds.
        seeds: Fits per arm, at least 2.
        images: How many times as many test images as those that the variances are of.
    """
    rng, shared = np.random.default_rng(0), shared / images
    of_seeds = (fits + both / images) / seeds
    seen = of_seeds * rng.chisquare(seeds - 1, _MEANS) / (seeds - 1)
    half = half_width(seen, np.full(_MEANS, shared), seeds)
    error = np.sqrt(of_seeds + shared) * rng.standard_normal(_MEANS)
    return float(np.quantile(half - error, _POWER))


def _differences(labels: NDArray[np.float32], noise: Noise) -> tuple[Floats, Floats]:
    """Simulated differences in F1 between two arms, neither of which is the better one.

    Returns:
        Float64 (studies, attributes, seeds), what they would be on endless images, and (studies,
        attributes, 1 + draws, seeds), on these and on bootstrap draws of them.
    """
    weights, rng = resample(len(labels), _DRAWS, seed=0), np.random.default_rng(0)
    expected = np.empty((_STUDIES, labels.shape[1], _SEEDS))
    found = np.empty((_STUDIES, labels.shape[1], 1 + _DRAWS, _SEEDS))
    for study in range(_STUDIES):
        in_common = rng.standard_normal((2, 2, _SEEDS, 1))
        for k, y in enumerate(labels.T):
            own = rng.standard_normal((2, 2, _SEEDS, 1))
            u, v = np.sqrt(noise.in_common) * in_common + np.sqrt(1 - noise.in_common) * own
            u, v = noise.of_skill * u, noise.of_shift * v
            scores = np.nan_to_num(y) * (noise.skill + u) + v + _of_images(len(y), noise, rng)
            share = np.nanmean(y)
            cut = np.quantile(scores[..., ~np.isnan(y)], 1 - share)
            hits, alarms = ndtr(noise.skill + u + v - cut), ndtr(v - cut)
            f1 = 2 * share * hits / (share * hits + (1 - share) * alarms + share)
            expected[study, k] = (f1[0] - f1[1])[:, 0]
            on_draws = count(weights, y, scores > cut).f1()
            found[study, k] = on_draws[:, 0] - on_draws[:, 1]
    return expected, found


def _of_images(n: int, noise: Noise, rng: np.random.Generator) -> Floats:
    """The sum x + m + e of one attribute, (2, seeds, n), of variance 1."""
    x = rng.standard_normal(n) * np.sqrt(1 - noise.of_arm - noise.of_fit)
    m = rng.standard_normal((2, 1, n)) * np.sqrt(noise.of_arm)
    whole: Floats = x + m + rng.standard_normal((2, _SEEDS, n)) * np.sqrt(noise.of_fit)
    return whole


def sees_nothing(found: Mapping[str, Visible]) -> bool:
    """Whether a difference in macro F1 has to be above 0.1 to be found."""
    return found[MACRO].difference > _NOTHING


def in_words(found: Mapping[str, Visible], seeds: int, images: int) -> str:
    """What a study of so many seeds and test images can see, in a sentence or two."""
    overall = found[MACRO]
    if not overall.attributes:
        return "No attribute has both values among the test images, so no difference can be found."
    if seeds < 2:
        return "One seed has no interval, so no difference can be found; give 3 seeds, better 5."
    of = f"With {seeds} seeds and {images:,} test images"
    if overall.difference < 1:
        told = f"{overall.difference:.3f} in macro F1 (of {overall.attributes} attributes)"
        if (rare := found.get(MACRO_RARE)) is not None and rare.attributes:
            told += f" or of {rare.difference:.3f} over the rare ones ({rare.attributes})"
        told = f"{of} a true difference of {told} is found 4 times in 5"
    else:
        told = f"{of} no difference in macro F1 is found 4 times in 5"
    ways = [f"{overall.seeds} seeds"] if overall.seeds else []
    ways += [f"{overall.images} times as many test images"] if overall.images else []
    return f"{told}; half of it takes {' or '.join(ways) or f'more than {_MOST} times as many'}."
