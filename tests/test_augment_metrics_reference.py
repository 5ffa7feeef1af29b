"""One search for all scores gives what each function gives; the real tail, saved and read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from augment.metrics import (
    Orders,
    Reference,
    avg_knn,
    density_coverage,
    lof,
    measure,
    precision_mask,
    precision_recall,
    rarest,
    rarity,
    read_tail,
    real_avg_knn,
    real_lof,
    save_tail,
    tail,
)

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(70, 4))
GENERATED = RNG.normal(0.5, 1.2, size=(50, 4))
TABLE = pd.DataFrame(
    {"file_name": [f"{i}.png" for i in range(70)], "split": "train", "path": "/elsewhere"},
    index=range(100, 170),
)


@pytest.mark.parametrize("orders", [Orders(), Orders(avg_knn=30, lof=7, rarity=4, density=2)])
def test_measure_is_every_function_at_once(orders: Orders) -> None:
    reference = Reference(REAL, orders)
    found = measure(GENERATED, reference)
    close = np.testing.assert_allclose
    close(found.avg_knn, avg_knn(GENERATED, REAL, k=orders.avg_knn))
    close(found.lof, lof(GENERATED, REAL, k=orders.lof))
    close(found.rarity, rarity(GENERATED, REAL, k=orders.rarity))
    np.testing.assert_array_equal(found.inside, precision_mask(GENERATED, REAL, k=orders.precision))
    precision, recall = precision_recall(REAL, GENERATED, k=orders.precision)
    assert (found.inside.mean(), found.recalled.mean()) == pytest.approx((precision, recall))
    both = density_coverage(REAL, GENERATED, k=orders.density)
    assert (found.density, found.coverage) == pytest.approx(both)
    close(reference.avg_knn, real_avg_knn(REAL, k=orders.avg_knn))
    close(reference.lof, real_lof(REAL, k=orders.lof))


def test_a_reference_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import augment.metrics.reference

    searches = []
    search = augment.metrics.reference.nearest_others
    monkeypatch.setattr(
        augment.metrics.reference,
        "nearest_others",
        lambda *a, **k: searches.append(1) or search(*a, **k),
    )
    reference = Reference(REAL)
    assert not searches
    measure(GENERATED, reference)
    measure(REAL[:20], reference)
    assert len(reference.lof) == len(reference.avg_knn) == 70
    assert len(searches) == 1


def test_too_small_a_set_is_refused_before_the_search() -> None:
    with pytest.raises(ValueError, match="the k of lof is 20, but with 20 real images allowed"):
        Reference(REAL[:20])
    with pytest.raises(ValueError, match="rarity is 0; give at least 1"):
        Orders(rarity=0)
    with pytest.raises(ValueError, match="k is 3, but with 3 points allowed are 1 to 2"):
        measure(GENERATED[:3], Reference(REAL))
    with pytest.raises(ValueError, match="generated 3 on cpu, real 4 on cpu"):
        measure(GENERATED[:, :3], Reference(REAL))


def test_tail_is_the_rarest_first() -> None:
    rows = tail(REAL, TABLE, 10)
    scores = real_avg_knn(REAL)
    assert len(rows) == 10
    assert (rows["avg_knn"].diff().dropna() <= 0).all()
    np.testing.assert_allclose(rows["avg_knn"], np.sort(scores)[::-1][:10])
    np.testing.assert_allclose(scores[rows.index - 100], rows["avg_knn"])
    assert (rows.index == TABLE.index[rarest(scores, 10)]).all()
    assert "avg_knn" not in TABLE


def test_rarest_keeps_the_order_of_equals() -> None:
    np.testing.assert_array_equal(rarest([1.0, 2.0, 1.0, 2.0], 3), [1, 3, 0])


def test_tail_is_saved_and_read_against_its_images(tmp_path: Path) -> None:
    rows = tail(REAL, TABLE, 10)
    file = tmp_path / "tail.csv"
    save_tail(file, rows)
    assert "path" not in pd.read_csv(file)
    shuffled = TABLE.sample(frac=1, random_state=0).assign(path="/moved")
    found = read_tail(file, shuffled)
    assert list(found["file_name"]) == list(rows["file_name"])
    assert (found.index == rows.index).all()
    assert (found["path"] == "/moved").all()
    np.testing.assert_allclose(found["avg_knn"], rows["avg_knn"], rtol=1e-12)
    with pytest.raises(ValueError, match=r"names 1 images that the real set lacks, the first "):
        read_tail(file, TABLE.drop(index=rows.index[4]))
    with pytest.raises(ValueError, match="is there already"):
        save_tail(file, rows)


def test_tail_refuses(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 70 features and a table of 69 rows"):
        tail(REAL, TABLE[:-1], 3)
    with pytest.raises(ValueError, match="count is 71, but with 70 real images allowed are 1 to"):
        tail(REAL, TABLE, 71)
    with pytest.raises(FileNotFoundError, match=r"tail.csv is missing"):
        read_tail(tmp_path / "tail.csv", TABLE)
    other = tmp_path / "other.csv"
    TABLE.to_csv(other)
    with pytest.raises(ValueError, match="has no rows with file_name and avg_knn"):
        read_tail(other, TABLE)
