"""Fewer steps: the shares are those of the definition, and the recipe runs end to end."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from recipe_doubles import save_generator

import recipes.fewer_steps
from augment import Schedule
from classify.datasets.avatars import avatar_table
from recipes.fewer_steps import Cell, Settings, cells, chart, main, shares

SETTINGS = Settings(images=40, reference=20, steps=(10, 20), solvers=("ancestral", "ddim"))


def _measured(shift: dict[Cell, float]) -> dict[Cell, np.ndarray]:
    plain = np.random.default_rng(1).normal(5, 1, SETTINGS.images)
    noise = np.random.default_rng(2).normal(0, 0.1, SETTINGS.images)
    return {
        cell: plain if cell.kind == "plain" else plain + shift.get(cell, 1.0) + noise
        for cell in cells(SETTINGS)
    }


def test_every_cell_has_its_plain_twin_and_the_reference_is_generated_once() -> None:
    found = list(cells(SETTINGS))
    assert len(found) == len(set(found)) == 2 + 3 * 3
    assert {Cell(c.solver, c.steps, "plain") for c in found} <= set(found)
    assert Cell("ancestral", 20, "scale") not in found  # at the reference it is the budget


@pytest.mark.parametrize(("reference", "every"), [(250, 5), (100, 5), (250, 2)])
def test_equal_w_is_that_of_the_reference_whatever_it_is(reference: int, every: int) -> None:
    settings = Settings(reference=reference, every=every, steps=(50,), solvers=("ancestral",))
    schedule = Schedule.cosine()
    of_reference = Cell("ancestral", reference, "budget").guidance(settings, schedule)
    equal = Cell("ancestral", 50, "scale").guidance(settings, schedule)
    assert of_reference is not None
    assert equal is not None
    assert equal.scale == of_reference.resolved_scale(schedule, reference)
    assert (equal.scale == 0.4) == ((reference, every) == (250, 5))


@pytest.mark.parametrize("flags", [["--steps", "2", "51"], ["--reference=51"], ["--steps", "0"]])
def test_steps_that_the_model_has_not_are_refused_before_the_reference_is_made(
    tmp_path: Path, flags: list[str]
) -> None:
    save_generator(tmp_path / "generator")
    given = [f"--generator={tmp_path / 'generator'}", f"--out={tmp_path / 'out'}", "--reference=4"]
    with pytest.raises(ValueError, match=r"^steps is (51|0), .*; give 1 to 50 steps$"):
        main([*given, "--steps", "2", *flags])
    assert not (tmp_path / "out").exists()


def test_a_share_is_the_ratio_of_the_paired_shifts() -> None:
    half = Cell("ddim", 10, "budget")
    table = shares(SETTINGS, _measured({half: 0.5})).set_index(["solver", "steps", "kind"])
    noise = np.random.default_rng(2).normal(0, 0.1, SETTINGS.images).mean()
    row = table.loc[("ddim", 10, "budget")]
    assert row["share"] == pytest.approx((0.5 + noise) / (1 + noise))
    assert row["low"] < row["share"] < row["high"]
    same = table.loc[("ddim", 20, "scale")]  # the very shifts of the reference, seed by seed
    assert same[["share", "low", "high"]].tolist() == pytest.approx([1, 1, 1])
    assert table.loc[("ancestral", 20, "budget"), "share"] == 1


def test_the_chart_has_a_panel_for_budget_and_w_each_with_the_solvers() -> None:
    panels = chart(shares(SETTINGS, _measured({}))).axes
    assert [axes.get_title() for axes in panels] == ["equal budget", "equal w"]
    assert [text.get_text() for text in panels[0].get_legend().get_texts()] == ["ancestral", "ddim"]


def test_the_recipe_measures_what_it_generates_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = partial(avatar_table, train=60, val=10, test=10)
    monkeypatch.setattr(recipes.fewer_steps, "avatar_table", few)
    save_generator(tmp_path / "generator")
    flags = [
        *(f"--generator={tmp_path / 'generator'}", f"--out={tmp_path / 'out'}"),
        *("--images=6", "--reference=4", "--steps", "2", "--solvers", "dpm"),
    ]
    first = main(flags)
    assert set(first["kind"]) == {"budget", "scale"}
    assert {p.name for p in (tmp_path / "out").glob("*.*")} == {
        "fewer_steps.csv",
        "fewer_steps.png",
    }
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.png") if p.stem != "few"}
    again = main(flags)
    pd.testing.assert_frame_equal(first, again)
    images = [p for p in stamps if p.parent.name.startswith(("dpm", "ancestral"))]
    assert len(images) == 6 * 5
    assert all(p.stat().st_mtime_ns == stamps[p] for p in images)


@pytest.mark.parametrize("flags", [{"images": 0}, {"strength": 0.0}, {"steps": ()}])
def test_settings_that_compare_nothing_are_refused(flags: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"give (at least|a positive)"):
        Settings(**flags)  # type: ignore[arg-type]
