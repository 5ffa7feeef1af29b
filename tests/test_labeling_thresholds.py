"""Thresholds: exact against a naive scan and against scikit-learn."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit
from sklearn.metrics import precision_recall_curve

from labeling import fit_thresholds
from labeling.thresholds import Curve, fit_temperature, fit_threshold, log_losses

Array = npt.NDArray[np.float64]


def _draw(seed: int, rows: int = 80, ties: bool = False) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    y = (rng.random(rows) < 0.3).astype(float)
    p = np.clip(0.3 * y + 0.7 * rng.random(rows), 0, 1)
    return (np.round(p, 1) if ties else p), y


def _f1(y: Array, predicted: npt.NDArray[np.bool_]) -> float:
    return float(2 * (y * predicted).sum() / (y.sum() + predicted.sum()))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_is_as_good_as_the_best_of_a_naive_scan(seed: int, ties: bool) -> None:
    p, y = _draw(seed, ties=ties)
    threshold = Curve.of(p, y).best
    scan = [*p, *np.linspace(0, 1, 2001)]
    best = max(_f1(y, p >= t) for t in scan)
    assert _f1(y, p >= threshold) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_precision_recall_curve(seed: int) -> None:
    p, y = _draw(seed)
    threshold = Curve.of(p, y).best
    precision, recall, cuts = precision_recall_curve(y, p)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = cuts[np.flatnonzero(np.isclose(f1[:-1], f1[:-1].max(), atol=1e-12))[-1]]
    below = p[p < best].max(initial=0.0)
    assert threshold == pytest.approx((best + below) / 2)


def test_lies_half_way_between_the_probabilities_it_separates() -> None:
    best = Curve.of(np.array([0.2, 0.4, 0.7, 0.9]), np.array([0.0, 0, 1, 1])).best
    assert best == pytest.approx(0.55)


def test_lies_between_zero_and_the_smallest_when_all_are_best_called_positive() -> None:
    assert Curve.of(np.array([0.4, 0.6]), np.array([1.0, 0])).best == pytest.approx(0.2)


def test_separates_neighbouring_float32_probabilities() -> None:
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    p = np.array([low, high], dtype=np.float64)
    assert (p >= Curve.of(p, np.array([0.0, 1])).best).tolist() == [False, True]


def _folds(y: Array) -> npt.NDArray[np.int64]:
    """The fold of each row: of either value, the first fifth of its rows, the second, ..."""
    fold = np.empty(len(y), dtype=np.int64)
    for value in (0, 1):
        rows = np.flatnonzero(y == value)
        fold[rows] = np.repeat(np.arange(5), len(rows) // 5)
    return fold


@pytest.mark.parametrize("seed", range(12))
def test_a_fit_is_given_up_where_it_harms_rows_left_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.repeat([1.0, 0.0], [10, 30])[rng.permutation(40)]
    p = expit(rng.normal(2 * y - 1, 1) * rng.uniform(0.5, 2))
    fold, decided, loss = _folds(y), np.zeros(40, dtype=bool), 0.0
    for number in range(5):
        out, rest = fold == number, fold != number
        decided[out] = p[out] >= Curve.of(p[rest], y[rest]).best
        grid = np.geomspace(0.05, 20, 4001)
        posterior = [log_losses(p[rest], y[rest], t).sum() + np.log(t) ** 2 / 2 for t in grid]
        loss += log_losses(p[out], y[out], grid[np.argmin(posterior)]).sum()
    harms = _f1(y, decided) < _f1(y, p >= 0.5)
    assert fit_threshold(p, y) == (0.5 if harms else Curve.of(p, y).best)
    assert (fit_temperature(p, y) != 1) == (loss < log_losses(p, y, 1.0).sum())


def test_one_row_of_a_value_fits_nothing() -> None:
    p, y = np.array([0.1, 0.2, 0.3, 0.05]), np.array([0.0, 0, 1, 0])
    assert (fit_threshold(p, y), fit_temperature(p, y)) == (0.5, 1.0)


def test_unlabelled_rows_do_not_count() -> None:
    p, y = _draw(0)
    unlabelled = np.concatenate([y, np.full(50, np.nan)])
    padded = np.concatenate([p, np.random.default_rng(1).random(50)])
    assert fit_thresholds(padded[:, None], unlabelled[:, None], ["a"]) == fit_thresholds(
        p[:, None], y[:, None], ["a"]
    )


@pytest.mark.parametrize("labels", [[1, 1], [0, 0], [math.nan, math.nan], [1, math.nan]])
def test_is_one_half_without_both_values(labels: list[float]) -> None:
    assert fit_thresholds([[0.2], [0.9]], np.array(labels)[:, None], ["a"]) == {"a": 0.5}


def test_attributes_are_fitted_apart_and_keep_their_names() -> None:
    drawn = [_draw(seed) for seed in range(3)]
    p, y = np.stack([d[0] for d in drawn], 1), np.stack([d[1] for d in drawn], 1)
    together = fit_thresholds(p, y, ["a", "b", "c"])
    apart = {n: fit_thresholds(p[:, [i]], y[:, [i]], [n])[n] for i, n in enumerate("abc")}
    assert together == apart


def test_wrong_shapes_and_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"probabilities are \(2, 1\) and labels \(2, 1\) for 2"):
        fit_thresholds([[0.1], [0.2]], [[0], [1]], ["a", "b"])
    with pytest.raises(ValueError, match="a label is -1; it has to be 1, 0 or NaN"):
        fit_thresholds([[0.1], [0.2]], [[-1], [1]], ["a"])
