"""Ablations: grids of sets, each cell made once and told with its cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from recipe_doubles import digests, save_folder, save_generator, tiny_flags

from recipes.ablations import AblationConfig, chart, main
from recipes.chain.settings.sets import GuidanceConfig

GRIDS = {
    "w": {"0": {}, "1": {"guidance": {"scale": 1.0, "distance": "l2"}}},
    "M": {str(m): {"guidance": {"scale": 1.0, "distance": "l2", "samples": m}} for m in (1, 2)},
    "boost": {"4": {"start": {"boost": {}}}},
}


def test_every_cell_is_made_once_measured_and_told_with_its_cost(tmp_path: Path) -> None:
    splits = ("train",) * 24 + ("val",) * 6 + ("test",) * 6
    data, out = save_folder(tmp_path / "data", splits=splits), tmp_path / "out"
    save_generator(tmp_path / "generator")
    file = tmp_path / "grids.yaml"
    file.write_text(json.dumps({"grids": GRIDS, "tails": {"far": {"by": "avg_knn", "count": 6}}}))
    flags = [
        flag
        for flag in tiny_flags(data, tmp_path / "generator", out)
        if not flag.startswith(("--train", "--study", "--labels"))
    ]
    words = [*flags, f"--config={file}", "--sampler.steps=10"]
    table = main(words)
    assert table is not None
    rows = table.set_index(["grid", "cell"])
    assert list(rows.index) == [("w", "0"), ("w", "1"), ("M", "1"), ("M", "2"), ("boost", "4")]
    # M = 1 is w = 1: the same images, made once.
    assert rows.at[("M", "1"), "set"] == rows.at[("w", "1"), "set"] == "w-1"
    assert sorted(p.name for p in (out / "synthetic").iterdir()) == [
        *("M-2", "boost-4", "w-0", "w-1")
    ]
    assert rows.at[("w", "0"), "forwards"] == pytest.approx(10)
    once, twice = rows.at[("M", "1"), "forwards"], rows.at[("M", "2"), "forwards"]
    assert twice - once == pytest.approx(10, rel=0.1)  # one more forward on each of 10 steps
    tails = pd.read_csv(out / "ablations" / "tails.csv").set_index("set")
    assert rows.at[("w", "1"), "tail_frechet"] == pytest.approx(tails.at["w-1", "frechet"])
    for name in ("ablations.png", "w/density.png", "M/per_image.csv"):
        assert (out / "ablations" / name).is_file()
    assert set(pd.read_csv(out / "ablations" / "M" / "metrics.csv")["set"]) == {
        *("real", "w-1", "M-2")
    }
    before = digests(out / "synthetic")
    pd.testing.assert_frame_equal(main(words), table)
    assert digests(out / "synthetic") == before
    assert len(chart(table).axes) == 6
    with pytest.raises(ValueError, match="holds another run"):
        main([*words, "--num_synthetic=7"])


def test_an_unknown_grid_or_setting_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^only names W; .* or describe it as one$"):
        AblationConfig(only=["W"])
    assert list(AblationConfig(only=["M"]).cells) == ["M-1", "M-2", "M-4"]


def test_a_cell_of_p_is_that_level_whatever_the_run_says() -> None:
    """The paper's preset gives a fraction of the steps, which would come before a level."""
    config = AblationConfig(only=["p"], guidance=GuidanceConfig(perturb=0.8))
    sets = config.variant(sets=config.cells, arms=["real", *config.cells]).synthetic_sets
    levels = [sets[name].guidance for name in config.cells]
    assert [g.perturb_alpha_bar for g in levels if g and g.perturb is None] == [
        *(0.489, 0.336, 0.0931, 0.0222)
    ]


def test_names_of_cells_are_text_and_tell_sets_apart() -> None:
    numbers: Any = {"gamma": {2: {}, 4: {}}}
    assert list(AblationConfig(grids=numbers).cells) == ["gamma-2", "gamma-4"]
    with pytest.raises(ValueError, match="two cells of grids are a-b-c"):
        AblationConfig(grids={"a": {"b-c": {}}, "a-b": {"c": {}}})
