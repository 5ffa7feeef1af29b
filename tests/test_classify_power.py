"""What a study can see: closed forms where one noise is alone, and the rule by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

from classify.intervals import mean_interval
from classify.power import (
    Noise,
    in_words,
    sees_nothing,
    smallest_difference,
    visible,
)
from classify.resampling import count, resample

Labels = NDArray[np.float32]


def _labels(n: int, *shares: float) -> Labels:
    return (np.random.default_rng(0).random((n, len(shares))) < shares).astype(np.float32)


def test_without_noise_of_seeds_it_is_that_of_a_normal_test() -> None:
    expected = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * 0.03
    assert smallest_difference(0, 0, 0.0009, 3) == pytest.approx(expected, rel=0.02)
    assert smallest_difference(0, 0, 0.0009, 3, 4) == pytest.approx(expected / 2, rel=0.02)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_without_noise_of_images_it_is_that_of_a_t_test(seeds: int) -> None:
    limit = stats.t.ppf(0.975, seeds - 1)
    shift = optimize.brentq(lambda d: stats.nct.sf(limit, seeds - 1, d) - 0.8, 0, 20)
    expected = shift * 0.02 / np.sqrt(seeds)
    assert smallest_difference(0.0004, 0, 0, seeds) == pytest.approx(expected, rel=0.03)


def test_more_images_take_away_all_but_what_fits_differ_by() -> None:
    some, endless = (0.0004, 0.001, 0.0002), smallest_difference(0.0004, 0, 0, 3)
    assert smallest_difference(*some, 3) > 1.5 * endless
    assert smallest_difference(*some, 3, 1e6) == pytest.approx(endless, rel=1e-3)


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_rule_finds_it_four_times_in_five(seeds: int) -> None:
    """`mean_interval` of 2,000 studies, their images' noise drawn anew for each bootstrap draw."""
    rng, studies = np.random.default_rng(1), 2000
    smallest = smallest_difference(0.0004, 0.0002, 0.0003, seeds)
    values = smallest + rng.normal(0, np.sqrt(0.0006), (seeds, studies))
    values += rng.normal(0, np.sqrt(0.0003), studies)
    draws = rng.normal(0, np.sqrt(0.0003), (200, 1, studies))
    draws = draws + rng.normal(0, np.sqrt(0.0002), (200, seeds, studies))
    assert (mean_interval(values, draws).low > 0).mean() == pytest.approx(0.8, abs=0.03)


def test_classifiers_so_far_apart_are_told_apart_four_times_in_five() -> None:
    """Studies simulated anew by the model's formula, one arm better by what is visible."""
    labels, seeds, noise = _labels(400, 0.1, 0.2, 0.4, 0.5), 3, Noise(skill=2.0)
    attributes = ["a", "b", "c", "d"]
    found = visible(labels, attributes, seeds, dict.fromkeys(attributes, 0.3), noise)
    rng, weights, results = np.random.default_rng(5), resample(400, 60, 0), []
    cut = 2.0 * (labels == 1)[None, None] + rng.normal(size=(200, 1, 400, 4))
    cuts = np.array([np.quantile(cut[..., k], 1 - labels[:, k].mean()) for k in range(4)])

    def study(gain: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        f1 = []
        x = rng.normal(0, np.sqrt(1 - noise.of_arm - noise.of_fit), (400, 4))
        for of_arm in (0.0, gain):
            fit = (seeds, 1, 4)
            scores = labels * (2.0 + of_arm + rng.normal(0, noise.of_skill, fit))
            scores = scores + rng.normal(0, noise.of_shift, fit) + x
            scores += rng.normal(0, np.sqrt(noise.of_arm), (400, 4))
            scores += rng.normal(0, np.sqrt(noise.of_fit), (seeds, 400, 4))
            f1.append(
                np.mean(
                    [count(weights, labels[:, k], scores[..., k] > cuts[k]).f1() for k in range(4)],
                    axis=0,
                )
            )
        return (f1[1] - f1[0])[0], (f1[1] - f1[0])[1:]

    for gain in (0.25, 0.5, 0.75, 1.0):
        studies = [study(gain) for _ in range(150)]
        values, draws = (np.stack(part, axis=-1) for part in zip(*studies, strict=True))
        results.append((values.mean(), (mean_interval(values, draws).low > 0).mean()))
    differences, power = np.array(results).T
    assert np.interp(found["macro"].difference, differences, power) == pytest.approx(0.8, abs=0.1)


def test_a_study_of_two_test_positives_sees_nothing() -> None:
    labels = np.zeros((60, 1), np.float32)
    labels[:2] = 1
    found = visible(labels, ["Bald"], 3, {"Bald": 0.03})
    assert sees_nothing(found)
    assert "60 test images no difference in macro F1 is found 4 times in 5" in in_words(
        found, 3, 60
    )
    more = found["macro"].images
    assert more is not None
    assert more >= 4  # noise of images alone would fall to half with 4 times as many


@pytest.mark.parametrize(("labels", "seeds"), [(np.ones((9, 1)), 3), (np.eye(9)[:, :1], 1)])
def test_without_both_values_or_a_second_seed_nothing_is_seen(
    labels: NDArray[np.float64], seeds: int
) -> None:
    found = visible(labels.astype(np.float32), ["a"], seeds, {"a": 0.5})
    assert found["macro"].difference == np.inf
    assert found["macro"].seeds is found["macro"].images is None
    assert sees_nothing(found)
    assert "no difference can be found" in in_words(found, seeds, 9)


def test_more_seeds_and_more_images_see_more_and_rare_attributes_are_seen_less() -> None:
    shares = {"rare": 0.05, "common": 0.4}
    found = {
        (n, seeds): visible(_labels(n, *shares.values()), list(shares), seeds, shares)
        for n, seeds in ((300, 3), (300, 5), (3000, 3))
    }
    few, seeds, images = (one["macro"].difference for one in found.values())
    assert max(seeds, images) < few
    first = found[300, 3]
    assert first["macro, rare"].difference > first["macro"].difference
    assert first["macro, rare"].attributes == 1
    needed = first["macro"].seeds
    assert needed is not None
    again = visible(_labels(300, *shares.values()), list(shares), needed, shares)["macro"]
    assert again.difference <= few / 2
    text = in_words(first, 3, 300)
    assert text.startswith(f"With 3 seeds and 300 test images a true difference of {few:.3f} in")
    assert f"over the rare ones (1) is found 4 times in 5; half of it takes {needed} seeds" in text
