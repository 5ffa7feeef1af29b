"""Scores by attribute against scikit-learn, their summaries against closed forms, and the
preflight.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
)

from classify import (
    attribute_scores,
    best_thresholds,
    check_learnable,
    compare_pairs,
    count_scored,
    labelled_attributes,
    summarise,
    with_rare,
)
from classify.metrics import RARE, fitted_scores

NAMES = ["a", "b", "c", "never"]


def _random(seed: int = 0, n: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 4)) < 0.3).astype("float32")
    labels[rng.random((n, 4)) < 0.2] = np.nan
    probabilities = rng.random((n, 4)).astype("float32")
    probabilities[:, 3] *= 0.4  # can be judged, is never predicted
    return torch.from_numpy(probabilities), torch.from_numpy(labels)


def _wide(scores: pd.DataFrame) -> pd.DataFrame:
    return scores.pivot(index="attribute", columns="metric", values="value")


@pytest.mark.parametrize("thresholds", [None, {"a": 0.2, "c": 0.8}])
def test_scores_equal_scikit_learns_on_the_labelled_rows(
    thresholds: dict[str, float] | None,
) -> None:
    probabilities, labels = _random()
    scores = _wide(
        attribute_scores(probabilities, labels, NAMES, split="val", thresholds=thresholds)
    )
    for column, name in enumerate(NAMES):
        there = ~labels[:, column].isnan()
        predicted = probabilities[there, column] >= (thresholds or {}).get(name, 0.5)
        precision, recall, f1, _ = precision_recall_fscore_support(
            labels[there, column], predicted, average="binary", zero_division=0
        )
        expected = [f1, precision, recall]
        np.testing.assert_allclose(
            scores.loc[name, ["f1", "precision", "recall"]], expected, rtol=1e-6
        )
        expected_ap = average_precision_score(labels[there, column], probabilities[there, column])
        assert scores.loc[name, "average_precision"] == pytest.approx(expected_ap, rel=1e-12)
    np.testing.assert_allclose(scores.loc["macro"], scores.loc[NAMES].mean(), rtol=1e-12)


@pytest.mark.parametrize("average", ["micro", "samples"])
@pytest.mark.parametrize("attributes", [4, 1])
def test_the_other_means_are_scikit_learns(average: str, attributes: int) -> None:
    """An empty cell is one where neither the label nor the prediction counts."""
    probabilities, labels = (values[:, :attributes] for values in _random())
    labels[:5] = torch.nan  # images that no mean counts
    scores = attribute_scores(probabilities, labels, NAMES[:attributes], split="test")
    there = ~labels.isnan()
    true, predicted = (
        # a further column of nothing, so that one attribute is a multi-label table too
        np.pad((values & there)[5:].numpy().astype(int), ((0, 0), (0, 1)))
        for values in (labels == 1, probabilities >= 0.5)
    )
    counted = there[5:].any(1).numpy()
    found = _wide(scores).loc[average]
    for metric, theirs in (("f1", f1_score), ("precision", precision_score),
                           ("recall", recall_score)):  # fmt: skip
        expected = theirs(true[counted], predicted[counted], average=average, zero_division=0)
        assert found[metric] == pytest.approx(expected, rel=1e-12)


def test_no_mean_counts_an_attribute_with_one_value() -> None:
    probabilities, labels = _random()
    of_two = attribute_scores(probabilities[:, :2], labels[:, :2], NAMES[:2], split="test")
    labels[:, 2], labels[:, 3] = 1, torch.nan
    of_all = attribute_scores(probabilities, labels, NAMES, split="test")
    means = ["macro", "micro", "samples"]
    pd.testing.assert_frame_equal(_wide(of_all).loc[means], _wide(of_two).loc[means])


def _naive_threshold(p: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """The best F1 that any cut between two probabilities reaches."""
    return max(
        f1_score(y, p >= cut, zero_division=0) for cut in [*p, 0.0, *np.nextafter(p, np.float32(2))]
    )


@pytest.mark.parametrize("ties", [False, True])
def test_no_threshold_is_better_than_the_fitted_one(ties: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        y = (rng.random(30) < 0.2).astype(np.float32)
        y[:2] = 0, 1
        p = rng.random(30).astype(np.float32)
        p = (np.round(p * 5) / 5).astype(np.float32) if ties else p
        unlabelled = np.append(y, [np.nan, np.nan]), np.append(p, np.float32([0.01, 0.99]))
        [threshold] = best_thresholds(unlabelled[1][:, None], unlabelled[0][:, None])
        assert threshold.dtype == np.float32
        assert f1_score(y, p >= threshold, zero_division=0) == pytest.approx(_naive_threshold(p, y))


def test_a_threshold_lies_half_way_and_is_the_highest_of_equals() -> None:
    def of(p: list[float], y: list[float]) -> float:
        [found] = best_thresholds(*(np.array(v, np.float32)[:, None] for v in (p, y)))
        return float(found)

    assert of([0.9, 0.7, 0.3, 0.1], [1, 1, 0, 0]) == pytest.approx(0.5)
    assert of([0.9, 0.8, 0.7, 0.6], [1, 1, 1, 0]) == pytest.approx(0.65)
    assert of([0.4, 0.2], [0, 1]) == pytest.approx(0.1)  # both; half-way to 0
    assert of([0.8, 0.6, 0.4, 0.2], [1, 0, 0, 1]) == pytest.approx(0.7)  # F1 2/3 here and below
    assert of([0.2, 0.9], [1, 1]) == of([0.2, 0.9], [0, 0]) == of([0.2], [np.nan]) == 0.5
    above = float(np.nextafter(np.float32(0.3), np.float32(1)))
    assert of([above, 0.3], [1, 0]) == pytest.approx(above, rel=1e-9)  # nothing lies between


def test_f1_at_fitted_thresholds_is_f1_at_these() -> None:
    probabilities, labels = _random()
    thresholds = best_thresholds(probabilities.numpy(), labels.numpy())
    given = (probabilities, labels, NAMES)
    found = fitted_scores(*given, thresholds, split="val").set_index("attribute")
    assert set(found["metric"]) == {"f1_fitted"}
    limits = dict(zip(NAMES, map(float, thresholds), strict=True))
    expected = _wide(attribute_scores(*given, split="val", thresholds=limits))["f1"]
    pd.testing.assert_series_equal(
        found["value"], expected[[*NAMES, "macro"]], check_names=False, check_index=False
    )
    at_half = _wide(attribute_scores(*given, split="val"))["f1"]
    assert (found["value"] >= at_half[found.index] - 1e-9).all()  # on the images they fit


def test_rare_and_common_attributes_have_means_by_fit() -> None:
    scores = pd.DataFrame(
        [(seed, name, "f1", value + seed) for seed in (0, 1) for name, value in
         (("a", 0.2), ("b", 0.4), ("c", 0.8), ("macro", 0.5))],
        columns=["seed", "attribute", "metric", "value"],
    )  # fmt: skip
    shares = {"a": RARE - 0.01, "b": 0.01, "c": RARE}
    found = with_rare(scores, shares).set_index(["seed", "attribute"])["value"]
    np.testing.assert_allclose(found[:, "macro, rare"], [0.3, 1.3])
    np.testing.assert_allclose(found[:, "macro, common"], [0.8, 1.8])
    only = with_rare(scores, dict.fromkeys("abc", 0.5))
    assert "macro, rare" not in set(only["attribute"])


def test_attribute_with_one_value_is_left_out_of_the_macro() -> None:
    probabilities, labels = _random()
    labels[:, 1] = torch.where(labels[:, 1].isnan(), labels[:, 1], 1.0)
    labels[:, 3] = torch.nan
    scores = attribute_scores(probabilities, labels, NAMES, split="test")
    wide = _wide(scores)
    assert wide.loc[["b", "never"]].isna().all(axis=None)
    np.testing.assert_allclose(wide.loc["macro"], wide.loc[["a", "c"]].mean(), rtol=1e-12)
    assert count_scored(scores) == 2


def test_nothing_to_judge_is_nan_not_zero() -> None:
    scores = attribute_scores(torch.rand(3, 1), torch.ones(3, 1), ["a"], split="val")
    assert scores["value"].isna().all()
    assert count_scored(scores) == 0


def test_direction_perfect_is_one_and_reversed_is_zero() -> None:
    labels = torch.tensor([[1.0], [0.0], [1.0]])
    for probabilities, value, average_precision in ((labels, 1.0, 1.0), (1 - labels, 0.0, 2 / 3)):
        scores = attribute_scores(probabilities, labels, ["a"], split="val")
        by_image = scores["attribute"] == "samples"
        assert (scores.loc[by_image, "value"] == value * 2 / 3).all()  # one shows nothing: 0
        scores = scores[~by_image]
        ranked = scores["metric"] == "average_precision"
        assert (scores.loc[~ranked, "value"] == value).all()
        np.testing.assert_allclose(scores.loc[ranked, "value"], average_precision)


def _scores(values: dict[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (arm, seed, split, attribute, "f1", value + (split == "val"))
            for arm, by_seed in values.items()
            for seed, value in enumerate(by_seed)
            for split in ("val", "test")
            for attribute in ("a", "macro")
        ],
        columns=["arm", "seed", "split", "attribute", "metric", "value"],
    )


def test_summary_is_scipys_t_interval_in_the_arms_order() -> None:
    values = {"real": [0.5, 0.6, 0.7], "minority": [0.5, 0.6, 0.55]}
    summary = summarise(_scores(values))
    assert list(summary.columns) == ["arm", "metric", "mean", "low", "high", "n_seeds"]
    assert list(summary["arm"]) == ["real", "minority"]
    for (_, row), sample in zip(summary.iterrows(), values.values(), strict=True):
        low, high = stats.t.interval(0.95, 2, np.mean(sample), stats.sem(sample))
        np.testing.assert_allclose(
            row[["mean", "low", "high"]].astype(float), [np.mean(sample), low, high]
        )
        assert row["n_seeds"] == 3


def test_other_means_have_a_suffix_in_the_summary() -> None:
    scores = _scores({"real": [0.5, 0.6], "plain": [0.7, 0.8]})
    scores = scores[scores["attribute"] == "macro"]
    more = [
        scores.assign(attribute=name, value=scores["value"] / 2)
        for name in ("macro, rare", "macro, common", "micro", "samples", "another attribute")
    ]
    summary = summarise(pd.concat([scores, *more])).set_index(["arm", "metric"])
    metrics = ["f1", "f1_rare", "f1_common", "f1_micro", "f1_samples"]
    assert list(summary.index) == [(arm, name) for arm in ("real", "plain") for name in metrics]
    assert summary.loc[("plain", "f1_samples"), "mean"] == pytest.approx(0.375)


def test_an_interval_ends_where_scores_do() -> None:
    summary = summarise(_scores({"real": [0.05, 0.9]}))
    assert summary[["low", "high"]].to_numpy().tolist() == [[0, 1]]


def test_one_seed_has_no_interval() -> None:
    summary = summarise(_scores({"real": [0.5], "plain": [0.6]}))
    assert summary[["low", "high"]].isna().all(axis=None)
    assert (summary["n_seeds"] == 1).all()


def test_preflight_names_what_cannot_be_learned() -> None:
    table = pd.DataFrame(
        {
            "split": ["train", "train", "val"],
            "fine": [1.0, 0.0, np.nan],
            "rare": [0.0, np.nan, 1.0],
            "rarer": [np.nan, np.nan, 0.0],
            "unlabelled": [np.nan] * 3,
        }
    )
    names = ["fine", "rare", "rarer", "unlabelled"]
    assert labelled_attributes(table, names) == ["fine", "rare", "rarer"]
    check_learnable(table, ["fine", "unlabelled"])
    with pytest.raises(
        ValueError, match=r"positive for rare, rarer; .* leave them out with --attributes"
    ):
        check_learnable(table, names)


@pytest.mark.parametrize("name", ["macro", "macro, rare", "macro, common", "micro", "samples"])
def test_an_attribute_with_the_name_of_a_mean_is_refused(name: str) -> None:
    match = f"attribute '{name}' has the name of a mean.* --attributes"
    with pytest.raises(ValueError, match=match):
        attribute_scores(torch.rand(3, 2), torch.ones(3, 2), ["a", name], split="val")
    with pytest.raises(ValueError, match=match):
        check_learnable(pd.DataFrame({"split": ["train"], name: [1.0]}), [name])
    arms = {arm: np.zeros((2, 3, 1), np.float32) for arm in ("real", "plain")}
    with pytest.raises(ValueError, match=match):
        compare_pairs(np.ones((3, 1), np.float32), arms, [name], [("plain", "real")])
