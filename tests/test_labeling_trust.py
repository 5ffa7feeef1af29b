"""Labels that cannot be trusted: each reason on rows made for it, and its rate where known."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import beta, binomtest

from labeling import NEEDED, LabelPolicy, Rule, doubts, share_doubt
from labeling.thresholds import fit_temperature

Array = npt.NDArray[np.float64]


def _doubt(p: Array, y: Array, **rule: Any) -> str:
    """Of one attribute."""
    policy = LabelPolicy(rules={"a": Rule(**({"present": 0.5, "absent": 0.5} | rule))})
    return doubts(pd.DataFrame({"a": y}), p[:, None], ["a"], policy).get("a", "")


def _draw(n: int = 400, share: float = 0.2, seed: int = 0) -> tuple[Array, Array]:
    """Calibrated probabilities and labels that follow them."""
    rng = np.random.default_rng(seed)
    p = expit(rng.normal(np.log(share / (1 - share)), 2, n))
    return p, (rng.random(n) < p).astype(float)


def test_a_labeler_that_may_be_trusted_is() -> None:
    assert _doubt(*_draw()) == ""


def test_as_many_rows_are_needed_as_tell_a_perfect_labeler_from_a_coin() -> None:
    def low(n: int) -> float:
        return float(binomtest(n, n).proportion_ci(method="wilson").low)

    assert low(NEEDED - 1) < 0.5 < low(NEEDED)


@pytest.mark.parametrize(("value", "what"), [(1.0, "have it"), (0.0, "lack it")])
def test_a_value_that_few_rows_have_judges_nothing(value: float, what: str) -> None:
    y = np.full(200, 1 - value)
    y[: NEEDED - 1] = value
    p = np.where(y == 1, 0.9, 0.1)
    assert _doubt(p, y) == f"3 of 200 validation images {what}, 4 are needed"
    y[NEEDED] = value
    p[NEEDED] = 1 - p[NEEDED]
    assert _doubt(p, y) == ""
    unlabelled = np.where(np.arange(200) == NEEDED, np.nan, y)
    assert _doubt(p, unlabelled).startswith("3 of 199")


def test_one_useless_labeler_in_twenty_passes_for_better_than_chance() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([1.0, 0.0], [12, 48])
    told = [_doubt(rng.random(60), y) for _ in range(1000)]
    by_chance = np.mean(["no better than chance" not in why for why in told])
    assert by_chance == pytest.approx(0.05, abs=0.02)
    assert "no better than chance (p = 1.00)" in _doubt(np.full(60, 0.5), y)


def test_noise_under_a_threshold_of_nothing_has_no_label() -> None:
    """Seen in the wild: hats told from the rest by 2.3e-12, and one on every noise image."""
    rng = np.random.default_rng(0)
    y = np.repeat([1.0, 0.0], [7, 53])
    p = np.where(y == 1, 4.6e-12, 1e-14) * rng.uniform(1, 1.5, 60)
    rule = Rule(present=2.3e-12, absent=2.3e-12)
    policy = LabelPolicy(rules={"Wearing_Hat": rule})
    noise = rng.uniform(1e-9, 1e-3, (300, 1))
    assert (policy.apply(noise, ["Wearing_Hat"])[0] == 1).all()
    found = doubts(pd.DataFrame({"Wearing_Hat": y}), p[:, None], ["Wearing_Hat"], policy)
    assert found == {"Wearing_Hat": "its threshold is 2.3e-12, below 8.3e-04"}
    labels, _ = policy.doubting(found).apply(noise, ["Wearing_Hat"])
    assert np.isnan(labels).all()
    assert policy.doubting(found).doubts == found
    assert policy.doubting(found).doubting({}) == policy


def test_a_threshold_that_everything_falls_short_of_or_exceeds_is_refused() -> None:
    p, y = _draw()
    assert "its threshold is 1 - 1.0e-09" in _doubt(p, y, present=1 - 1e-9, absent=1 - 1e-9)
    p = p.clip(0.02, 0.97)
    assert "100% of the images that have it, 100%" in _doubt(p, y, present=0.01, absent=0.01)
    assert "0% of the images that have it, 0%" in _doubt(p, y, present=0.98, absent=0.98)


def test_what_was_asked_to_stay_empty_is_no_reason() -> None:
    p, y = _draw()
    assert _doubt(p, y, present=None, absent=0.1) == ""
    assert _doubt(p, y, present=0.9, absent=0.1) == ""


def test_a_temperature_that_makes_worse_is_refused_and_a_fitted_one_never() -> None:
    p, y = _draw(2000)
    assert "temperature 6 makes" in _doubt(p, y, temperature=6.0)
    for seed in range(20):
        p, y = _draw(60, seed=seed)
        assert "temperature" not in _doubt(p, y, temperature=fit_temperature(p, y))


@pytest.mark.parametrize(
    ("found", "real", "asked", "wrong"),
    [
        ((300, 300), (15, 300), (0, 0), True),
        ((0, 300), (250, 300), (0, 0), True),
        ((300, 300), (15, 300), (1.0, 0), False),  # as asked
        ((0, 300), (250, 300), (0, 1.0), False),
        ((180, 300), (15, 300), (0.5, 0), False),
        ((290, 300), (15, 300), (0.3, 0), True),  # more than asked
        ((170, 300), (68, 300), (0, 0), False),  # as minority samples of the avatars shift it
        ((3, 3), (15, 300), (0, 0), False),  # chance
        ((0, 0), (15, 300), (0, 0), False),
    ],
)
def test_a_share_is_refused_where_most_labels_must_be_wrong(
    found: tuple[int, int], real: tuple[int, int], asked: tuple[float, float], wrong: bool
) -> None:
    assert bool(share_doubt(found, real, asked)) == wrong


def test_the_limit_is_where_exact_intervals_lie_one_half_apart() -> None:
    def is_wrong(hits: int) -> bool:
        low = beta.ppf(0.025, hits, 300 - hits + 1)
        high = beta.ppf(0.975, 30 + 1, 300 - 30)
        return bool(low - high > 0.5)

    assert [bool(share_doubt((k, 300), (30, 300))) for k in range(180, 260)] == [
        is_wrong(k) for k in range(180, 260)
    ]
