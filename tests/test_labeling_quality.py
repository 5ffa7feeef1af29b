"""The labeler's own scores, against counts made by hand."""

import numpy as np
import pytest

from labeling import label_quality

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
