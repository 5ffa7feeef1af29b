"""Scores by attribute against scikit-learn, their summaries against closed forms, and the
preflight.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import precision_recall_fscore_support

from classify import (
    attribute_scores,
    check_learnable,
    compare,
    count_scored,
    labelled_attributes,
    summarise,
)

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
    np.testing.assert_allclose(scores.loc["macro"], scores.loc[NAMES].mean(), rtol=1e-12)


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
    for probabilities, value in ((labels, 1.0), (1 - labels, 0.0)):
        scores = attribute_scores(probabilities, labels, ["a"], split="val")
        assert (scores["value"] == value).all()


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


@pytest.mark.parametrize("name", ["macro", "macro, rare", "macro, common"])
def test_an_attribute_with_the_name_of_a_mean_is_refused(name: str) -> None:
    match = f"attribute '{name}' has the name of a mean.* --attributes"
    with pytest.raises(ValueError, match=match):
        attribute_scores(torch.rand(3, 2), torch.ones(3, 2), ["a", name], split="val")
    with pytest.raises(ValueError, match=match):
        check_learnable(pd.DataFrame({"split": ["train"], name: [1.0]}), [name])
    arms = {arm: np.zeros((2, 3, 1), np.float32) for arm in ("real", "plain")}
    with pytest.raises(ValueError, match=match):
        compare(np.ones((3, 1), np.float32), arms, [name], "real")
