"""When a probability is a label: thresholds, calibration, empty cells, and the rows fitted on."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from labeling import LabelerCard, LabelPolicy, PolicyConfig, Predictor, Rule, fit_thresholds
from labeling.thresholds import calibrated, calibration_error, fit_temperature


def _draw(n: int = 4000, sharpness: float = 1.0, seed: int = 0) -> tuple[pd.DataFrame, Any]:
    """Real val rows of attribute `a`; its log-odds are predicted `sharpness` times too large."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(-1, 2, n)
    y = (rng.random(n) < expit(log_odds)).astype(float)
    table = pd.DataFrame({"split": "val", "source": "real", "a": y})
    return table, expit(sharpness * log_odds)[:, None]


def _decided(table: pd.DataFrame, p: Any, **wanted: Any) -> tuple[np.ndarray, np.ndarray, Rule]:
    policy = LabelPolicy.fit(table, p, ["a"], config=PolicyConfig(**wanted))
    labels, _ = policy.apply(p, ["a"])
    return labels[:, 0], table["a"].to_numpy(), policy.rules["a"]


@pytest.mark.parametrize(
    ("column", "value"), [("split", "test"), ("split", "train"), ("source", "synthetic")]
)
def test_is_never_fitted_on_other_rows_than_real_val(column: str, value: str) -> None:
    table, p = _draw(20)
    table.loc[13, column] = value
    with pytest.raises(ValueError, match=f"row 13 has {column} '{value}' .*split val only"):
        LabelPolicy.fit(table, p, ["a"])
    LabelPolicy.fit(table.drop(13), np.delete(p, 13, 0), ["a"])


def test_a_table_that_does_not_say_its_split_is_refused() -> None:
    table, p = _draw(20)
    with pytest.raises(ValueError, match="has no column split"):
        LabelPolicy.fit(table.drop(columns="split"), p, ["a"])
    with pytest.raises(ValueError, match="has no rows"):
        LabelPolicy.fit(table[:0], p[:0], ["a"])
    with pytest.raises(ValueError, match="has no column b"):
        LabelPolicy.fit(table, p, ["b"])


def test_the_default_decides_as_the_f1_optimal_threshold_does() -> None:
    table, p = _draw()
    labels, y, rule = _decided(table, p)
    threshold = fit_thresholds(p, y[:, None], ["a"])["a"]
    np.testing.assert_array_equal(labels, p[:, 0] >= threshold)
    assert rule.kept == 1


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_is_the_one_that_was_put_in(sharpness: float) -> None:
    table, p = _draw(20_000, sharpness)
    _, _, rule = _decided(table, p)
    assert rule.temperature == pytest.approx(sharpness, rel=0.05)
    assert rule.ece_after < 0.015
    if sharpness != 1:
        assert rule.ece_before > 3 * rule.ece_after


def test_the_temperature_is_logistic_regressions_slope() -> None:
    table, p = _draw(20_000, 2.0)
    y = table["a"].to_numpy()
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(logit(p), y)
    assert fit_temperature(p[:, 0], y) == pytest.approx(1 / model.coef_[0, 0], rel=1e-3)


@pytest.mark.parametrize(("certainty", "low"), [(0.9, 0.3), (0.999, 0.7)])
def test_rows_told_apart_do_not_make_certain(certainty: float, low: float) -> None:
    """Their likelihood alone would grow as the temperature falls to nothing."""
    y = np.repeat([1.0, 0.0], [5, 200])
    temperature = fit_temperature(np.where(y == 1, certainty, 1 - certainty), y)
    assert low < temperature < 1


def test_calibration_keeps_order_and_takes_certainty() -> None:
    p = np.array([0.0, 1e-9, 0.2, 0.5, 1.0])
    hot = calibrated(p, 3.0)
    assert (np.diff(hot) >= 0).all()
    assert np.isfinite(hot).all()
    assert hot[3] == 0.5
    assert calibrated(p, 1.0) is p


def test_calibration_error_by_hand() -> None:
    p, y = np.array([0.1, 0.1, 0.9, 0.9]), np.array([0.0, 1.0, 1.0, 1.0])
    assert calibration_error(p, y) == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)


