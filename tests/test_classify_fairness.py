"""The audit against fairlearn and scikit-learn on hand-made and random cases, what is not
estimable, the paired change, and the coverage of its intervals.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from fairlearn_doubles import metric_frame
from sklearn.metrics import confusion_matrix, f1_score

from classify.audit_frames import fairlearn_frame
from classify.fairness import BETWEEN, COLUMNS, WITHIN, audit
from classify.groups import composition

NAMES = ["Smiling", "Bald"]
RATES = ["selection_rate", "true_positive_rate", "false_positive_rate", "f1"]


def _random(n: int = 600, seeds: int = 3) -> tuple[np.ndarray, dict[str, np.ndarray], pd.DataFrame]:
    rng = np.random.default_rng(0)
    labels = (rng.random((n, 2)) < [0.5, 0.4]).astype(np.float32)
    labels[rng.random((n, 2)) < 0.1] = np.nan
    groups = pd.DataFrame(rng.integers(0, 2, (n, 2)).astype(float), columns=["Male", "Young"])
    groups[rng.random((n, 2)) < 0.05] = np.nan
    arms = {arm: rng.random((seeds, n, 2)).astype(np.float32) for arm in ("real", "minority")}
    return labels, arms, groups


def _own(rows: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    for column, value in {"baseline": "", **wanted}.items():
        rows = rows[rows[column] == value]
    return rows


@pytest.fixture(scope="module")
def audited() -> pd.DataFrame:
    labels, arms, groups = _random()
    return audit(labels, arms, groups, NAMES, {"Bald": 0.3}, baseline="real", draws=50)


@pytest.mark.parametrize("columns", [["Male"], ["Young"], ["Male", "Young"]])
def test_every_figure_is_fairlearns(audited: pd.DataFrame, columns: list[str]) -> None:
    theirs = pytest.importorskip("fairlearn.metrics")
    labels, arms, groups = _random()
    for arm, (at, name) in itertools.product(arms, enumerate(NAMES)):
        limit = {"Bald": 0.3}.get(name, 0.5)
        fits = [fairlearn_frame(labels[:, at], p[:, at], groups, limit) for p in arms[arm]]
        frames = [metric_frame(fit, columns) for fit in fits]
        told = _own(audited, arm=arm, attribute=name, grouping=" x ".join(columns))
        table = told[told["metric"].isin(WITHIN)].pivot(
            index="group", columns="metric", values="value"
        )
        for key, row in (sum(frame.by_group for frame in frames) / len(frames)).iterrows():
            values = key if isinstance(key, tuple) else (key,)
            group = ", ".join(f"{c}={v:g}" for c, v in zip(columns, values, strict=True))
            np.testing.assert_allclose(table.loc[group, RATES].astype(float), row[RATES])
        between = told[told["metric"].isin(BETWEEN)].set_index("metric")["value"]
        known = [fit.dropna(subset=columns) for fit in fits]
        for metric, function in (
            ("demographic_parity_difference", theirs.demographic_parity_difference),
            ("equalized_odds_difference", theirs.equalized_odds_difference),
        ):
            expected = [
                function(fit["y_true"], fit["y_pred"], sensitive_features=fit[columns])
                for fit in known
            ]
            np.testing.assert_allclose(between[metric], np.mean(expected))
        worst = np.mean([frame.group_min()["f1"] for frame in frames])
        np.testing.assert_allclose(between["worst_group_f1"], worst)


def test_a_case_by_hand() -> None:
    # Men: 3 positive, 2 found; 2 negative, 1 taken. Women: 2 positive, none found; 2 negative.
    labels = np.array([1, 1, 1, 0, 0, 1, 1, 0, 0], np.float32)[:, None]
    predicted = np.array([1, 1, 0, 1, 0, 0, 0, 0, 0], np.float32)
    groups = pd.DataFrame({"Male": [1] * 5 + [0] * 4})
    rows = audit(labels, {"real": predicted[None, :, None]}, groups, ["Bald"], min_count=1)
    assert list(rows.columns) == list(COLUMNS)
    value = rows.set_index(["group", "metric"])["value"]
    men, women = value["Male=1"][RATES], value["Male=0"][RATES]
    np.testing.assert_allclose(men, [3 / 5, 2 / 3, 1 / 2, 2 * 2 / (3 + 3)])
    np.testing.assert_allclose(women, 0)
    between = rows.set_index("metric").loc[list(BETWEEN)]
    np.testing.assert_allclose(between["value"], [3 / 5, 2 / 3, 0])
    assert between["group"].tolist() == ["", "", "Male=0"]
    for sex, told in ((1, men), (0, women)):
        y, p = labels[groups["Male"] == sex, 0], predicted[groups["Male"] == sex]
        (tn, fp), (fn, tp) = confusion_matrix(y, p)
        expected = [p.mean(), tp / (tp + fn), fp / (fp + tn), f1_score(y, p, zero_division=0)]
        np.testing.assert_allclose(told, expected)
    assert value.notna().all()


def test_what_rests_on_too_few_is_nan_and_left_out() -> None:
    labels, arms, groups = _random()
    groups["Young"] = np.where(np.arange(len(groups)) < 60, 1.0, 0.0)
    labels[:60, 1] = 0
    labels[:10, 1] = 1
    rows = audit(labels, arms, groups[["Young"]], ["Smiling", "Bald"], draws=20)
    bald = _own(rows, arm="real", attribute="Bald").set_index(["group", "metric"])
    young = bald.loc["Young=1"]
    assert young.loc[["true_positive_rate", "f1"], ["value", "low", "high"]].isna().all(axis=None)
    assert young.loc[["selection_rate", "false_positive_rate"], "value"].notna().all()
    assert young.loc[RATES, "n"].tolist() == [60, 10, 50, 10]
    between = bald.loc[""]
    assert between.loc["demographic_parity_difference", "n"] == 2
    assert not between.loc["demographic_parity_difference", "left_out"]
    for metric in ("equalized_odds_difference", "worst_group_f1"):
        assert np.isnan(between.loc[metric, "value"])  # not 0, the range of the one that is left
        assert between.loc[metric, ["n", "left_out"]].tolist() == [1, "Young=1"]


def test_a_group_that_nobody_is_in_is_shown_as_such() -> None:
    labels, arms, groups = _random()
    groups.loc[groups["Male"] == 1, "Young"] = 1.0
    rows = audit(labels, arms, groups, NAMES, draws=20)
    nobody = rows[rows["group"] == "Male=1, Young=0"]
    assert len(nobody) == 2 * 2 * len(WITHIN)
    assert nobody["value"].isna().all()
    assert (nobody["n"] == 0).all()
    parity = rows[(rows["grouping"] == "Male x Young") & (rows["metric"] == BETWEEN[0])]
    assert (parity["n"] == 3).all()
    assert (parity["left_out"] == "Male=1, Young=0").all()


def test_an_attribute_is_not_audited_by_itself() -> None:
    labels, arms, groups = _random()
    rows = audit(labels, arms, groups, ["Male", "Bald"], draws=20)
    assert set(rows.loc[rows["attribute"] == "Male", "grouping"]) == {"Young"}
    assert set(rows.loc[rows["attribute"] == "Bald", "grouping"]) == {
        "Male", "Young", "Male x Young",
    }  # fmt: skip
    alone = audit(
        labels[:, :1], {a: p[..., :1] for a, p in arms.items()}, groups[["Male"]], ["Male"]
    )
    assert alone.empty
    assert list(alone.columns) == list(COLUMNS)


def test_change_is_paired_and_adjusted(audited: pd.DataFrame) -> None:
    keys = ["attribute", "grouping", "group", "metric"]
    changes = audited[audited["baseline"] == "real"]
    assert set(changes["arm"]) == {"minority"}
    keyed = audited.assign(group=audited["group"].where(audited["metric"].isin(WITHIN), ""))
    own = {arm: _own(keyed, arm=arm).set_index(keys)["value"] for arm in ("real", "minority")}
    expected = own["minority"] - own["real"]
    np.testing.assert_allclose(changes.set_index(keys)["value"], expected, atol=1e-12)
    assert (changes["p_holm"] >= changes["p_value"]).all()
    assert _own(audited)[["p_value", "p_holm"]].isna().all(axis=None)
    one = changes[(changes["group"] == "Male=1") & (changes["metric"] == "f1")]
    smaller, larger = sorted(one["p_value"])
    assert sorted(one["p_holm"]) == [min(2 * smaller, 1), max(min(2 * smaller, 1), larger)]


def test_one_seed_makes_no_change_certain() -> None:
    labels, arms, groups = _random()
    sure = {"real": arms["real"][:1], "minority": np.where(labels == 1, 1, 0)[None]}
    rows = audit(labels, sure, groups, NAMES, baseline="real", draws=20)
    changes = rows[rows["baseline"] == "real"]
    assert (changes["value"].abs() > 0.2).any()
    assert changes[["low", "high", "p_value", "p_holm"]].isna().all(axis=None)
    own = _own(rows, arm="real", metric="f1")
    assert (own["high"] > own["low"]).all()  # for other images


def test_twins_do_not_change_and_the_order_of_the_images_is_nothing() -> None:
    labels, arms, groups = _random()
    pair = {"real": arms["real"], "twin": arms["real"].copy()}
    rows = audit(labels, pair, groups, NAMES, baseline="real", draws=20)
    changes = rows[rows["baseline"] == "real"]
    assert (changes["value"] == 0).all()
    assert changes[["low", "high", "p_value"]].isna().all(axis=None)  # nothing varied
    order = np.random.default_rng(1).permutation(len(labels))
    other = audit(
        labels[order],
        {a: p[:, order] for a, p in pair.items()},
        groups.iloc[order],
        NAMES,
        draws=20,
    )
    told = _own(rows).drop(columns=["low", "high"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(other.drop(columns=["low", "high"]), told)


def test_unlabelled_images_count_nowhere() -> None:
    labels, arms, groups = _random()
    labels[groups["Male"] == 1, 1] = np.nan
    rows = audit(labels, arms, groups[["Male"]], NAMES, draws=20)
    men = _own(rows, arm="real", attribute="Bald", group="Male=1")
    assert men["value"].isna().all()
    assert (men["n"] == 0).all()


def test_interval_covers_the_truth() -> None:
    """Of one group's rate, and of the change of a difference between two groups."""
    rng, n, seeds, studies = np.random.default_rng(0), 800, 3, 300
    man = np.arange(n) % 2 == 1
    groups = pd.DataFrame({"Male": man.astype(float)})
    truths = {
        ("real", "", "Male=1", "true_positive_rate"): 0.8,
        ("minority", "real", "", "equalized_odds_difference"): -0.1,
    }
    covered = dict.fromkeys(truths, 0)
    for study in range(studies):
        positive, shared = rng.random(n) < 0.5, rng.random(n)
        arms = {}
        for arm, women in (("real", 0.6), ("minority", 0.7)):
            own = rng.random((seeds, n))
            luck = np.where(rng.random((seeds, n)) < 0.5, shared, own)
            found = positive & (luck < np.where(man, 0.8, women))
            arms[arm] = found.astype(np.float32)[..., None]
        labels = positive.astype(np.float32)[:, None]
        rows = audit(labels, arms, groups, ["Bald"], baseline="real", draws=60, seed=study)
        rows = rows.set_index(["arm", "baseline", "group", "metric"])
        for key, truth in truths.items():
            covered[key] += rows.loc[key, "low"] <= truth <= rows.loc[key, "high"]
    for key, times in covered.items():
        assert 0.92 <= times / studies <= 0.98, (key, times)


