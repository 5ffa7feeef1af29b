"""Thresholds: exact against a naive scan and against scikit-learn."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import precision_recall_curve

from labeling import fit_thresholds

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
    threshold = fit_thresholds(p[:, None], y[:, None], ["a"])["a"]
    scan = [*p, *np.linspace(0, 1, 2001)]
    best = max(_f1(y, p >= t) for t in scan)
    assert _f1(y, p >= threshold) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_precision_recall_curve(seed: int) -> None:
    p, y = _draw(seed)
    threshold = fit_thresholds(p[:, None], y[:, None], ["a"])["a"]
    precision, recall, cuts = precision_recall_curve(y, p)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = cuts[np.flatnonzero(np.isclose(f1[:-1], f1[:-1].max(), atol=1e-12))[-1]]
    below = p[p < best].max(initial=0.0)
    assert threshold == pytest.approx((best + below) / 2)


def test_lies_half_way_between_the_probabilities_it_separates() -> None:
    thresholds = fit_thresholds([[0.2], [0.4], [0.6], [0.9]], [[0], [0], [1], [1]], ["a"])
    assert thresholds == {"a": pytest.approx(0.5)}


def test_lies_between_zero_and_the_smallest_when_all_are_best_called_positive() -> None:
    assert fit_thresholds([[0.4], [0.6]], [[1], [0]], ["a"]) == {"a": pytest.approx(0.2)}


def test_separates_neighbouring_float32_probabilities() -> None:
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    p = np.array([[low], [high]], dtype=np.float32)
    threshold = fit_thresholds(p, [[0], [1]], ["a"])["a"]
    assert (p.astype(np.float64) >= threshold).ravel().tolist() == [False, True]


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
