"""Scores against PyOD, scikit-learn and naive loops; their directions and invariances."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.neighbors import LocalOutlierFactor

from augment.metrics import (
    Orders,
    Reference,
    Scores,
    avg_knn,
    lof,
    measure,
    precision_mask,
    rarity,
)

Array = npt.NDArray[np.float64]
SCORES: list[Callable[..., Scores]] = [avg_knn, lof, rarity]


def _reference(real: Array, **orders: int) -> Reference:
    return Reference(real, Orders(**{**dict.fromkeys(vars(Orders()), 1), **orders}))


def _pyod(module: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Whatever PyOD's own imports complain of.
        found: ModuleType = pytest.importorskip(f"pyod.models.{module}")
    return found


def _clusters() -> Array:
    rng = np.random.default_rng(2)
    return np.concatenate([rng.normal(c, s, (40, 5)) for c, s in ((0, 1), (30, 0.1), (-9, 3))])


def _duplicates() -> Array:
    return np.repeat(np.random.default_rng(3).normal(size=(30, 4)), 3, axis=0)


SETS = {
    "gaussian": np.random.default_rng(1).normal(size=(150, 6)),
    "clusters": _clusters(),
    "duplicates": _duplicates(),
    "one point": np.full((40, 3), 7.0),
    "one column": np.random.default_rng(4).normal(size=(60, 1)),
}


def _queries(real: Array) -> Array:
    """Some among the real ones, some copies of them, some far away."""
    rng = np.random.default_rng(5)
    near = real[:15] + rng.normal(size=(15, real.shape[1]))
    return np.concatenate([near, real[::9], near[:5] + 50])


@pytest.fixture(params=SETS.values(), ids=SETS.keys())
def real(request: pytest.FixtureRequest) -> Array:
    return np.asarray(request.param)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a set of some dozens is several blocks."""
    monkeypatch.setattr("augment.metrics.vectors.BLOCK", 16)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("k", [1, 5])
def test_avg_knn_is_pyods(real: Array, k: int) -> None:
    theirs = _pyod("knn").KNN(n_neighbors=k, method="mean").fit(real)
    generated = _queries(real)
    np.testing.assert_allclose(
        avg_knn(generated, real, k=k), theirs.decision_function(generated), rtol=1e-9, atol=1e-9
    )
    own = theirs.decision_scores_
    ours = _reference(real, avg_knn=k).avg_knn
    np.testing.assert_allclose(ours, own, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", ["gaussian", "clusters", "one column"])
def test_lof_is_scikit_learns(name: str) -> None:
    real, generated = SETS[name], _queries(SETS[name])
    theirs = LocalOutlierFactor(n_neighbors=20, novelty=True).fit(real)
    np.testing.assert_allclose(lof(generated, real), -theirs.score_samples(generated), rtol=1e-9)
    np.testing.assert_allclose(
        _reference(real, lof=20).lof, -theirs.negative_outlier_factor_, rtol=1e-9
    )


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", ["gaussian", "clusters", "one column"])
def test_lof_is_pyods(name: str) -> None:
    real, generated = SETS[name], _queries(SETS[name])
    theirs = _pyod("lof").LOF(n_neighbors=20).fit(real)
    np.testing.assert_allclose(lof(generated, real), theirs.decision_function(generated), rtol=1e-9)
    np.testing.assert_allclose(_reference(real, lof=20).lof, theirs.decision_scores_, rtol=1e-9)


@pytest.mark.usefixtures("small_blocks")
def test_lof_among_duplicates_is_finite_and_one() -> None:
    # Every third neighbour is a copy: with k = 2 the densities are 1e10 throughout.
    real = SETS["duplicates"]
    np.testing.assert_allclose(_reference(real, lof=2).lof, 1)
    np.testing.assert_allclose(lof(real[:3], real, k=2), 1)
    assert (lof(real[:3] + 1, real, k=2) > 1e6).all()
    np.testing.assert_allclose(_reference(SETS["one point"], lof=5).lof, 1)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("k", [3, 5])
def test_rarity_is_the_smallest_holding_ball_of_a_naive_loop(real: Array, k: int) -> None:
    generated = _queries(real)
    radii = [np.sort(np.linalg.norm(real - r, axis=1))[k] for r in real]
    expected = []
    for g in generated:
        holding = [
            radius
            for r, radius in zip(real, radii, strict=True)
            if np.linalg.norm(g - r) < radius * (1 - 1e-12)
        ]
        expected.append(min(holding, default=np.nan))
    ours = rarity(generated, real, k=k)
    np.testing.assert_allclose(ours, expected, rtol=1e-9)
    assert np.isnan(ours[-1])  # 50 away


def test_a_ball_is_open() -> None:
    real = np.array([[0.0], [1.0], [3.0]])  # Radii of order 1: 1, 1, 2.
    scores = rarity(np.array([[0.5], [2.0], [1.0], [5.0], [-1.0]]), real, k=1)
    np.testing.assert_array_equal(scores, [1, 2, 1, np.nan, np.nan])


@pytest.mark.parametrize("score", SCORES, ids=lambda s: s.__name__)
def test_scores_do_not_see_the_coordinates(score: Callable[..., Scores]) -> None:
    real = SETS["gaussian"]
    generated = real[:40] + np.random.default_rng(0).normal(size=(40, 6)) / 2
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))
    expected = score(generated, real)
    assert np.isfinite(expected).any()
    for move in (
        lambda x: x @ rotation,
        lambda x: x + 1e4,
        lambda x: x[:, ::-1],
    ):
        np.testing.assert_allclose(score(move(generated), move(real)), expected, rtol=1e-7)
    units = 1 if score is lof else 7
    np.testing.assert_allclose(score(7 * generated, 7 * real), units * expected, rtol=1e-5)
    order = np.random.default_rng(2).permutation(len(real))
    np.testing.assert_allclose(score(generated, real[order]), expected, rtol=1e-12)


