"""The labeler's own scores, against counts made by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from labeling import decision_quality, label_quality, quality_by_group

NAN = np.nan


def test_counts_by_hand() -> None:
    labels = [[1.0], [1.0], [1.0], [0.0], [0.0], [NAN]]
    p = [[0.9], [0.7], [0.1], [0.8], [0.2], [0.9]]  # 2 true positives, 1 missed, 1 false alarm
    row = label_quality(labels, p, {"Bald": 0.5}).to_dict("index")["Bald"]
    assert row == pytest.approx(
        {"f1": 2 / 3, "precision": 2 / 3, "recall": 2 / 3, "n": 5, "n_positive": 3}
    )


def test_each_attribute_has_its_own_threshold_and_a_tie_counts_as_present() -> None:
    labels = np.array([[1.0, 1.0], [0.0, 0.0]])
    p = np.array([[0.3, 0.3], [0.2, 0.2]])
    quality = label_quality(labels, p, {"a": 0.3, "b": 0.31})
    assert quality["recall"].to_dict() == {"a": 1.0, "b": 0.0}


@pytest.mark.parametrize("labels", [[0.0, 0.0], [1.0, 1.0], [NAN, NAN]])
def test_is_empty_not_zero_without_both_values(labels: list[float]) -> None:
    quality = label_quality(np.array(labels)[:, None], [[0.9], [0.1]], {"a": 0.5})
    scores = quality[["f1", "precision", "recall"]]
    assert np.isnan(scores.to_numpy(dtype=float)).all()


def test_never_predicted_is_zero_as_in_scikit_learn() -> None:
    quality = label_quality([[1.0], [0.0]], [[0.1], [0.1]], {"a": 0.5})
    assert quality[["f1", "precision", "recall"]].to_numpy().tolist() == [[0.0, 0.0, 0.0]]


def test_rows_without_a_prediction_are_left_out() -> None:
    quality = label_quality([[1.0], [0.0], [1.0]], [[0.9], [0.1], [NAN]], {"a": 0.5})
    assert quality.loc["a", "n"] == 2
    assert quality.loc["a", "recall"] == 1.0


def test_cells_left_empty_are_no_errors_and_are_counted() -> None:
    truth = pd.DataFrame({"a": [1, 1, 0, 0, NAN]})
    decided = pd.DataFrame({"a": [1, NAN, 1, 0, 1]})
    row = decision_quality(truth, decided).loc["a"]
    assert row.to_dict() == pytest.approx(
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
        decision_quality(truth, decided.rename(columns={"a": "b"}))
    with pytest.raises(ValueError, match="min_count is 0"):
        decision_quality(truth, decided, min_count=0)
