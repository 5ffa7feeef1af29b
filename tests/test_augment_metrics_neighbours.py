"""The engine: exact neighbours and ball membership, whatever float32 products lose."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from augment.metrics import Neighbours, nearest, nearest_others
from augment.metrics.neighbours import Balls, Nearest, _distances, blocks

N, D = 90, 12


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("augment.metrics.vectors.BLOCK", 16)


def _points(kind: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(N, D, generator=generator, dtype=torch.float64)
    if kind == "far away":
        return points + 1e5
    if kind == "tight clusters":  # Spread 1e-5 of their distance: a float32 product sees nothing.
        return points * 1e-3 + 100 * (torch.arange(N)[:, None] % 2)
    if kind == "one giant":
        points[5] *= 1e6
    return points * SCALES.get(kind, 1)


SCALES = {"huge": 1e20, "huger": 1e95, "tiny": 1e-25}  # Whose squares float32 cannot hold.
KINDS = ["plain", "far away", "tight clusters", "one giant", *SCALES]


def _expected(queries: Tensor, points: Tensor, k: int) -> np.ndarray:
    # By differences, unlike scikit-learn's brute force.
    engine = NearestNeighbors(n_neighbors=k, algorithm="kd_tree").fit(points.numpy())
    return np.asarray(engine.kneighbors(queries.numpy())[0])


def _check(found: Neighbours, queries: Tensor, points: Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.distances, expected, rtol=1e-6)
    distances = (queries[:, None].double() - points[found.indices].double()).norm(dim=2)
    precision = 1e-12 if points.dtype == torch.float64 else 1e-7
    np.testing.assert_allclose(found.distances, distances, rtol=precision)
    assert all(len(set(row.tolist())) == len(row) for row in found.indices)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 7])
def test_neighbours_are_exact(kind: str, k: int) -> None:
    points = _points(kind)
    apart = kind not in ("tight clusters", "one giant")
    queries = points[:40].flip(1) if apart else points[:40] + 2e-4
    _check(nearest(queries, points, k=k), queries, points, _expected(queries, points, k))
    own = nearest_others(points, k=k)
    _check(own, points, points, _expected(points, points, k + 1)[:, 1:])
    assert (own.indices != torch.arange(N)[:, None]).all()


def test_float32_features_far_from_the_origin() -> None:
    points = (_points("plain") + 1000).float()  # Rounded to 6e-5, which is then the truth.
    expected = _expected(points.double(), points.double(), 6)[:, 1:]
    _check(nearest_others(points, k=5), points, points, expected)


def test_float32_features_of_tight_clusters() -> None:
    # About the middle, which is near 0, float32 has no more than 3 digits of what sets them apart.
    points = (_points("plain") * 2e-5 + 100 * (torch.arange(N)[:, None] % 2)).float()
    expected = _expected(points.double(), points.double(), 6)[:, 1:]
    _check(nearest_others(points, k=5), points, points, expected)


@pytest.mark.parametrize("factor", [1e20, 5e37, 1e-25])
def test_float32_features_whose_squares_float32_cannot_hold(factor: float) -> None:
    points = (_points("plain") * factor).float()
    expected = _expected(points.double(), points.double(), 6)[:, 1:]
    _check(nearest_others(points, k=5), points, points, expected)


def test_arrays_of_other_byte_order_and_bfloat16_are_read() -> None:
    points = _points("plain").float()
    expected = nearest_others(points, k=3).distances
    swapped = points.numpy().astype(">f4")
    torch.testing.assert_close(nearest_others(swapped, k=3).distances, expected)
    coarse = points.bfloat16()
    expected = nearest_others(coarse.float(), k=3).distances
    torch.testing.assert_close(nearest_others(coarse, k=3).distances, expected)


def test_what_is_no_array_is_refused() -> None:
    with pytest.raises(ValueError, match=r"points is list of shape \(2, 2\); give a floating"):
        nearest_others([[1.0, 2.0], [3.0, 4.0]], k=1)  # type: ignore[arg-type]


def test_an_outlier_does_not_blur_the_others() -> None:
    points = _points("plain").float()
    points[5] = 1e9  # Which moves the mean far from all others.
    expected = _expected(points.double(), points.double(), 6)[:, 1:]
    _check(nearest_others(points, k=5), points, points, expected)


def test_features_beyond_what_sums_of_squares_hold_are_refused() -> None:
    points = _points("plain")
    points[7] *= 1e110
    with pytest.raises(
        ValueError, match=r"row 7 of points has entries that are NaN, infinite or beyond"
    ):
        nearest_others(points, k=1)


def test_a_product_of_coarse_type_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    points = _points("plain")
    assert {block.squares.dtype for block in blocks(points, points)} == {torch.float64}


def test_the_second_search_is_what_makes_tight_clusters_exact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = _points("tight clusters")
    expected = _expected(points, points, 4)[:, 1:]
    monkeypatch.setattr(Nearest, "_doubtful", lambda _, last: torch.zeros(len(last)).bool())
    assert (nearest_others(points, k=3).distances.numpy() > 1.01 * expected).any()


def test_candidates_to_spare_decide_nearly_every_row_at_once() -> None:
    points = _points("plain")
    found = Nearest(points, points, 7, torch.arange(N))
    for block in blocks(points, points):
        found.add(block)
    assert not found._doubtful(found._measured().distances[:, -1]).any()


def test_every_pair_is_shown_once_and_a_set_to_itself_at_half_the_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = _points("plain")
    products = []
    multiply = torch.addmm
    monkeypatch.setattr(torch, "addmm", lambda *a, **k: products.append(1) or multiply(*a, **k))
    seen = torch.zeros(N, N)
    whole = torch.full((N, N), torch.nan, dtype=torch.float64)
    for block in blocks(points, points):
        seen[block.rows, block.columns] += 1
        whole[block.rows, block.columns] = block.squares.double() * block.scale**2
    each = -(-N // 16)
    assert (seen == 1).all()
    assert len(products) == each * (each + 1) // 2
    expected = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    torch.testing.assert_close(whole, expected.square(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [3, 300, 2048])
def test_the_noise_bounds_the_products_error(width: int, dtype: torch.dtype) -> None:
    features = torch.randn(64, width, generator=torch.Generator().manual_seed(1)).relu()
    features[1:20] = features[:19] + 1e-4
    for block in blocks(features, features, dtype):
        a, b = features[block.rows].double(), features[block.columns].double()
        true = (a[:, None] - b[None]).square().sum(dim=2) / block.scale**2
        error = (block.squares.double() - true).abs()
        assert (error <= block.row_noise[:, None] + block.column_noise).all()
        assert error.max() > 0


@pytest.mark.parametrize("width", [12, 3000])
def test_a_distance_is_the_same_to_the_last_bit_however_many_are_measured(width: int) -> None:
    points = torch.randn(40, width, generator=torch.Generator().manual_seed(1))
    rows, columns = torch.arange(40), torch.arange(40).flip(0)
    together = _distances(points, points, rows, columns)
    alone = [_distances(points, points, columns[[i]], rows[[i]]) for i in range(40)]
    assert torch.equal(together, torch.cat(alone))


def _balls(queries: Tensor, centres: Tensor, radii: Tensor) -> Balls:
    found = Balls(queries, centres, radii)
    for block in blocks(queries, centres):
        found.add(block)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_balls_hold_what_float64_says(kind: str) -> None:
    points = _points(kind)
    queries = points[:50] + points[10:60].roll(1, dims=1) * 1e-6
    reach = nearest_others(points, k=4).distances[:, -1]
    distances = (queries[:, None] - points[None]).norm(dim=2)
    inside = distances < reach
    found = _balls(queries, points, torch.stack([reach, reach / 2], dim=1))
    for i, (radii, held) in enumerate([(reach, inside), (reach / 2, distances < reach / 2)]):
        assert torch.equal(found.count[:, i], held.sum(dim=1))
        assert torch.equal(found.members[:, i], held.sum(dim=0))
        smallest = torch.where(held, radii, torch.inf).amin(dim=1)
        assert torch.equal(found.smallest[:, i], smallest)


def test_a_point_at_the_radius_is_outside_to_the_last_bit() -> None:
    points = _points("far away")
    found = nearest_others(points, k=4)
    queries = points[found.indices[:, -1]]  # Each lies exactly on the sphere of one ball.
    alone = [
        _balls(queries[i : i + 1], points[i : i + 1], found.distances[i : i + 1, -1:])
        for i in range(N)
    ]
    assert not any(int(ball.count) for ball in alone)


def test_read_only_memory_is_read(tmp_path: object) -> None:
    file = f"{tmp_path}/features.npy"
    np.save(file, _points("plain").float().numpy())
    mapped = np.load(file, mmap_mode="r")
    found = nearest(mapped, mapped, k=1)
    assert (found.distances == 0).all()
    assert torch.equal(found.indices[:, 0], torch.arange(N))
