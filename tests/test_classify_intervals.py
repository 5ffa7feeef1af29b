"""Intervals of a mean over few fits: limits in closed form, coverage by simulation; Holm."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from study_doubles import SimulatedStudy

from classify.intervals import holm, mean_interval
from classify.resampling import count, resample

_DRAWS = 200


def _macro_f1_differences(study: SimulatedStudy, repeats: int) -> NDArray[np.float64]:
    """Simulated differences in macro F1, (1 + draws, S, repeats): the sample's, then draws'."""
    rng = np.random.default_rng(0)
    weights = resample(study.images, _DRAWS, seed=0)
    studies = []
    for _ in range(repeats):
        labels, probabilities = study.draw(rng)
        arms = np.stack([probabilities["real"], probabilities["minority"]]) >= 0.5
        f1 = [count(weights, labels[:, a], arms[..., a]).f1() for a in range(labels.shape[1])]
        studies.append(np.diff(np.mean(f1, axis=0), axis=1)[:, 0])
    return np.stack(studies, axis=-1)


def coverage(study: SimulatedStudy, repeats: int) -> tuple[float, float]:
    """Shares of the simulated studies whose interval holds the true difference, and whose p-value
    is above 0.05.
    """
    differences = _macro_f1_differences(study, repeats)
    interval = mean_interval(differences[0], differences[1:])
    truth = study.difference()
    holds = (interval.low <= truth) & (truth <= interval.high)
    return float(holds.mean()), float((interval.p_value >= 0.05).mean())


NOISE = {
    "seeds": {"of_seed": 0.15, "of_image": 0.1, "of_both": 0.5},
    "images": {"of_seed": 0.02, "of_image": 1.0, "of_both": 0.2},
    "each": {"of_seed": 0.1, "of_image": 0.7, "of_both": 0.5},
}


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("dominant", NOISE)
@pytest.mark.parametrize("gain", [0.0, 0.3])
def test_nominal_95_percent_cover_93_to_97(seeds: int, dominant: str, gain: float) -> None:
    study = SimulatedStudy(seeds=seeds, gain=gain, **NOISE[dominant])
    holds, silent = coverage(study, 1000)
    assert 0.93 <= holds <= 0.97
    assert silent == holds if gain == 0 else silent < holds


@pytest.mark.parametrize("seeds", [3, 5])
def test_resampling_the_seeds_too_would_be_too_narrow(seeds: int) -> None:
    """Why the interval is no percentile of a two-way bootstrap."""
    study = SimulatedStudy(seeds=seeds, **NOISE["seeds"])
    differences, rng = _macro_f1_differences(study, 200)[1:], np.random.default_rng(1)
    chosen = rng.integers(seeds, size=(_DRAWS, seeds, 1))
    means = np.take_along_axis(differences, chosen, axis=1).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    assert ((low <= 0) & (high >= 0)).mean() < 0.90


def test_without_image_noise_it_is_students() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, (4, 6))
    draws = np.broadcast_to(values, (10, 4, 6))
    interval = mean_interval(values, draws)
    low, high = stats.t.interval(0.95, 3, values.mean(0), stats.sem(values))
    np.testing.assert_allclose([interval.low, interval.high], [low, high])
    np.testing.assert_allclose(interval.p_value, stats.ttest_1samp(values, 0).pvalue, rtol=1e-9)


def test_without_seed_noise_it_is_the_normal_one_over_images() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0.5, 0.2, (500, 1, 1))
    interval = mean_interval(np.full((3, 1), 0.5), np.broadcast_to(shared, (500, 3, 1)))
    half = 1.959964 * shared.std(ddof=1)
    np.testing.assert_allclose(interval.high - interval.estimate, half, rtol=1e-6)
    z = 0.5 / shared.std(ddof=1)
    np.testing.assert_allclose(interval.p_value, 2 * stats.norm.sf(z), rtol=1e-9)


def test_noise_of_images_in_each_seed_alone_is_not_counted_twice() -> None:
    """Draws that are independent between seeds share nothing: Student's interval remains."""
    rng = np.random.default_rng(0)
    values, draws = rng.normal(size=(5, 1)), rng.normal(0, 0.1, (20_000, 5, 1))
    interval = mean_interval(values, draws)
    student = stats.t.ppf(0.975, 4) * stats.sem(values)
    np.testing.assert_allclose(interval.high - interval.estimate, student, rtol=2e-3)


def test_p_value_and_interval_agree() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 0.4, (3, 2000))
    draws = values + rng.normal(0, 0.3, (50, 1, 2000))
    interval = mean_interval(values, draws)
    outside = (interval.low > 0) | (interval.high < 0)
    np.testing.assert_array_equal(interval.p_value < 0.05, outside)
    assert 0.05 < outside.mean() < 0.95


def test_nothing_differs_nowhere() -> None:
    interval = mean_interval(np.zeros((3, 1)), np.zeros((9, 3, 1)))
    assert (interval.low, interval.high, interval.p_value) == (0, 0, 1)


def test_one_seed_has_the_interval_of_its_images() -> None:
    draws = np.random.default_rng(0).normal(0.4, 0.1, (200, 1, 1))
    interval = mean_interval(np.full((1, 1), 0.4), draws)
    np.testing.assert_allclose(interval.high - 0.4, 1.959964 * draws.std(ddof=1), rtol=1e-6)


def test_what_cannot_be_estimated_is_nan_and_undefined_draws_are_left_out() -> None:
    rng = np.random.default_rng(0)
    values, draws = rng.normal(size=(3, 2)), rng.normal(size=(40, 3, 2))
    values[:, 1] = np.nan
    draws[:, :, 1] = np.nan
    holes = draws.copy()
    holes[5:9] = np.nan
    interval, fewer = (
        mean_interval(values, holes),
        mean_interval(values, np.delete(draws, range(5, 9), 0)),
    )
    np.testing.assert_array_equal([interval.low, interval.p_value], [fewer.low, fewer.p_value])
    assert np.isnan([interval.low[1], interval.high[1], interval.p_value[1]]).all()
    assert np.isfinite(interval.low[0])


@pytest.mark.parametrize("n", [1, 2, 40])
def test_holm_is_statsmodels(n: int) -> None:
    multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests
    p_values = np.random.default_rng(n).random(n) ** 3
    np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1])


def test_holm_is_its_definition() -> None:
    p_values = np.random.default_rng(5).random(30) ** 3
    expected, highest = {}, 0.0
    for passed, p in enumerate(sorted(p_values)):
        highest = max(highest, min(1.0, p * (len(p_values) - passed)))
        expected[p] = highest
    np.testing.assert_allclose(holm(p_values), [expected[p] for p in p_values])


def test_holm_does_not_count_what_is_not_tested() -> None:
    adjusted = holm(np.array([0.01, np.nan, 0.04, 0.03]))
    np.testing.assert_allclose(adjusted, [0.03, np.nan, 0.06, 0.06])
    assert np.isnan(holm(np.full(3, np.nan))).all()
