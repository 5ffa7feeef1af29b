"""Quotas are met, or it is said what is not; the greedy choice keeps its promises."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from augment import Quota, select
from augment.selection.quota import parse_wish

NAN = float("nan")
TABLE = pd.DataFrame(
    {
        "file_name": [f"{i}.png" for i in range(8)],
        "Bald": [0, 1, 1, 0, NAN, 1, 0, 0],
        "Male": [1, 1, 0, 0, 1, 1, 0, NAN],
    }
)


def _names(table: pd.DataFrame) -> str:
    return "".join(name[0] for name in table["file_name"])


@pytest.mark.parametrize(
    ("quota", "taken"),
    [
        (Quota(), "01234567"),
        (Quota(cap=3), "012"),
        (Quota(ratio=0.5), "01234"),
        (Quota(ratio=0.5, cap=4), "0123"),
        (Quota(wanted={"Bald=1": 1}), "1"),
        (Quota(wanted={"Bald=1": 3}), "125"),
        (Quota(wanted={"Bald=1": 2, "Male=1": 2}), "15"),  # each serves both
        (Quota(wanted={"Bald=1,Male=0": 1, "Male=1": 2}), "012"),
        (Quota(wanted={"Bald=1": 3, "Male=0": 1}, cap=2), "12"),
    ],
)
def test_rows_are_taken_by_quota(quota: Quota, taken: str) -> None:
    assert _names(select(TABLE, quota, n_real=10).table) == taken


def test_what_cannot_be_met_is_said() -> None:
    selection = select(TABLE, Quota(wanted={"Bald=1": 5, "Male=0": 1}), n_real=10)
    assert selection.report.to_numpy().tolist() == [
        ["Bald=1", 5, 3, 3],
        ["Male=0", 1, 3, 1],
        ["all", 3, 5, 3],
    ]
    assert not selection.is_met
    assert select(TABLE, Quota(wanted={"Bald=1": 3}), n_real=10).is_met
    assert not select(TABLE, Quota(cap=9), n_real=10).is_met


def test_an_empty_label_serves_no_wish_and_what_was_not_admitted_neither() -> None:
    for wish in ("Bald=1", "Bald=0"):
        assert "4" not in _names(select(TABLE, Quota(wanted={wish: 8}), n_real=1).table)
        assert _names(select(TABLE.convert_dtypes(), Quota(wanted={wish: 8}), n_real=1).table) == (
            _names(select(TABLE, Quota(wanted={wish: 8}), n_real=1).table)
        )
    judged = TABLE.assign(admission=["kept", "blank"] * 4)
    assert _names(select(judged, Quota(wanted={"Bald=1": 8}), n_real=1).table) == "2"
    assert _names(select(judged, Quota(cap=2), n_real=1).table) == "02"


def _value(chosen: pd.DataFrame, wanted: dict[str, int]) -> int:
    """Wishes met, each up to what is wanted."""
    counts = {
        wish: (chosen[list(v)] == pd.Series(v)).all(axis=1).sum()
        for wish in wanted
        for v in [parse_wish(wish)]
    }
    return sum(min(int(counts[wish]), wanted[wish]) for wish in wanted)


@pytest.mark.parametrize("seed", range(12))
def test_greedy_keeps_its_promises_beside_the_best_of_all_choices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.integers(0, 2, (9, 3)), columns=list("ABC"))
    wanted = {"A=1": 3, "B=1": 2, "A=0,C=1": 2, "B=0,C=0": 2}
    possible = _value(table, wanted)
    subsets = [list(s) for size in range(10) for s in combinations(range(9), size)]
    fewest = min(len(s) for s in subsets if _value(table.iloc[s], wanted) == possible)
    greedy = select(table, Quota(wanted=wanted), n_real=1).table
    assert _value(greedy, wanted) == possible
    assert len(greedy) <= (1 + 1 / 2 + 1 / 3) * fewest
    best = max(_value(table.iloc[s], wanted) for s in subsets if len(s) == 3)
    capped = select(table, Quota(wanted=wanted, cap=3), n_real=1).table
    assert _value(capped, wanted) >= (1 - 1 / np.e) * best


@pytest.mark.parametrize("wish", ["Bald", "Bald=2", "=1", "Bald=1,Bald=0", "", "Bald=1,"])
def test_a_wish_that_is_none_is_refused(wish: str) -> None:
    with pytest.raises(ValueError, match="not understood; write NAME=1"):
        Quota(wanted={wish: 1})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 0.0}, r"^quota\.ratio is 0.0"),
        ({"ratio": NAN}, r"^quota\.ratio is nan"),
        ({"cap": 0}, r"^quota\.cap is 0"),
        ({"wanted": {"Bald=1": 0}}, r"^quota\.wanted has 0 for Bald=1"),
    ],
)
def test_a_quota_of_nothing_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Quota(**settings)  # type: ignore[arg-type]


def test_an_unknown_attribute_is_named() -> None:
    with pytest.raises(ValueError, match=r"^wish 'Hat=1' names Hat, which is no column"):
        select(TABLE, Quota(wanted={"Hat=1": 1}), n_real=1)