def test_direction_farther_out_is_rarer() -> None:
    real = np.random.default_rng(0).normal(size=(400, 2))
    outward = np.linspace(0, 6, 7)[:, None] * np.array([[0.6, 0.8]])
    assert (np.diff(avg_knn(outward, real)[2:]) > 0).all()
    assert (np.diff(lof(outward, real)[4:]) > 0).all()
    scores = rarity(outward, real)
    assert scores[2] > scores[0]
    assert np.isnan(scores[-1])


def test_own_scores_leave_the_image_itself_out() -> None:
    real = SETS["gaussian"]
    assert (_reference(real).avg_knn > 0).all()
    np.testing.assert_array_equal(avg_knn(real, real, k=1), 0)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_tensors_do_as_arrays_do(kind: torch.dtype) -> None:
    real = torch.from_numpy(SETS["gaussian"]).to(kind)
    expected = lof(real[:9].numpy() + 1, real.numpy())
    assert expected.dtype == np.float64
    np.testing.assert_array_equal(lof(real[:9] + 1, real), expected)


@pytest.mark.parametrize("score", SCORES, ids=lambda s: s.__name__)
def test_refusals_are_one_line(score: Callable[..., Scores]) -> None:
    real = np.random.default_rng(0).normal(size=(30, 4))
    spoilt = real.copy()
    spoilt[17, 2] = np.nan
    for generated, against, k, message in (
        (real, real, 31, "k is 31; with 30 points, give 1 to "),
        (real, real, 0, "k is 0; with 30 points, give 1 to "),
        (real[:, :3], real, 3, "3 on cpu, .* 4 on cpu; give features of one encoder"),
        (real, spoilt, 3, "row 17 of real has entries that are NaN"),
        (real[:0], real, 3, r"shape \(0, 4\); give a floating"),
        (real, real[:0], 3, r"shape \(0, 4\); give a floating"),
        (real[0], real, 3, r"shape \(4,\); give a floating"),
        (real.astype(int), real, 3, "generated is int64 of shape"),
    ):
        with pytest.raises(ValueError, match=message) as refusal:
            score(generated, against, k=k)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["avg_knn", "lof"])
def test_an_image_is_no_neighbour_of_its_own(name: str) -> None:
    message = f"neighbours.{name} is 5; with 5 real images, give 1 to 4, or more images"
    with pytest.raises(ValueError, match=message):
        _reference(np.zeros((5, 2)), **{name: 5})
    with pytest.raises(ValueError, match="1 real images are too few for any"):
        _reference(np.zeros((1, 2)))


REAL = np.random.default_rng(0).normal(size=(70, 4))
GENERATED = np.random.default_rng(1).normal(0.5, 1.2, size=(50, 4))


