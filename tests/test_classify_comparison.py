"""Comparison of arms: scores against `attribute_scores`, means over rare and common attributes,
verdicts, and what is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from study_doubles import Arrays, SimulatedStudy
from torchmetrics.functional.classification import (
    binary_f1_score,
    binary_precision,
    binary_recall,
)

from classify import attribute_scores, compare_pairs, pairs_with
from classify.intervals import holm
from classify.resampling import average_precision, count, resample

STUDY = SimulatedStudy(seeds=3, of_seed=0.1, of_image=0.5, gain=0.5, images=300)


@pytest.fixture(scope="module")
def drawn() -> tuple[NDArray[np.float32], Arrays]:
    labels, probabilities = STUDY.draw(np.random.default_rng(0))
    labels[np.random.default_rng(1).random(labels.shape) < 0.2] = np.nan
    return labels, probabilities


def _scores(
    labels: NDArray[np.float32],
    values: NDArray[np.float32],
    thresholds: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Mean over seeds of what a study writes, index attribute and metric."""
    tables = [
        attribute_scores(
            torch.from_numpy(one),
            torch.from_numpy(labels),
            STUDY.attributes,
            split="test",
            thresholds=thresholds,
        )
        for one in values
    ]
    return pd.concat(tables).groupby(["attribute", "metric"])[["value"]].mean()


def _against(
    labels: NDArray[np.float32],
    probabilities: Arrays,
    attributes: Sequence[str],
    baseline: str,
    thresholds: float | dict[str, float] = 0.5,
    **options: Any,
) -> pd.DataFrame:
    pairs = pairs_with(baseline, probabilities)
    return compare_pairs(labels, probabilities, attributes, pairs, thresholds, **options)


@pytest.mark.parametrize("thresholds", [0.5, {"a1": 0.3}])
def test_differences_are_those_of_the_studys_scores(
    drawn: tuple[NDArray[np.float32], Arrays], thresholds: float | dict[str, float]
) -> None:
    labels, probabilities = drawn
    rows = _against(labels, probabilities, STUDY.attributes, "real", thresholds, draws=50)
    given = thresholds if isinstance(thresholds, dict) else None
    scores = {arm: _scores(labels, values, given) for arm, values in probabilities.items()}
    expected = (scores["minority"] - scores["real"])["value"]
    found = rows.set_index(["attribute", "metric"])["difference"]
    np.testing.assert_allclose(found, expected.loc[found.index], atol=1e-7)
    assert list(rows.columns) == [
        "arm", "baseline", "attribute", "metric", "difference", "low", "high", "p_value", "p_holm",
        "verdict", "n_seeds",
    ]  # fmt: skip
    assert len(rows) == (3 + 1) * 4


def test_counts_of_a_draw_are_those_of_the_resampled_images() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, np.nan], 50).astype(np.float32)
    predicted = rng.random((2, 3, 50)) < 0.5
    weights = resample(50, 4, seed=7)
    counts = count(weights, labels, predicted)
    assert (weights.sum(axis=1) == 50).all()
    assert (weights[0] == 1).all()
    for draw, row in enumerate(weights):
        images = np.repeat(np.arange(50), row.astype(int))
        y, p = labels[images], predicted[..., images]
        np.testing.assert_array_equal(counts.hits[draw], (p & (y == 1)).sum(-1))
        np.testing.assert_array_equal(counts.predicted[draw], (p & ~np.isnan(y)).sum(-1))
        assert counts.positives[draw] == (y == 1).sum()
        assert counts.negatives[draw] == (y == 0).sum()