def test_composition_of_a_set() -> None:
    table = pd.DataFrame({"Male": [1.0, 1.0, 0.0, np.nan], "Young": [1.0, 0.0, 0.0, 1.0]})
    rows = composition({"real": table, "synthetic": table.iloc[:2]}, ["Male", "Young"])
    both = rows[rows["grouping"] == "Male x Young"].set_index(["set", "group"])
    assert both.loc["real", "n"].to_dict() == {
        "Male=0, Young=0": 1, "Male=0, Young=1": 0, "Male=1, Young=0": 1, "Male=1, Young=1": 1,
        "unlabelled": 1,
    }  # fmt: skip
    assert both.loc["synthetic", "share"].tolist() == [0, 0, 0.5, 0.5, 0]
    np.testing.assert_allclose(rows.groupby(["set", "grouping"])["share"].sum(), 1)
    assert set(composition({"real": table}, ["Male"])["grouping"]) == {"Male"}


def test_the_frame_for_other_tools() -> None:
    groups = pd.DataFrame({"Male": [1.0, 0.0, np.nan, 1.0]})
    frame = fairlearn_frame([1, 0, 1, np.nan], [0.9, 0.6, 0.2, 0.9], groups)
    assert frame[["y_true", "y_pred"]].to_numpy().tolist() == [[1, 1], [0, 1], [1, 0]]
    assert list(frame) == ["y_true", "y_pred", "score", "Male"]


