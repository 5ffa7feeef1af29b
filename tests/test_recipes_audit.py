"""What a run hands to other auditing tools: the audit's figures follow from its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fairlearn_doubles import metric_frame
from recipe_doubles import digests

from classify import Predictions
from recipes.chain.results.audit import audit_arms, audit_groups, compose, export

ATTRIBUTES = ("Bald", "Male")
AUDITED = ["real", "rare"]
METRICS = ("selection_rate", "true_positive_rate", "false_positive_rate", "f1")
N, SEEDS = 600, 2


@pytest.fixture
def table() -> pd.DataFrame:
    """Test rows with two groupings that have gaps, and a train row."""
    rng = np.random.default_rng(0)
    groups = {name: rng.choice([0.0, 1.0, np.nan], N, p=[0.5, 0.4, 0.1]) for name in ("Male",)}
    groups["Young"] = rng.choice([0.0, 1.0], N)
    files = [f"{i}.png" for i in range(N)]
    test = pd.DataFrame({"file_name": files, "split": "test", **groups})
    return pd.concat([test, test[:1].assign(file_name="train.png", split="train")])


@pytest.fixture
def predictions(table: pd.DataFrame) -> Predictions:
    """Of three arms, in another order than the table's, with unlabelled cells."""
    rng = np.random.default_rng(1)
    test = table[table["split"] == "test"].sample(frac=1, random_state=0)
    bald = rng.choice([0.0, 1.0, np.nan], N, p=[0.6, 0.3, 0.1])
    labels = np.stack([bald, test["Male"].to_numpy()], axis=1).astype(np.float32)
    arms = ("real", "other", "rare")
    probabilities = {arm: rng.random((SEEDS, N, 2)).astype(np.float32) for arm in arms}
    return Predictions(
        files=pd.Index(test["file_name"]),
        attributes=ATTRIBUTES,
        labels=labels,
        probabilities=probabilities,
    )


@pytest.mark.parametrize("columns", [["Male"], ["Young"], ["Male", "Young"]])
@pytest.mark.parametrize("arm", AUDITED)
def test_fairlearn_finds_the_audits_figures_in_the_file(
    tmp_path: Path,
    table: pd.DataFrame,
    predictions: Predictions,
    arm: str,
    columns: list[str],
) -> None:
    pytest.importorskip("fairlearn")
    groups = audit_groups(table, predictions.files)
    assert groups is not None
    export(tmp_path, predictions, groups, AUDITED)
    frame = pd.read_csv(tmp_path / f"fairlearn-{arm}.csv.gz")
    assert set(frame["seed"]) == set(range(SEEDS))
    told = audit_arms(predictions, groups, AUDITED).query("arm == @arm and baseline == ''")
    grouping = " x ".join(columns)
    told = told[told["grouping"] == grouping]
    audited = [name for name in ATTRIBUTES if name not in columns]
    assert set(told["attribute"]) == set(audited)
    for attribute in audited:
        rows = frame.query("attribute == @attribute and grouping == @grouping")
        fits = [metric_frame(rows[rows["seed"] == seed], ["group"]) for seed in range(SEEDS)]
        figures = told[told["attribute"] == attribute].set_index(["group", "metric"])["value"]
        for group, row in (sum(fit.by_group for fit in fits) / SEEDS).iterrows():
            for metric in METRICS:
                assert figures[group, metric] == pytest.approx(row[metric], nan_ok=True)


def test_no_cell_is_empty_and_what_is_left_out_is_counted(
    tmp_path: Path, table: pd.DataFrame, predictions: Predictions
) -> None:
    groups = audit_groups(table, predictions.files)
    assert groups is not None
    left_out = export(tmp_path, predictions, groups, AUDITED)
    labelled, lacking = ~np.isnan(predictions.labels[:, 0]), groups["Male"].isna().to_numpy()
    # Bald by Male and by both; Male is labelled wherever it groups.
    assert left_out == SEEDS * 2 * (labelled & lacking).sum()
    rows = SEEDS * (3 * labelled.sum() + (~lacking).sum()) - left_out
    for tool in ("fairlearn", "aequitas"):
        for arm in AUDITED:
            frame = pd.read_csv(tmp_path / f"{tool}-{arm}.csv.gz")
            assert not frame.isna().to_numpy().any()
            assert len(frame) == rows


