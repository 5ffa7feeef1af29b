"""Distances of distributions against closed forms, naive loops and torch-fidelity; intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import linalg

from augment.metrics import frechet_distance, kid, mean_interval

Array = npt.NDArray[np.float64]


def _sets(n: int = 80, m: int = 60, width: int = 4) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, width)), rng.normal(0.4, 1.2, size=(m, width))


def _with_moments(n: int, mean: Array, covariance: Array, seed: int) -> Array:
    """A sample whose own mean and covariance are exactly these."""
    sample = np.random.default_rng(seed).normal(size=(n, len(mean)))
    sample -= sample.mean(axis=0)
    whitened = sample @ linalg.inv(linalg.cholesky(np.cov(sample.T)))
    return np.asarray(whitened @ linalg.cholesky(covariance) + mean)


def test_frechet_distance_of_commuting_gaussians_is_the_closed_form() -> None:
    a_scale, b_scale = np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.5, 3.0])
    a = _with_moments(50, np.zeros(3), np.diag(a_scale**2), 0)
    b = _with_moments(70, np.array([1.0, -2.0, 0.0]), np.diag(b_scale**2), 1)
    expected = 5 + np.square(a_scale - b_scale).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_with_rotated_covariances_is_the_textbooks_root() -> None:
    rng = np.random.default_rng(3)
    roots = [rng.normal(size=(5, 5)) for _ in range(2)]
    a, b = (
        _with_moments(40, rng.normal(size=5), r @ r.T + np.eye(5), seed)
        for seed, r in enumerate(roots)
    )
    difference = a.mean(axis=0) - b.mean(axis=0)
    product = linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = difference @ difference + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * product)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [3, 30])
def test_frechet_distance_with_fewer_images_than_features(n: int) -> None:
    a, b = _sets(n, n, width=16)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)
    # Equal covariances, of whatever rank: the means alone differ.
    assert frechet_distance(a, a + 3) == pytest.approx(16 * 9, rel=1e-12)
    # S_a^(1/2) S_b^(1/2) has the singular values of the product of the centred data.
    centred = [(x - x.mean(axis=0)) / np.sqrt(n - 1) for x in (a, b)]
    overlap = linalg.svdvals(centred[0] @ centred[1].T).sum()
    traces = sum(np.square(x).sum() for x in centred)
    expected = np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + traces - 2 * overlap
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_is_symmetric_and_does_not_see_the_coordinates() -> None:
    a, b = _sets()
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))
    expected = frechet_distance(a, b)
    assert frechet_distance(b, a) == pytest.approx(expected)
    assert frechet_distance(a @ rotation + 100, b @ rotation + 100) == pytest.approx(expected)
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * expected)
    single = [x.astype(np.float32) for x in (a + 1000, b + 1000)]
    assert frechet_distance(*single) == pytest.approx(expected, rel=1e-3)


def test_frechet_distance_needs_two_images() -> None:
    with pytest.raises(ValueError, match="b is one image, which has no covariance"):
        frechet_distance(np.zeros((2, 3)), np.zeros((1, 3)))


def _naive_mmd(a: Array, b: Array) -> float:
    def kernel(x: Array, y: Array) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    n = len(a)
    own = sum(kernel(s[i], s[j]) for s in (a, b) for i in range(n) for j in range(n) if i != j) / (
        n * (n - 1)
    )
    return own - 2 * sum(kernel(x, y) for x in a for y in b) / n**2


def test_kid_of_whole_sets_is_the_naive_unbiased_mmd() -> None:
    a, b = _sets(25, 25)
    mean, deviation = kid(a, b, subsets=3, subset_size=25)
    assert mean == pytest.approx(_naive_mmd(a, b), rel=1e-10)
    assert deviation == pytest.approx(0, abs=1e-12)


def test_kid_is_torch_fidelitys() -> None:
    library = pytest.importorskip("torch_fidelity.metric_kid")
    a, b = _sets(40, 40, width=12)
    settings = {"kid_subsets": 1, "kid_subset_size": 40, "verbose": False}
    theirs = library.kid_features_to_metric(torch.tensor(a), torch.tensor(b), **settings)
    ours, _ = kid(a, b, subsets=1, subset_size=40)
    assert ours == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-10)
    # Of subsets, which each draws its own way, mean and deviation are alike.
    settings = {"kid_subsets": 2000, "kid_subset_size": 15, "verbose": False}
    theirs = library.kid_features_to_metric(torch.tensor(a), torch.tensor(b), **settings)
    mean, deviation = kid(a, b, subsets=2000, subset_size=15)
    error = 4 * deviation * np.sqrt(2 / 2000)
    assert abs(mean - theirs["kernel_inception_distance_mean"]) < error
    assert deviation == pytest.approx(theirs["kernel_inception_distance_std"], rel=0.1)


def test_kid_is_unbiased_and_grows_with_the_shift() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 400, 3))
    same, spread = kid(a, b, subset_size=50)
    assert abs(same) < 0.3 * spread
    shifted = [kid(a, b + shift, subset_size=50)[0] for shift in (0.5, 1.0, 2.0)]
    assert same < shifted[0] < shifted[1] < shifted[2]
    assert kid(a, b, subset_size=50, seed=0) == (same, spread)
    assert kid(a, b, subset_size=50, seed=1) != (same, spread)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "subset_size is 1000; with 60 images in the smaller set, give 1 to 60"),
        ({"subset_size": 1}, "give at least 1 and 2"),
        ({"subset_size": 10, "subsets": 0}, "give at least 1 and 2"),
    ],
)
def test_kid_refuses(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kid(*_sets(), **settings)


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        interval = mean_interval(rng.exponential(size=60), resamples=300, seed=trial)
        assert interval.low < interval.mean < interval.high
        hits += interval.low <= 1 <= interval.high
    assert 180 <= hits <= 198  # Percentile intervals of skewed values fall a little short of 190.


def test_interval_leaves_nan_out_and_takes_booleans() -> None:
    values = np.array([1.0, 2.0, 4.0, np.nan])
    assert mean_interval(values) == mean_interval(values[:3])
    assert mean_interval(values).mean == pytest.approx(7 / 3)
    assert mean_interval([True, False, True, True]).mean == 0.75
    assert mean_interval([2.0, 2.0]) == (2, 2, 2)
    np.testing.assert_array_equal(mean_interval([3.0]), [3, np.nan, np.nan])
    np.testing.assert_array_equal(mean_interval([np.nan]), [np.nan] * 3)
    with pytest.raises(ValueError, match=r"are \(1, 2\), 0.95 and 1000; give values \(N,\)"):
        mean_interval([[1.0, 2.0]])
