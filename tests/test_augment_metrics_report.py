"""The tables and pictures of measured sets, from made-up features."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from augment.metrics import Measured, Orders, Reference, frechet_distance, kid, measure
from augment.metrics.pictures import ImageSet, contact_sheet, density_plot
from augment.metrics.report import distances, likeness, measure_sets, rarest, set_row, text_table

SMALL = Orders(avg_knn=2, lof=4, rarity=2, precision=2, density=2)


def test_means_come_with_intervals_and_the_rarity_is_of_the_manifold() -> None:
    generator = np.random.default_rng(0)
    real = generator.normal(size=(80, 3)).astype(np.float32)
    reference = Reference(real, SMALL)

    def row(generated: np.ndarray) -> dict[str, float]:
        measured: Measured = measure(generated.astype(np.float32), reference)
        return set_row(measured, measured)

    found = row(real + 0.01)
    for name in ("avg_knn", "lof", "rarity", "in_manifold"):
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]
    far = row(real + 50)
    assert far["avg_knn"] > found["avg_knn"] + 40
    assert far["in_manifold"] == 0
    assert np.isnan(far["rarity"])
    collapsed = np.tile(real[:1], (40, 1)) + generator.normal(scale=1e-3, size=(40, 3))
    spread = row(collapsed)
    assert spread["precision"] == 1
    assert spread["recall_low"] <= spread["recall"] < 0.2


def test_kid_is_over_subsets_of_half_the_smaller_set() -> None:
    real, made = (np.random.default_rng(n).normal(size=(n, 3)) for n in (30, 41))
    found = distances(made, real)
    assert (found["kid"], found["kid_std"]) == kid(real, made, subset_size=15)
    assert found["kid_std"] > 0
    assert found["frechet"] == frechet_distance(real, made)
    assert distances(made + 1, real)["kid"] > found["kid"] + found["kid_std"]
    assert distances(made[:2], real)["kid_std"] > 0  # the fewest that have a variance


def _set(name: str, n: int) -> ImageSet:
    names = [f"{i}.png" for i in range(n)]
    return ImageSet(name=name, paths=names, file_names=names)


def test_a_tail_changes_what_sets_are_compared_with_and_not_how_rare_they_are() -> None:
    generator = np.random.default_rng(0)
    real, made = (torch.tensor(generator.normal(size=(50, 2))) for _ in range(2))
    sets = _set("real", 50), [_set("made", 50)]
    whole = measure_sets(*sets, [real, made], orders=SMALL)
    tail = measure_sets(*sets, [real, made], tail_count=10, orders=SMALL)
    assert len(tail.reference) == 10
    rarest = whole.images["real"]["avg_knn"].nlargest(10)
    assert sorted(tail.reference["row"]) == sorted(rarest.index)
    assert whole.table.loc[1, "frechet"] != tail.table.loc[1, "frechet"]
    pd.testing.assert_frame_equal(whole.images["made"], tail.images["made"])
    tailed = kid(real[tail.reference["row"].to_list()], made, subset_size=5)
    assert (tail.table.loc[1, "kid"], tail.table.loc[1, "kid_std"]) == tailed
    assert whole.table.loc[0, ["frechet", "kid", "kid_std"]].isna().all()
    with pytest.raises(ValueError, match=r"tail"):
        measure_sets(*sets, [real, made], tail_count=51, orders=SMALL)
    printed = text_table(whole.table).splitlines()
    assert len(printed) == 3
    assert printed[1].split()[:4] == ["real", "50", "-", "-"]
    assert f"{whole.table.loc[1, 'kid']:.4g} (sd {whole.table.loc[1, 'kid_std']:.2g})" in printed[2]


def test_every_set_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    legends = []
    monkeypatch.setattr(Figure, "legend", lambda _, handles, **kwargs: legends.append(handles))
    rng = np.random.default_rng(0)
    measured = {
        f"{i}": pd.DataFrame(rng.normal(size=(9, 2)), columns=["avg_knn", "lof"]) for i in range(9)
    }
    density_plot(measured)
    strokes = {(line.get_color(), line.get_linestyle()) for line in legends[0]}
    assert [line.get_label() for line in legends[0]] == list(measured)
    assert len(strokes) == 9


def test_a_contact_sheet_holds_its_titles_and_says_between_which_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = []
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda _, at, text, *a, **k: written.append(text)
    )
    scores = {"a": pd.DataFrame({"avg_knn": [1.0, 2.5]})}
    read = {"0.png": Image.new("L", (8, 8)), "1.png": Image.new("RGB", (20, 9))}.__getitem__
    sheet = contact_sheet([_set("a", 2)], scores, read, rarest=True)
    assert written == ["a: AvgkNN from 2.5 to 1"]
    with Image.open(BytesIO(sheet)) as picture:
        assert picture.width >= ImageFont.load_default(size=15).getlength(written[0])


def test_sets_of_large_and_small_images_are_shown_in_one_size() -> None:
    scores = {name: pd.DataFrame({"avg_knn": np.arange(24.0)}) for name in ("large", "small")}
    sides = iter([100] * 24 + [32] * 24)
    sheet = contact_sheet(
        [_set("large", 24), _set("small", 24)],
        scores,
        lambda path: Image.new("RGB", (next(sides),) * 2, "black"),
        rarest=True,
    )
    with Image.open(BytesIO(sheet)) as picture:
        is_black = np.asarray(picture.convert("L")) < 128
    tiles = is_black[:, -50]  # a column of pixels through the last tile of every row
    assert tiles.sum() == 4 * 100


def test_rarest_keeps_the_order_of_equals() -> None:
    np.testing.assert_array_equal(rarest([1.0, 2.0, 1.0, 2.0], 3), [1, 3, 0])


def test_the_tail_is_the_rarest_first_and_is_written(tmp_path: Path) -> None:
    real, made = (torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) for n in (30, 9))
    results = measure_sets(
        _set("real", 30), [_set("made", 9)], [real, made], tail_count=10, orders=SMALL
    )
    scores = Reference(real, SMALL).avg_knn
    results.write(tmp_path, lambda path: Image.new("L", (4, 4)))
    written = pd.read_csv(tmp_path / "reference.csv")
    assert list(written) == ["file_name", "avg_knn"]
    np.testing.assert_allclose(written["avg_knn"], np.sort(scores)[::-1][:10])
    places = [int(name.removesuffix(".png")) for name in written["file_name"]]
    np.testing.assert_allclose(scores[places], written["avg_knn"])


def test_likeness_to_a_tail_is_that_of_measuring_against_it() -> None:
    generator = torch.Generator().manual_seed(0)
    real, made = (torch.randn(n, 3, generator=generator) for n in (60, 40))
    sets = [ImageSet(name=n, paths=[n] * k, file_names=[n] * k) for n, k in (("a", 60), ("b", 40))]
    results = measure_sets(*sets[:1], sets[1:], [real, made], tail_count=20)
    rows = torch.tensor(results.reference["row"].tolist())
    found, row = likeness(made, real[rows]), results.table.iloc[1]
    assert {"frechet", "kid", "precision", "precision_low", "recall", "coverage"} <= found.keys()
    for name, value in found.items():
        assert value == pytest.approx(row[name], rel=1e-6), name
