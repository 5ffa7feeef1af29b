"""Samplers compared: what an image costs, which real images are rare, one table of every set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from augment_doubles import tiny_denoiser, tiny_unet
from lightning.fabric import Fabric
from recipe_doubles import save_folder, tiny_flags

from augment import Denoiser, ImageFormat, SamplerConfig, Schedule
from augment.pretrained import save_pipeline
from recipes.chain.measures.cost import Cost, cost_of, forward_flops, steps_at
from recipes.chain.measures.tails import Tail, read_tails
from recipes.chain.settings.sets import GuidanceConfig, SyntheticSet
from recipes.chain.settings.untrained_terms import ParticleSettings
from recipes.compare_samplers import CompareConfig, cheapest, main

PLAIN = SyntheticSet(sampler=SamplerConfig(steps=10))


def _cost(settings: SyntheticSet) -> Cost:
    """Of a random network."""
    run = SimpleNamespace(fabric=Fabric(accelerator="cpu", devices=1))
    inputs = SimpleNamespace(run=run, denoiser=tiny_denoiser(), labeler=None)
    return cost_of(cast("Any", inputs), settings)


def test_an_ordinary_image_costs_a_forward_a_step() -> None:
    cost = _cost(PLAIN)
    assert cost.forwards == pytest.approx(10)
    assert cost.seconds > 0
    fewer = replace(PLAIN, sampler=SamplerConfig(steps=4, solver="ddim"))
    assert _cost(fewer).forwards == pytest.approx(4)
    apart = replace(PLAIN, particles=ParticleSettings(group=3))  # whole groups are made
    assert _cost(apart).forwards == pytest.approx(10)
    elsewhere = _cost(SyntheticSet(folder=Path("x")))
    assert np.isnan([elsewhere.forwards, elsewhere.seconds]).all()


def test_a_forward_is_counted_by_the_operations_of_its_layers() -> None:
    network = tiny_denoiser().network
    pixels = 8 * 8
    layers = (network.first, network.last)
    by_hand = sum(2 * layer.weight.numel() * pixels for layer in layers) + 2 * 8
    assert forward_flops(tiny_denoiser()) == by_hand


def test_a_self_guided_step_costs_two_forwards_and_a_backward() -> None:
    """The gradient of the input alone passes each layer once more."""

    def more(every: int, **settings: Any) -> float:
        """What a guided step costs beside its own forward."""
        guidance = GuidanceConfig(distance="l2", every=every, **settings)
        return (_cost(replace(PLAIN, guidance=guidance)).forwards - 10) / (10 / every)

    assert more(5) == pytest.approx(2, abs=0.05)
    assert more(1) == pytest.approx(more(5))
    assert more(5, stop_gradient="none") == pytest.approx(3, abs=0.1)  # through both passes


def test_a_budget_buys_so_many_steps() -> None:
    assert steps_at(PLAIN, Cost(14.0, 1.0), 10) == 7
    assert steps_at(PLAIN, Cost(10.0, 1.0), 10) is None
    assert steps_at(PLAIN, Cost(30.0, 1.0), 0) is None
    fifty = SyntheticSet(sampler=SamplerConfig(steps=50))
    assert steps_at(fifty, Cost(192.0, 1.0), 50) == 13
    assert steps_at(fifty, Cost(200.5, 1.0), 50) is None  # less than a quarter of its steps
    assert steps_at(SyntheticSet(folder=Path("x")), Cost(), 10) is None


def test_a_tail_is_the_highest_or_the_lowest_of_a_score(tmp_path: Path) -> None:
    names = pd.Series([f"{i}.png" for i in range(8)])
    scores = np.array([3.0, 1, 7, 5, 0, 6, 2, 4])
    known = {"avg_knn": lambda: scores}
    assert Tail(by="avg_knn", count=3).rows(names, known).tolist() == [2, 5, 3]
    assert Tail(by="avg_knn", count=2, lowest=True).rows(names, known).tolist() == [4, 1]
    assert len(Tail(by="avg_knn").rows(names, known)) == 4  # no more than half
    file = tmp_path / "jepa.csv"
    pd.DataFrame({"file_name": names[::-1], "jepa": scores[::-1]}).to_csv(file, index=False)
    tails = read_tails({"jepa": {"by": "jepa", "file": str(file), "lowest": True, "count": 2}})
    assert tails["jepa"].rows(names, {}).tolist() == [4, 1]
    with pytest.raises(ValueError, match=r"^count is 9, and there are 8 real train images; give"):
        Tail(by="avg_knn", count=9).rows(names, known)
    with pytest.raises(ValueError, match=r"^by is avgknn; did you mean avg_knn\? .* or a column"):
        Tail(by="avgknn").rows(names, known)
    with pytest.raises(ValueError, match=r"jepa.csv has no jepa of 8.png; give a score of every"):
        tails["jepa"].rows(pd.Series([*names, "8.png"]), {})
    with pytest.raises(ValueError, match=r"jepa.csv has no column other; add it$"):
        Tail(by="other", file=file).rows(names, {})


def test_the_cheapest_of_equals_is_that_of_the_fewest_forwards() -> None:
    table = pd.DataFrame({"set": ["real", "a", "b", "c"], "forwards": [np.nan, 9, 4, np.nan]})
    assert cheapest(table, ["a", "b", "c"]) == "b"
    assert cheapest(table, ["a", "c"]) == "a"
    assert cheapest(table, ["c"]) == "c"


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^budget is -1; give forwards per image, or 0 for none$"):
        CompareConfig(budget=-1)
    with pytest.raises(ValueError, match=r"^tails\.a: the setting of is not known; give one of by"):
        CompareConfig(tails={"a": {"of": "avg_knn"}})
    with pytest.raises(ValueError, match=r"^tails\.a: .*count is 1; give at least 2 images$"):
        CompareConfig(tails={"a": {"by": "avg_knn", "count": 1}})
    with pytest.raises(
        ValueError, match=r"^tails\.a: count is 5; give at least 6 images, more than"
    ):
        CompareConfig(tails={"a": {"by": "avg_knn", "count": 5}})


def _interrupted(*_given: object) -> None:
    raise InterruptedError


def test_one_command_makes_measures_and_trains_every_sampler(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = ("train",) * 48 + ("val",) * 8 + ("test",) * 8
    data, out = save_folder(tmp_path / "data", splits=splits), tmp_path / "out"
    denoiser = Denoiser(
        tiny_unet(3, 6, sample_size=16),
        Schedule.cosine(),
        ImageFormat(channels=3, size=16),
        variance="learned_range",
    )
    save_pipeline(denoiser, tmp_path / "generator", card={})
    trained = {"widths": [32], "training": {"steps": 2, "batch_size": 4}}
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "sets.yaml"
    sets = {"classes": {"minority_class": {"classes": 2, "score": {"samples": 1}, **trained}}}
    tails = {"far": {"by": "avg_knn", "count": 6}, "hard": {"by": "minority_score", "count": 7}}
    tails["unknown"] = {"by": "jepa_score", "count": 8, "lowest": True}
    file.write_text(json.dumps({"sets": sets, "tails": tails}))
    words = [
        *tiny_flags(data, tmp_path / "generator", out),
        *(f"--config={file}", "--arms=[real,plain,minority,classes]", "--allow_unlike=true"),
        *("--sampler.steps=7", "--guidance.distance=l2"),
    ]
    table = main(words)
    assert table is not None
    names = ["real", "plain", "minority", "classes", "minority.equal"]
    assert [name for name in table["set"] if name != "classes.equal"] == names
    rows = table.set_index("set")
    assert rows.at["plain", "forwards"] == pytest.approx(7)
    assert rows.at["minority", "forwards"] > 17  # every step is guided
    assert rows.at["minority.equal", "forwards"] <= 7
    record = json.loads((out / "synthetic" / "minority.equal" / "settings.json").read_text())
    assert record["steps"] == 2
    summary = pd.read_csv(out / "summary.csv")
    f1 = summary[summary["metric"] == "f1"].set_index("arm")["mean"]
    for name in ("real", "plain", "classes"):
        assert rows.at[name, "f1"] == pytest.approx(f1[name])
    told = pd.read_csv(out / "samplers" / "tails.csv")
    assert dict(told.groupby("tail")["real"].first()) == {**{"far": 6, "hard": 7, "unknown": 8}}
    scores = pd.read_csv(out / "samplers" / "jepa_score.csv")["jepa_score"]
    assert len(scores) == 48
    assert scores.nunique() > 40
    assert set(told["set"]) == {*table["set"]} - {"real"}
    html = (out / "samplers" / "samplers.html").read_text()
    assert "Like the 6 real train images of far" in html
    printed = capsys.readouterr().out
    assert "images in the manifold of the real ones, " in printed
    assert "Of the samplers, the classifier of the highest macro F1 is that of" in printed
    monkeypatch.setattr("recipes.chain.measures.measuring.cost_of", _interrupted)
    pd.testing.assert_frame_equal(
        main(words), table
    )  # costs, seconds included, are not counted anew
    assert torch.is_grad_enabled()