@pytest.mark.parametrize("calibrate", [True, False])
def test_a_wanted_precision_is_met_by_the_lowest_threshold(calibrate: bool) -> None:
    table, p = _draw()
    labels, y, rule = _decided(table, p, precision=0.9, calibrate=calibrate)
    assert rule.precision_present == pytest.approx(y[labels == 1].mean())
    assert rule.precision_present >= 0.9
    order = np.argsort(-p[:, 0])
    naive = np.cumsum(y[order]) / np.arange(1, len(y) + 1)
    assert (labels == 1).sum() == np.flatnonzero((naive >= 0.9) & (np.arange(len(y)) >= 9))[-1] + 1


def test_a_precision_out_of_reach_leaves_the_f1_optimal_threshold() -> None:
    table, p = _draw(200)
    table["a"] = np.random.default_rng(1).integers(0, 2, 200).astype(float)
    out_of_reach, _, rule = _decided(table, p, precision=1.0)
    np.testing.assert_array_equal(out_of_reach, _decided(table, p)[0])
    assert rule.precision_present < 1  # and the rule says so


def test_cells_in_the_band_stay_empty() -> None:
    table, p = _draw()
    labels, _, rule = _decided(table, p, band=0.2, calibrate=False)
    threshold = fit_thresholds(p, table[["a"]], ["a"])["a"]
    np.testing.assert_array_equal(labels == 1, p[:, 0] >= threshold + 0.2)
    np.testing.assert_array_equal(labels == 0, p[:, 0] < threshold - 0.2)
    assert rule.kept == pytest.approx(np.mean(~np.isnan(labels)))
    assert 0.1 < rule.kept < 0.95


def test_both_decisions_are_as_right_as_wanted_and_the_rest_stays_empty() -> None:
    table, p = _draw()
    labels, y, rule = _decided(table, p, both_precision=0.95)
    assert y[labels == 1].mean() >= 0.95
    assert (1 - y[labels == 0]).mean() >= 0.95
    assert 0.2 < rule.kept < 0.95
    looser = _decided(table, p, both_precision=0.85)[2]
    assert looser.kept > rule.kept


def test_nothing_is_empty_where_one_cut_is_right_enough() -> None:
    table, p = _draw()
    labels, _, rule = _decided(table, p, both_precision=0.6)
    assert rule.present == rule.absent
    assert not np.isnan(labels).any()


def test_a_side_that_is_never_right_enough_is_never_decided() -> None:
    table, p = _draw(500)
    table["a"] = np.random.default_rng(0).random(500) < 0.1  # nothing to do with p
    labels, _, rule = _decided(table.astype({"a": float}), p, both_precision=0.85)
    assert rule.present is None
    assert rule.precision_present is None
    assert not (labels == 1).any()


def test_a_precision_seen_on_too_few_rows_does_not_count() -> None:
    table = pd.DataFrame({"split": "val", "a": [1.0, 1.0, 1.0] + [1.0, 0.0] * 20 + [0.0] * 9})
    p = np.linspace(0.9, 0.1, len(table))[:, None]
    assert _decided(table, p, both_precision=1.0, min_count=3)[2].present is not None
    few = _decided(table, p, both_precision=1.0, min_count=10)[2]
    assert few.present is None
    assert few.absent is not None or few.kept == 0


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan])
def test_one_value_alone_fits_nothing(value: float) -> None:
    table, p = _draw(50)
    table["a"] = value
    labels, _, rule = _decided(table, p)
    assert (rule.present, rule.absent, rule.temperature) == (0.5, 0.5, 1.0)
    assert rule.ece_before is None
    assert np.isnan(_decided(table, p, both_precision=0.9)[0]).all()
    assert not np.isnan(labels).any()


def test_unlabelled_rows_do_not_count() -> None:
    table, p = _draw(300)
    more = pd.concat([table, table.assign(a=np.nan)])
    doubled = np.concatenate([p, 1 - p])
    config = PolicyConfig(both_precision=0.9)
    assert LabelPolicy.fit(more, doubled, ["a"], config=config) == LabelPolicy.fit(
        table, p, ["a"], config=config
    )