def test_aequitas_reads_groups_as_text_and_decisions(
    tmp_path: Path, table: pd.DataFrame, predictions: Predictions
) -> None:
    groups = audit_groups(table, predictions.files)
    assert groups is not None
    export(tmp_path, predictions, groups, AUDITED)
    frame = pd.read_csv(tmp_path / "aequitas-real.csv.gz")
    other = pd.read_csv(tmp_path / "fairlearn-real.csv.gz")
    assert list(frame) == ["attribute", "seed", "grouping", "label", "score", "group"]
    assert frame["score"].tolist() == other["y_pred"].tolist()
    assert frame["label"].tolist() == other["y_true"].tolist()
    assert set(frame.loc[frame["grouping"] == "Male", "group"]) == {"Male=0", "Male=1"}
    own = frame[frame["attribute"] == "Male"]
    assert set(own["group"]) == {"Young=0", "Young=1"}


def test_equal_predictions_give_equal_bytes(
    tmp_path: Path, table: pd.DataFrame, predictions: Predictions
) -> None:
    groups = audit_groups(table, predictions.files)
    assert groups is not None
    for folder in (tmp_path / "once", tmp_path / "again"):
        export(folder, predictions, groups, AUDITED)
    assert digests(tmp_path / "once") == digests(tmp_path / "again")


def test_columns_that_divide_nothing_are_no_groups(table: pd.DataFrame) -> None:
    files = pd.Index(table["file_name"][:N])
    groups = audit_groups(table.assign(Male=1.0), files)
    assert groups is not None
    assert list(groups) == ["Young"]
    assert audit_groups(table.drop(columns=["Male", "Young"]), files) is None


def test_only_the_arms_asked_for_are_audited(
    tmp_path: Path, table: pd.DataFrame, predictions: Predictions
) -> None:
    groups = audit_groups(table, predictions.files)
    assert groups is not None
    export(tmp_path, predictions, groups, AUDITED)
    files = {f"{tool}-{arm}.csv.gz" for tool in ("aequitas", "fairlearn") for arm in AUDITED}
    assert set(digests(tmp_path)) == files
    told = audit_arms(predictions, groups, AUDITED)
    assert set(told["arm"]) == set(AUDITED)
    assert set(told.loc[told["arm"] == "rare", "baseline"]) == {"", "real"}


def test_groups_need_not_be_attributes_of_the_study() -> None:
    rows = {"split": "train", "Male": ["no", "yes", "no", "yes"]}
    table = pd.DataFrame({**rows, "file_name": [f"{i}.png" for i in range(4)]})
    table = pd.concat([table, table.assign(split="test")], ignore_index=True)
    groups = audit_groups(table, pd.Index(table["file_name"][:4]))
    assert groups is not None
    labels = np.array([[1.0], [0.0], [1.0], [0.0]], np.float32)
    probabilities = {arm: np.full((1, 4, 1), 0.5, np.float32) for arm in AUDITED}
    predictions = Predictions(
        files=groups.index, attributes=("Smiling",), labels=labels, probabilities=probabilities
    )
    audited = audit_arms(predictions, groups, AUDITED)
    assert set(audited["group"]) - {""} == {"Male=no", "Male=yes"}
    synthetic = pd.DataFrame({"Smiling": [1.0, 0.0]})
    sets = compose(table, {"rare": synthetic}).set_index(["set", "group"])["share"]
    assert sets["real train", "Male=yes"] == 0.5
    assert sets["rare", "unlabelled"] == 1
