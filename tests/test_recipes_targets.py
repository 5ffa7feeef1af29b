"""Wishes by seed: only what occurs together in a real row, the rarer the oftener; edits' labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from classify import RARE
from recipes.chain.settings.targets import (
    agreement,
    inherited,
    plan_targets,
    rare_rows,
    target_columns,
)

NAMES = ["Common", "Rare", "Rarer", "Never"]


def _train(n: int = 1000) -> pd.DataFrame:
    labels = np.zeros((n, 4))
    labels[: n // 2, 0] = 1
    labels[: int(n * RARE * 0.9), 1] = 1
    labels[: int(n * RARE * 0.1), 2] = 1  # always with Rare
    table = pd.DataFrame(labels, columns=NAMES)
    return table.assign(split="train", path=[f"{row}.png" for row in range(n)])


def test_auto_asks_for_combinations_of_rare_attributes_that_occur() -> None:
    plan = plan_targets(_train(), NAMES)
    wishes = [plan(seed) for seed in range(400)]
    assert {tuple(sorted(wish)) for wish in wishes} == {("Rare",), ("Rare", "Rarer")}
    assert all(value == 1 for wish in wishes for value in wish.values())


def test_the_rarer_leads_the_oftener_by_its_repeat_factor() -> None:
    plan = plan_targets(_train(), NAMES)
    rarer = np.mean(["Rarer" in plan(seed) for seed in range(2000)])
    factors = np.sqrt(1 / np.array([0.9, 0.1]))
    lead = factors[1] / factors.sum()
    expected = lead + (1 - lead) * (0.1 / 0.9)  # it also comes along where Rare leads
    assert rarer == pytest.approx(expected, abs=0.04)


def test_a_wish_follows_from_the_seed_alone() -> None:
    one, other = plan_targets(_train(), NAMES), plan_targets(_train(), NAMES)
    assert [one(seed) for seed in range(50)] == [other(seed) for seed in reversed(range(50))][::-1]


def test_where_nothing_is_rare_the_least_frequent_is_asked_for() -> None:
    table = _train().assign(Rare=1.0, Rarer=[1.0, 0.0] * 500)
    assert plan_targets(table, ["Rare", "Rarer", "Common"])(3) == {"Rarer": 1} or plan_targets(
        table, ["Rare", "Rarer", "Common"]
    )(3) == {"Common": 1}


def test_given_wishes_come_in_their_proportion() -> None:
    plan = plan_targets(_train(), NAMES, {"Rare=1,Common=0": 30, "Rarer=1": 10})
    wishes = [plan(seed) for seed in range(40)]
    assert wishes.count({"Rare": 1, "Common": 0}) == 30
    assert wishes.count({"Rarer": 1}) == 10
    assert plan(41) == plan(1)


def test_the_order_of_given_wishes_says_nothing() -> None:
    wishes = {"Rare=1": 3, "Common=0": 2, "Rarer=1": 4}
    one = plan_targets(_train(), NAMES, wishes)
    other = plan_targets(_train(), NAMES, dict(reversed(wishes.items())))
    assert [one(seed) for seed in range(9)] == [other(seed) for seed in range(9)]


def test_a_wish_that_the_labeler_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="targets ask for Never, which the labeler or the"):
        plan_targets(_train(), NAMES[:3], {"Never=1": 5})


def test_target_columns_are_empty_where_nothing_is_asked() -> None:
    plan = plan_targets(_train(), NAMES, {"Rare=1": 1, "Common=0": 1})
    columns = target_columns(plan, range(2), NAMES)
    assert list(columns) == ["target_Common", "target_Rare"]
    assert sorted(columns["target_Rare"].fillna(-1)) == [-1, 1]
    assert sorted(columns["target_Common"].fillna(-1)) == [-1, 0]


def test_agreement_is_the_share_of_hits_among_the_asked_and_the_others() -> None:
    table = pd.DataFrame({"target_Rare": [1, 1, 1, np.nan, np.nan]})
    labels = pd.DataFrame({"Rare": [1, 0, np.nan, 1, 0], "Common": [1, 1, 1, 1, 1]})
    (row,) = agreement(table, labels, NAMES).to_dict("records")
    assert row == {"attribute": "Rare", "value": 1, "asked": 3, "hit": 0.5, "unasked": 0.5}


def test_edits_start_from_rare_rows_the_rarer_the_oftener() -> None:
    rows = rare_rows(_train(), NAMES)
    assert (rows["Rare"] == 1).all()
    times = rows.groupby("path").size()
    rarer = rows.groupby("path")["Rarer"].first() == 1
    assert set(times[~rarer]) == {int(np.ceil(np.sqrt(1 / 0.9)))}
    assert set(times[rarer]) == {int(np.ceil(np.sqrt(1 / 0.1)))}
    pd.testing.assert_frame_equal(rows, rare_rows(_train(), NAMES))


def test_labels_are_inherited_where_the_labeler_agrees() -> None:
    sources = pd.DataFrame({"A": [1.0, 0.0], "B": [1.0, np.nan]})
    table = pd.DataFrame({"seed": [0, 1, 2], "A": [1.0, 1.0, 0.0], "B": [1.0, 1.0, np.nan]})
    found = inherited(table, sources, ["A", "B"])
    np.testing.assert_array_equal(found["A"], [1, np.nan, np.nan])
    np.testing.assert_array_equal(found["B"], [1, np.nan, np.nan])


def test_plans_differ_in_name_where_they_follow_from_other_labels_or_wishes() -> None:
    table = _train()
    changed = table.assign(Rarer=np.roll(table["Rarer"], 1))
    plans = [
        plan_targets(table, NAMES),
        plan_targets(changed, NAMES),
        plan_targets(table, NAMES, {"Rare=1": 1}),
        plan_targets(table, NAMES, {"Rare=1": 2}),
    ]
    assert len({plan.identity for plan in plans}) == 4
    assert plan_targets(table, NAMES).identity == plans[0].identity


def test_where_nothing_can_be_asked_for_it_is_said() -> None:
    with pytest.raises(ValueError, match="no attribute is known both to the labeler and"):
        plan_targets(_train(), [])