def test_soft_labels_are_probabilities_where_a_label_would_be() -> None:
    policy = LabelPolicy(rules={"a": Rule(present=0.7, absent=0.3)})
    p = [[0.1, 0.9], [0.5, 0.9], [0.7, 0.9], [np.nan, 0.9]]
    soft, hard = (policy.apply(p, ["a", "z"], soft=soft)[0] for soft in (True, False))
    np.testing.assert_array_equal(soft[:, 0], [0.1, np.nan, 0.7, np.nan])
    np.testing.assert_array_equal(hard[:, 0], [0, np.nan, 1, np.nan])
    assert np.isnan(soft[:, 1]).all()


def test_what_is_written_is_read_and_not_overwritten(tmp_path: Path) -> None:
    table, p = _draw(500)
    config = PolicyConfig(both_precision=0.9)
    policy = LabelPolicy.fit(table, p, ["a"], config=config, labeler="abc")
    policy.write(tmp_path / "policy.json")
    assert LabelPolicy.read(tmp_path / "policy.json") == policy
    with pytest.raises(ValueError, match="exists and is not overwritten"):
        policy.write(tmp_path / "policy.json")
    (tmp_path / "other.json").write_text('{"rules": {"a": {"present": 1}}}')
    with pytest.raises(ValueError, match="is not a label policy"):
        LabelPolicy.read(tmp_path / "other.json")
    with pytest.raises(FileNotFoundError, match=r"python recipes/label\.py fit"):
        LabelPolicy.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"precision": 0.0}, r"^wanted\.precision is 0.0; give a share in \(0, 1\]"),
        ({"both_precision": 1.1}, r"^wanted\.both_precision is 1.1"),
        ({"band": 1.0}, r"^wanted\.band is 1.0"),
        ({"min_count": 0}, r"^wanted\.min_count is 0"),
        (
            {"both_precision": 0.9, "band": 0.1},
            "both_precision is 0.9; it takes the place of wanted.precision and wanted.band",
        ),
    ],
)
def test_settings_that_do_not_hold_are_refused(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PolicyConfig(**wanted)
    with pytest.raises(
        ValueError, match=r"absent is 0\.3 and present 0.2; give an absent that is no higher"
    ):
        Rule(present=0.2, absent=0.3)


class _Named(Predictor):
    """A labeler of which nothing but card and hash is asked."""

    def __init__(self, sha256: str, thresholds: dict[str, float]) -> None:
        self.sha256 = sha256
        self.card = LabelerCard(
            architecture="none",
            attributes=["a", "b"],
            image_size=1,
            mean=[0.0] * 3,
            std=[1.0] * 3,
            thresholds=thresholds,
            source="test",
            licence="MIT",
            command="",
        )


def test_a_cards_thresholds_are_a_policy() -> None:
    policy = LabelPolicy.of_card(_Named("abc", {"a": 0.3}))
    p = np.array([[0.29, 0.5], [0.3, 0.49]])
    labels, calibrated_p = policy.apply(p, ["a", "b"])
    assert labels.tolist() == [[0, 1], [1, 0]]
    np.testing.assert_array_equal(calibrated_p, p)
    summary = policy.summary()
    assert summary["present"].to_dict() == {"a": 0.3, "b": 0.5}
    assert (summary["temperature"] == 1).all()
    assert summary[["kept", "n", "ece_before"]].isna().all(axis=None)
    assert {str(kind) for kind in summary.dtypes} == {"float64"}
    policy.check_labeler("abc")
    with pytest.raises(ValueError, match="fitted for the labeler abc, not for def"):
        policy.check_labeler("def")


def test_a_fitted_policy_is_completed_by_the_card() -> None:
    fitted = LabelPolicy(rules={"a": Rule(present=0.9, absent=0.1)}, labeler="abc")
    whole = fitted.completed(_Named("abc", {"a": 0.3, "b": 0.4}))
    assert whole.rules == {**fitted.rules, "b": Rule(present=0.4, absent=0.4)}
    assert list(fitted.rules) == ["a"]
    with pytest.raises(ValueError, match="fitted for the labeler abc, not for def"):
        fitted.completed(_Named("def", {}))