@pytest.mark.parametrize("orders", [Orders(), Orders(avg_knn=30, lof=7, rarity=4, density=2)])
def test_measure_is_every_function_at_once(orders: Orders) -> None:
    found = measure(GENERATED, Reference(REAL, orders))
    close = np.testing.assert_allclose
    close(found.avg_knn, avg_knn(GENERATED, REAL, k=orders.avg_knn))
    close(found.lof, lof(GENERATED, REAL, k=orders.lof))
    close(found.rarity, rarity(GENERATED, REAL, k=orders.rarity))
    np.testing.assert_array_equal(found.inside, precision_mask(GENERATED, REAL, k=orders.precision))


def test_a_reference_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import augment.metrics.scores

    searches = []
    search = augment.metrics.scores.nearest_others

    def counted(points: torch.Tensor, *, k: int) -> object:
        searches.append(len(points))
        return search(points, k=k)

    monkeypatch.setattr(augment.metrics.scores, "nearest_others", counted)
    reference = Reference(REAL)
    assert not searches
    measure(GENERATED, reference)
    measure(REAL[:20], reference)
    assert len(reference.lof) == len(reference.avg_knn) == 70
    assert searches == [70, 50, 20]


def test_too_small_a_set_is_refused_before_the_search() -> None:
    with pytest.raises(
        ValueError, match=r"neighbours.lof is 20; with 20 real images, give 1 to 19"
    ):
        Reference(REAL[:20])
    with pytest.raises(ValueError, match=r"neighbours.rarity is 0; give at least 1"):
        Orders(rarity=0)
    with pytest.raises(ValueError, match="k is 3; with 3 points, give 1 to 2"):
        measure(GENERATED[:3], Reference(REAL))
    with pytest.raises(ValueError, match="generated 3 on cpu, real 4 on cpu"):
        measure(GENERATED[:, :3], Reference(REAL))


def _four(real: Array, generated: Array, k: int = 3) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage."""
    found = measure(generated, _reference(real, precision=k, density=k))
    return found.inside.mean(), found.recalled.mean(), found.density, found.coverage


def _naive(real: Array, generated: Array, k: int) -> list[float]:
    """The definitions of Kynkäänniemi et al. and Naeem et al. (package prdc), by loops."""

    def radius(x: Array, of: Array) -> float:
        return float(np.sort([np.linalg.norm(x - y) for y in of])[k])

    real_radii = [radius(r, real) for r in real]
    generated_radii = [radius(g, generated) for g in generated]
    apart = np.array([[np.linalg.norm(r - g) for g in generated] for r in real])
    held = apart < np.array(real_radii)[:, None]
    return [
        held.any(axis=0).mean(),
        (apart < np.array(generated_radii)).any(axis=1).mean(),
        held.sum(axis=0).mean() / k,
        (apart.min(axis=1) < real_radii).mean(),
    ]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_four_are_those_of_a_naive_loop(k: int) -> None:
    expected = _naive(REAL, GENERATED, k)
    assert all(0.05 < value < 1.5 for value in expected)
    np.testing.assert_allclose(_four(REAL, GENERATED, k), expected, rtol=1e-12)
    assert precision_mask(GENERATED, REAL, k=k).mean() == pytest.approx(expected[0])


def test_direction_collapse_is_precise_and_recalls_little() -> None:
    real, other = np.random.default_rng(0).normal(size=(2, 300, 3))
    collapsed = real[:1] * 0.1 + np.random.default_rng(1).normal(0, 0.01, size=(300, 3))
    precision, recall, _, coverage = _four(real, collapsed)
    assert precision == 1
    assert recall < 0.05
    assert coverage < 0.2
    precision, recall, _, coverage = _four(real, other)
    assert min(precision, recall, coverage) > 0.8


def test_direction_far_outliers_raise_avg_knn_and_lower_precision() -> None:
    real, generated = np.random.default_rng(0).normal(size=(2, 200, 3))
    spoilt = np.concatenate([generated, np.full((20, 3), 40.0) + generated[:20]])
    assert avg_knn(spoilt, real).mean() > 2 * avg_knn(generated, real).mean()
    assert _four(real, spoilt)[0] < _four(real, generated)[0]
    np.testing.assert_array_equal(precision_mask(spoilt, real)[-20:], False)


def test_the_four_do_not_see_the_coordinates() -> None:
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))
    expected = _four(REAL, GENERATED)
    assert _four(REAL @ rotation, GENERATED @ rotation) == expected
    assert _four(REAL + 1e3, GENERATED + 1e3) == expected
    assert _four(REAL * 7, GENERATED * 7) == expected


def test_an_open_ball_among_copies_holds_nothing() -> None:
    copies = np.ones((10, 3))
    assert _four(copies, copies) == (0, 0, 0, 0)
