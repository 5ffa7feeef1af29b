"""The exchange rate, in closed form: a score read off a learning curve."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from classify.exchange import exchange_rate

SIZES = (100, 1000, 10_000)
RISING = np.array([0.4, 0.6, 0.8])
"""0.2 for every factor of ten."""
NEAR = 0.003
"""Relative; the grid's points lie 0.12 % apart here."""


@pytest.mark.parametrize("size", [100, 250, 1000, 3300, 10_000])
def test_a_score_of_the_curve_is_worth_the_number_that_gives_it(size: int) -> None:
    score = 0.4 + 0.2 * np.log10(size / 100)
    rate = exchange_rate(SIZES, [RISING] * 3, [score] * 3)
    assert rate.images == pytest.approx(size, rel=NEAR)
    assert rate.low == (0 if size == 100 else pytest.approx(size, rel=NEAR))
    assert rate.high == (np.inf if size == 10_000 else pytest.approx(size, rel=NEAR))


def test_beyond_the_curve_nothing_is_known() -> None:
    rate = exchange_rate(SIZES, [RISING] * 3, [0.85, 0.85, 0.85])
    assert (rate.images, rate.low, rate.high) == (np.inf, np.inf, np.inf)
    rate = exchange_rate(SIZES, [RISING] * 3, [0.3, 0.3, 0.3])
    assert (rate.images, rate.low, rate.high) == (0, 0, 0)


def test_the_interval_is_that_of_the_difference_seed_by_seed() -> None:
    # Where the curve is the same for all seeds, the t interval of the scores, read off the curve.
    scores = np.array([0.59, 0.60, 0.61])
    half = stats.t.ppf(0.975, 2) * 0.01 / np.sqrt(3)
    rate = exchange_rate(SIZES, [RISING] * 3, scores)
    assert rate.images == pytest.approx(1000, rel=NEAR)
    assert rate.low == pytest.approx(1000 * 10 ** (-half / 0.2), rel=NEAR)
    assert rate.high == pytest.approx(1000 * 10 ** (half / 0.2), rel=NEAR)
    # Seeds that move curve and scores alike move nothing.
    curve = RISING + (scores - 0.6)[:, None]
    paired = exchange_rate(SIZES, curve, scores)
    assert (paired.low, paired.high) == pytest.approx((1000, 1000), rel=NEAR)


def test_a_curve_that_falls_is_made_monotone_and_the_fewest_images_count() -> None:
    # Isotonic regression pools 0.7 and 0.5 to 0.6, which 1,000 images give already.
    rate = exchange_rate((100, 1000, 10_000), [[0.4, 0.7, 0.5]] * 2, [0.6, 0.6])
    assert rate.images == pytest.approx(1000, rel=NEAR)
    assert rate.high == np.inf


def test_an_interval_opens_where_the_curve_does_not_tell() -> None:
    rate = exchange_rate(SIZES, [RISING] * 3, [0.7, 0.8, 0.75])
    assert rate.images == pytest.approx(1000 * 10**0.75, rel=NEAR)
    assert 0 < rate.low < rate.images
    assert rate.high == np.inf


def test_numbers_that_the_seeds_cannot_tell_from_the_score_lie_in_the_interval() -> None:
    # At 100 images the curve is above the scores in every seed, at more it is not for certain.
    curve = [[0.61, 0.61, 0.61], [0.61, 0.65, 0.65], [0.61, 0.9, 0.9]]
    rate = exchange_rate((100, 1000, 10_000), curve, [0.6, 0.6, 0.599])
    assert rate.high == np.inf
    assert exchange_rate((100, 1000, 10_000), curve, [0.1, 0.1, 0.1]).high == 0


def test_one_seed_has_no_interval() -> None:
    rate = exchange_rate(SIZES, [RISING], [0.6])
    assert rate.images == pytest.approx(1000, rel=NEAR)
    assert np.isnan([rate.low, rate.high]).all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^sizes are \[100\]; give at least two ascending"):
        exchange_rate([100], [[0.5]], [0.5])
    with pytest.raises(ValueError, match="at least two ascending numbers"):
        exchange_rate([100, 100], [[0.5, 0.6]], [0.5])
    with pytest.raises(ValueError, match=r"curve has shape \(1, 2\) and the scores \(2,\)"):
        exchange_rate([100, 200], [[0.5, 0.6]], [0.5, 0.6])