def test_fairlearn_takes_the_frame() -> None:
    theirs = pytest.importorskip("fairlearn.metrics")
    groups = pd.DataFrame({"Male": [1.0, 0.0, np.nan, 1.0]})
    frame = fairlearn_frame([1, 0, 1, np.nan], [0.9, 0.6, 0.2, 0.9], groups)
    parity = theirs.MetricFrame(
        metrics=theirs.selection_rate,
        y_true=frame["y_true"],
        y_pred=frame["y_pred"],
        sensitive_features=frame["Male"].fillna(-1),
    )
    assert parity.by_group.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": pd.DataFrame({"Male": [1, 0]})}, "groups have 2 rows; give 600"),
        ({"groups": pd.DataFrame(index=range(600))}, "groups have no column; name"),
        ({"groups": pd.DataFrame({"Male": [1.0] * 600})}, "column Male has one value only; "),
        ({"min_count": 0}, "min_count is 0; give"),
        ({"baseline": "plain"}, "baseline is 'plain'; give one of real, minority"),
    ],
)
def test_refusals(change: dict[str, object], message: str) -> None:
    labels, arms, groups = _random()
    arguments = {"groups": groups, "min_count": 30, "baseline": None, **change}
    with pytest.raises(ValueError, match=message):
        audit(labels, arms, attributes=NAMES, **arguments)  # type: ignore[arg-type]
