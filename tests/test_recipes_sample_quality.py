"""Sample quality: correlations are scipy's, and every set of a run is measured."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

import recipes.sample_quality
from recipes.sample_quality import chart, main, rank_agreement


def _images(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=n)
    return pd.DataFrame(
        {
            "avg_knn": np.exp(-truth),
            "lof": rng.normal(size=n),
            "rarity": np.where(np.arange(n) < 10, np.nan, -truth + rng.normal(size=n)),
            "minority_score": rng.normal(size=n) - truth,
            "log_probability": truth,
        }
    )


def test_correlations_are_spearmans_and_higher_means_rarer() -> None:
    table = _images()
    found = rank_agreement({"real": table}).set_index(["measure", "against"])
    for measure in ("lof", "rarity", "minority_score"):
        there = table.dropna()
        there = there if measure == "rarity" else table
        wanted = stats.spearmanr(there[measure], -there["log_probability"]).statistic
        row = found.loc[(measure, "log_probability")]
        assert row["correlation"] == pytest.approx(wanted)
        assert row["low"] < wanted < row["high"]
        assert row["images"] == len(there)
    assert found.loc[("avg_knn", "log_probability"), "correlation"] == pytest.approx(1)
    assert ("minority_score", "minority_score") not in found.index


def test_what_is_lacking_or_does_not_vary_has_no_correlation() -> None:
    table = _images().drop(columns="log_probability").assign(lof=1.0)
    found = rank_agreement({"plain": table, "none": table[:2]})
    assert set(found["against"]) == {"minority_score"}
    assert set(found["measure"]) == {"avg_knn", "rarity"}


def test_the_chart_has_a_panel_for_each_thing_compared_with() -> None:
    panels = chart(rank_agreement({"real": _images(), "plain": _images()})).axes
    titles = [axes.get_title() for axes in panels]
    assert titles == ["with the minority score", "with minus the log-probability"]


def test_a_set_has_one_colour_in_every_panel_and_in_the_legend() -> None:
    figure = chart(
        rank_agreement({"real": _images().drop(columns="minority_score"), "plain": _images()})
    )
    colours = [
        [
            container.lines[0].get_color()
            for container in axes.containers
            if len(container.lines[0].get_xdata())
        ]
        for axes in figure.axes
    ]
    assert colours == [["C0", "C1"], ["C1"]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["real", "plain"]


def test_every_set_of_a_run_is_measured_against_its_real_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = {}
    for name, count in (("data", 44), ("first", 6), ("second", 5), ("third", 4)):
        folder = tmp_path / name
        folder.mkdir()
        rng = np.random.default_rng(count)
        paths = [str(folder / f"{i}.png") for i in range(count)]
        for path in paths:
            Image.fromarray(rng.integers(256, size=(16, 16, 3), dtype=np.uint8)).save(path)
        tables[name] = pd.DataFrame({"path": paths})
    tables["data"]["split"] = ["train"] * 36 + ["test"] * 8
    config = SimpleNamespace(
        synthetic_sets=dict.fromkeys(["first", "second", "third"]),
        generator="avatars-32",
        data=Path("data"),
    )
    for name, value in {
        "run_settings": lambda run: config,
        "real_table": lambda run, config: tables["data"],
        "synthetic_table": lambda run, name: tables[name],
        "labeler_source": lambda config, run: "avatars",
        "score_files": lambda denoiser, paths, *_, **__: np.arange(len(paths), dtype=float),
    }.items():
        monkeypatch.setattr(recipes.sample_quality, name, value)
    run, out = tmp_path / "run", tmp_path / "out"
    results = main([str(run), f"--out={out}", "--reference=tail:20"])
    assert results.table["set"].tolist() == ["real train", "real test", "first", "second", "third"]
    found = pd.read_csv(out / "agreement.csv")
    assert set(found["set"]) == {"real test", "first", "second", "third"}
    assert set(found["against"]) == {"minority_score"}  # no known distribution here
    assert {"metrics.csv", "density.png", "rarest.png"} <= {p.name for p in out.iterdir()}
    with pytest.raises(ValueError, match=r"reference is .*tail:20.*all.*; give another"):
        main([str(run), f"--out={out}"])
    with pytest.raises(ValueError, match=r"^reference is 'tail:none'; give all, or tail:N"):
        main([str(run), f"--out={tmp_path / 'other'}", "--reference=tail:none"])