def test_scores_of_a_draw_are_torchmetrics_of_the_resampled_images() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, np.nan], 60).astype(np.float32)
    predicted = rng.random((2, 3, 60)) < 0.4
    predicted[0, 0] = False  # never predicted: 0, not NaN
    weights = resample(60, 5, seed=7)
    counts = count(weights, labels, predicted)
    ours = np.stack([counts.f1(), counts.precision(), counts.true_positive_rate()])
    for draw, row in enumerate(weights):
        images = np.repeat(np.arange(60), row.astype(int))
        target = torch.from_numpy(np.nan_to_num(labels[images], nan=-1)).int()
        for seed, arm in np.ndindex(2, 3):
            decided = torch.from_numpy(predicted[seed, arm, images]).int()
            theirs = [
                metric(decided, target, ignore_index=-1).item()
                for metric in (binary_f1_score, binary_precision, binary_recall)
            ]
            np.testing.assert_allclose(ours[:, draw, seed, arm], theirs, rtol=1e-6)


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_of_a_draw_is_scikit_learns_of_weighted_images(ties: bool) -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, np.nan], 80, p=[0.6, 0.3, 0.1]).astype(np.float32)
    p = rng.random(80).astype(np.float32)
    p = (np.round(p * 6) / 6).astype(np.float32) if ties else p
    weights = resample(80, 30, seed=7)
    found = average_precision(np.ascontiguousarray(weights.T), labels, p)
    there = ~np.isnan(labels)
    expected = [
        average_precision_score(labels[there], p[there], sample_weight=draw[there])
        for draw in weights
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_average_precision_without_positives_in_a_draw_is_nan() -> None:
    weights = np.array([[1, 1, 1], [0, 2, 1]], np.float32)
    labels, p = np.array([1, 0, 0], np.float32), np.array([0.2, 0.4, 0.1], np.float32)
    found = average_precision(np.ascontiguousarray(weights.T), labels, p)
    np.testing.assert_allclose(found, [0.5, np.nan])
    none = average_precision(np.ascontiguousarray(weights.T), 0 * labels, p)
    assert np.isnan(none).all()


def test_f1_at_fitted_thresholds_is_that_of_each_fits_own(
    drawn: tuple[NDArray[np.float32], Arrays],
) -> None:
    labels, probabilities = drawn
    rng = np.random.default_rng(0)
    fitted = {arm: rng.uniform(0.3, 0.7, (3, 3)).astype(np.float32) for arm in probabilities}
    rows = _against(labels, probabilities, STUDY.attributes, "real", fitted=fitted, draws=50)
    found = rows.set_index(["attribute", "metric"])["difference"]
    f1 = {}
    for arm, values in probabilities.items():
        limits = [dict(zip(STUDY.attributes, map(float, row), strict=True)) for row in fitted[arm]]
        each = [_scores(labels, p[None], t) for p, t in zip(values, limits, strict=True)]
        f1[arm] = (sum(each) / 3)["value"].xs("f1", level="metric")  # type: ignore[operator]
    for name in (*STUDY.attributes, "macro"):
        expected = f1["minority"][name] - f1["real"][name]
        assert found[name, "f1_fitted"] == pytest.approx(expected, abs=1e-7)
        shift = found[name, "f1"] - found[name, "f1_fitted"]
        assert found[name, "prior_shift"] == pytest.approx(shift, abs=1e-12)


def test_a_shifted_prior_gains_in_f1_alone(drawn: tuple[NDArray[np.float32], Arrays]) -> None:
    """The same ranking behind other probabilities: nothing remains, all of it is the shift."""
    labels, probabilities = drawn
    p = probabilities["minority"].astype(np.float64)
    odds = p / (1 - p)
    arms = {"real": (odds / 6 / (1 + odds / 6)), "shifted": p}
    arms = {arm: values.astype(np.float32) for arm, values in arms.items()}
    at_half = np.full((3, 3), 0.5, np.float32)
    fitted = {"real": (at_half / 6) / (at_half / 6 + 0.5), "shifted": at_half}
    rows = _against(labels, arms, STUDY.attributes, "real", fitted=fitted, draws=200)
    macro = rows[rows["attribute"] == "macro"].set_index("metric")
    assert macro.loc["f1", "verdict"] == "gain"
    assert macro.loc["prior_shift", "verdict"] == "gain"
    for metric in ("average_precision", "f1_fitted"):
        assert macro.loc[metric, "difference"] == pytest.approx(0, abs=1e-4)
        assert macro.loc[metric, "verdict"] == "no evidence of gain"


def test_pairs_give_what_each_baseline_gives_by_itself(
    drawn: tuple[NDArray[np.float32], Arrays],
) -> None:
    labels, probabilities = drawn
    arms = {**probabilities, "third": probabilities["minority"][::-1].copy()}
    pairs = [("third", "minority"), ("minority", "real")]
    both = compare_pairs(labels, arms, STUDY.attributes, pairs, draws=50)
    single = [
        _against(labels, {arm: arms[arm] for arm in pair}, STUDY.attributes, pair[1], draws=50)
        for pair in pairs
    ]
    pd.testing.assert_frame_equal(both, pd.concat(single, ignore_index=True))


def test_rare_and_common_attributes_have_means_of_their_own(
    drawn: tuple[NDArray[np.float32], Arrays],
) -> None:
    shares = {"a0": 0.119, "a1": 0.12, "a2": 0.5}
    rows = _against(*drawn, STUDY.attributes, "real", shares=shares, draws=50)
    f1 = rows[rows["metric"] == "f1"].set_index("attribute")["difference"]
    np.testing.assert_allclose(f1["macro, rare"], f1["a0"])
    np.testing.assert_allclose(f1["macro, common"], f1[["a1", "a2"]].mean())
    np.testing.assert_allclose(f1["macro"], f1[["a0", "a1", "a2"]].mean())


def test_no_rare_attribute_is_no_figure(drawn: tuple[NDArray[np.float32], Arrays]) -> None:
    rows = _against(
        *drawn, STUDY.attributes, "real", shares=dict.fromkeys(STUDY.attributes, 0.3), draws=50
    )
    rare = rows[rows["attribute"] == "macro, rare"]
    assert rare[["difference", "low", "high", "p_value"]].isna().all(axis=None)
    assert (rare["verdict"] == "no evidence of gain").all()


def test_verdict_of_an_attribute_goes_by_holm_over_the_attributes_of_its_metric(
    drawn: tuple[NDArray[np.float32], Arrays],
) -> None:
    rows = _against(*drawn, STUDY.attributes, "real", draws=200)
    for _, family in rows[rows["attribute"] != "macro"].groupby("metric"):
        np.testing.assert_array_equal(family["p_holm"], holm(family["p_value"].to_numpy()))
        gains = (family["p_holm"] < 0.05) & (family["difference"] > 0)
        assert list(family["verdict"] == "gain") == list(gains)
    macro = rows[rows["attribute"] == "macro"]
    assert macro["p_holm"].isna().all()
    assert list(macro["verdict"] == "gain") == list(macro["low"] > 0)
    assert "gain" in set(macro["verdict"])


def test_the_other_way_round_a_gain_is_a_loss(drawn: tuple[NDArray[np.float32], Arrays]) -> None:
    there = _against(*drawn, STUDY.attributes, "real", draws=100)
    back = _against(*drawn, STUDY.attributes, "minority", draws=100)
    np.testing.assert_allclose(back["difference"], -there["difference"])
    np.testing.assert_allclose(back["low"], -there["high"])
    swapped = {"gain": "loss", "loss": "gain"}
    assert list(back["verdict"]) == list(there["verdict"].replace(swapped))


@pytest.mark.parametrize("seeds", [3, 5])
def test_arms_alike_have_no_evidence_of_gain_in_95_of_100_studies(seeds: int) -> None:
    study = SimulatedStudy(seeds=seeds, of_seed=0.1, of_image=0.7, images=300)
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(100):
        rows = _against(*study.draw(rng), study.attributes, "real", draws=100)
        macro = rows[(rows["attribute"] == "macro") & (rows["metric"] == "f1")]
        verdicts.append(macro["verdict"].item())
    assert verdicts.count("no evidence of gain") >= 95


def test_the_very_same_predictions_are_no_evidence(
    drawn: tuple[NDArray[np.float32], Arrays],
) -> None:
    labels, probabilities = drawn
    twice = {"real": probabilities["real"], "copy": probabilities["real"].copy()}
    rows = _against(labels, twice, STUDY.attributes, "real", draws=50)
    assert (rows[["difference", "low", "high"]] == 0).all(axis=None)
    assert (rows["verdict"] == "no evidence of gain").all()


def test_one_seed_is_no_evidence(drawn: tuple[NDArray[np.float32], Arrays]) -> None:
    labels, probabilities = drawn
    single = {arm: values[:1] for arm, values in probabilities.items()}
    rows = _against(labels, single, STUDY.attributes, "real", draws=50)
    assert rows["difference"].notna().all()
    assert rows[["low", "high", "p_value", "p_holm"]].isna().all(axis=None)
    assert (rows["verdict"] == "no evidence of gain").all()


def test_attribute_with_one_value_counts_nowhere(
    drawn: tuple[NDArray[np.float32], Arrays],
) -> None:
    labels, probabilities = drawn
    labels = labels.copy()
    labels[:, 1] = np.where(np.isnan(labels[:, 1]), np.nan, 1)
    rows = _against(labels, probabilities, STUDY.attributes, "real", draws=50)
    f1 = rows[rows["metric"] == "f1"].set_index("attribute")
    assert f1.loc["a1", ["difference", "low", "p_holm"]].isna().all()
    np.testing.assert_allclose(f1.loc["macro", "difference"], f1["difference"][["a0", "a2"]].mean())
    np.testing.assert_array_equal(
        f1.loc[["a0", "a2"], "p_holm"], holm(f1.loc[["a0", "a2"], "p_value"].to_numpy(float))
    )


def test_what_cannot_be_compared_is_said(drawn: tuple[NDArray[np.float32], Arrays]) -> None:
    labels, probabilities = drawn
    names, real = STUDY.attributes, probabilities["real"]
    with pytest.raises(ValueError, match="baseline is 'none'; give one of real, minority"):
        _against(labels, probabilities, names, "none")
    with pytest.raises(ValueError, match="arm real is the only one; give"):
        _against(labels, {"real": real}, names, "real")
    with pytest.raises(ValueError, match=r"labels have shape \(300, 3\); give \(images, 1\)"):
        _against(labels, probabilities, names[:1], "real")
    with pytest.raises(ValueError, match=r"arm minority have shape .* \(3 seeds, 300, 3\)"):
        _against(labels, {"real": real, "minority": real[:2]}, names, "real")
    with pytest.raises(ValueError, match="shares has none for a1; give"):
        _against(labels, probabilities, names, "real", shares={"a0": 0.1})
    with pytest.raises(ValueError, match="no pair is given; give another"):
        compare_pairs(labels, probabilities, names, [])
    fitted = {"real": np.full((3, 3), 0.5, np.float32)}
    with pytest.raises(ValueError, match=r"of arm minority have shape \(\); give \(3, 3\)"):
        _against(labels, probabilities, names, "real", fitted=fitted)
