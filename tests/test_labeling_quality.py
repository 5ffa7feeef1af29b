"""The labeler's own scores, against counts made by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from labeling import quality_by_group

NAN = np.nan


def _judged(truth: list[float], decided: list[float], min_count: int = 1) -> pd.Series:
    """The scores of one attribute over all rows."""
    tables = (pd.DataFrame({"a": values}) for values in (truth, decided))
    return quality_by_group(*tables, min_count=min_count).iloc[0]


def test_counts_by_hand() -> None:
    # 2 true positives, 1 missed, 1 false alarm
    row = _judged([1, 1, 1, 0, 0, NAN], [1, 1, 0, 1, 0, 1])
    assert row.drop(["group", "attribute"]).to_dict() == pytest.approx(
        {
            "f1": 2 / 3,
            "precision": 2 / 3,
            "recall": 2 / 3,
            "error": 2 / 5,
            "kept": 1,
            "n": 5,
            "n_positive": 3,
        }
    )


@pytest.mark.parametrize("truth", [[0.0, 0.0], [1.0, 1.0], [NAN, NAN]])
def test_is_empty_not_zero_without_both_values(truth: list[float]) -> None:
    scores = _judged(truth, [1, 0])[["f1", "precision", "recall", "error"]]
    assert np.isnan(scores.to_numpy(dtype=float)).all()


def test_never_predicted_is_zero_as_in_scikit_learn() -> None:
    assert _judged([1, 0], [0, 0])[["f1", "precision", "recall"]].tolist() == [0.0, 0.0, 0.0]


def test_cells_left_empty_are_no_errors_and_are_counted() -> None:
    row = _judged([1, 1, 0, 0, NAN], [1, NAN, 1, 0, 1])
    assert row.drop(["group", "attribute"]).to_dict() == pytest.approx(
        {
            "f1": 2 / 3,
            "precision": 0.5,
            "recall": 1.0,
            "error": 1 / 3,
            "kept": 3 / 4,
            "n": 3,
            "n_positive": 1,
        }
    )


def _grouped() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    truth = pd.DataFrame(rng.integers(0, 2, (400, 3)).astype(float), columns=["Male", "Young", "a"])
    truth.loc[:9, "Male"] = NAN
    few = np.flatnonzero((truth["Male"] == 1) & (truth["Young"] == 1))[3:]
    truth = truth.drop(few).reset_index(drop=True)
    wrong = rng.random(len(truth)) < 0.2
    return truth, pd.DataFrame({"a": truth["a"].where(~wrong, 1 - truth["a"])})


def test_groups_are_intersections_judged_as_if_alone() -> None:
    truth, decided = _grouped()
    quality = quality_by_group(truth, decided, ["Male", "Young"]).set_index(["group", "attribute"])
    assert list(quality.index.get_level_values(0)) == [
        "all",
        "Male=0, Young=0",
        "Male=0, Young=1",
        "Male=1, Young=0",
        "Male=1, Young=1",
    ]
    rows = (truth["Male"] == 0) & (truth["Young"] == 1)
    expected = f1_score(truth["a"][rows], decided["a"][rows])
    assert quality.loc[("Male=0, Young=1", "a"), "f1"] == pytest.approx(expected)
    assert quality.loc[("all", "a"), "n"] == len(truth)


def test_groups_may_be_of_any_values() -> None:
    truth, decided = _grouped()
    named = truth.assign(Male=truth["Male"].map({0.0: "no", 1.0: "yes"}))
    quality = quality_by_group(truth, decided, ["Male"])
    told = quality_by_group(named, decided, ["Male"])
    assert list(told["group"].unique()) == ["all", "Male=no", "Male=yes"]
    pd.testing.assert_frame_equal(told.drop(columns="group"), quality.drop(columns="group"))


def test_a_cell_of_few_rows_is_empty_never_zero() -> None:
    truth, decided = _grouped()
    decided["a"] = 0.0  # would score 0 everywhere
    quality = quality_by_group(truth, decided, ["Male", "Young"]).set_index("group")
    scores = quality[["f1", "precision", "recall", "error", "kept"]]
    assert scores.loc["Male=1, Young=1"].isna().all()
    assert quality.loc["Male=1, Young=1", "n"] == 3
    assert (quality.loc["Male=0, Young=1", ["f1", "recall"]] == 0).all()


def test_what_cannot_be_judged_is_refused() -> None:
    truth, decided = _grouped()
    with pytest.raises(ValueError, match="no column Old to group by"):
        quality_by_group(truth, decided, ["Old"])
    with pytest.raises(ValueError, match="no true labels of b"):
        quality_by_group(truth, decided.rename(columns={"a": "b"}))
    with pytest.raises(ValueError, match="min_count is 0"):
        quality_by_group(truth, decided, min_count=0)
