"""The verdict on made-up comparisons: who gains, and whether a gain is more than a prior shift."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import pytest

from classify.verdict import headline, of_gains, verdicts

NAN = float("nan")
_WORDS = {"+": "gain", "-": "loss", "0": "no evidence of gain"}
METRICS = ("f1", "average_precision", "f1_fitted", "prior_shift")


def _comparison(told: Mapping[tuple[str, str, str], str], seeds: int = 3) -> pd.DataFrame:
    """(arm, baseline, mean) -> a sign for each of `METRICS`, such as `++00`."""
    rows = []
    for (arm, baseline, mean), signs in told.items():
        for metric, sign in zip(METRICS, signs, strict=False):
            value = {"+": 0.02, "-": -0.02, "0": 0.0}[sign]
            bounds = (value - 0.01, value + 0.01) if seeds > 1 else (NAN, NAN)
            rows.append((arm, baseline, mean, metric, value, *bounds, _WORDS[sign], seeds))
    columns = ["arm", "baseline", "attribute", "metric", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=[*columns, "n_seeds"])


@pytest.mark.parametrize(
    ("signs", "outcome", "sentence"),
    [
        ("+++0", "remain in average", "It remains in average precision and at fitted thresholds"),
        (
            "++++",
            "remain in average",
            "It remains in average precision and at fitted thresholds; part of it (+0.020) is a "
            "prior shift",
        ),
        (
            "++00",
            "remain there only in part",
            "It remains in average precision, without evidence of it at fitted thresholds",
        ),
        (
            "+-+0",
            "remain there only in part",
            "It remains at fitted thresholds, without evidence of it in average precision",
        ),
        (
            "+00+",
            "may be no more than a prior shift",
            "There is no evidence of it in average precision or at fitted thresholds, so it may be "
            "no more than a prior shift; part of it (+0.020) is a prior shift",
        ),
        ("0+++", None, ""),
        ("-++0", None, ""),
        ("+", None, ""),  # nothing else was measured
    ],
)
def test_a_gain_remains_where_both_other_scores_gain(
    signs: str, outcome: str | None, sentence: str
) -> None:
    [one] = verdicts(_comparison({("rare", "real", "macro"): signs}), [("rare", "real")])
    assert (one.outcome or "None").startswith(outcome or "None")
    assert one.remains() == sentence
    assert one.findings["macro"].verdict == _WORDS[signs[0]]


def test_rare_attributes_are_judged_by_themselves() -> None:
    told = {("rare", "real", "macro"): "+++0", ("rare", "real", "macro, rare"): "++00"}
    [one] = verdicts(_comparison(told), [("rare", "real")])
    assert one.outcome == "remain there only in part"
    assert one.findings["macro"].elsewhere() == (
        "also in average precision and at fitted thresholds"
    )
    assert one.findings["macro, rare"].elsewhere() == "also in average precision"
    assert one.reasons() == (
        "gain in macro F1 (+0.020 [+0.010, +0.030]) and in F1 over rare attributes (+0.020 "
        "[+0.010, +0.030]). Over all attributes it remains in average precision and at fitted "
        "thresholds. Over rare ones it remains in average precision, without evidence of it at "
        "fitted thresholds"
    )
    only_rare = {("rare", "real", "macro"): "0000", ("rare", "real", "macro, rare"): "+++0"}
    [one] = verdicts(_comparison(only_rare), [("rare", "real")])
    assert one.outcome == "remain in average precision and at fitted thresholds"
    assert one.remains().startswith("Over rare ones it remains")


PAIRS = [("plain", "real"), ("rare", "real"), ("rare", "plain")]


def _told(signs: Mapping[str, tuple[str, str, str]]) -> pd.DataFrame:
    return _comparison(
        {(*pair, mean): sign for mean, of in signs.items()
         for pair, sign in zip(PAIRS, of, strict=True)}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("macro", "rare", "expected"),
    [
        (
            ("+++0", "+++0", "+++0"),
            ("+++0", "+++0", "+++0"),
            "In macro F1, plain gains over real; rare gains over real and plain. Over rare "
            "attributes, likewise.",
        ),
        (
            ("0000", "+++0", "0000"),
            ("0000", "0000", "0000"),
            "In macro F1, rare gains over real; there is no evidence of gain for plain over real, "
            "rare over plain. Over rare attributes, there is no evidence of gain for any arm.",
        ),
        (
            ("+++0", "+++0", "-000"),
            ("0000", "0000", "-000"),
            "In macro F1, plain and rare gain over real; rare loses against plain. Over rare "
            "attributes, rare loses against plain; there is no evidence of gain for plain and rare "
            "over real.",
        ),
    ],
)
def test_the_headline_says_who_gains_over_whom(
    macro: tuple[str, str, str], rare: tuple[str, str, str], expected: str
) -> None:
    found = verdicts(_told({"macro": macro, "macro, rare": rare}), PAIRS)
    assert headline(found) == expected


def test_gains_are_told_apart_by_what_remains() -> None:
    found = verdicts(_told({"macro": ("+00+", "+++0", "++00")}), PAIRS)
    assert of_gains(found) == (
        "Gains that remain in average precision and at fitted thresholds: rare over real. Gains "
        "that remain there only in part: rare over plain. Gains that may be no more than a prior "
        "shift: plain over real."
    )
    all_alike = verdicts(_told({"macro": ("+++0",) * 3}), PAIRS)
    assert of_gains(all_alike).endswith("at fitted thresholds: all.")
    assert of_gains(verdicts(_told({"macro": ("0000", "-000", "0000")}), PAIRS)) == ""


def test_one_seed_says_so_and_what_was_not_compared_has_no_verdict() -> None:
    comparison = _comparison({("rare", "real", "macro"): "0000"}, seeds=1)
    [one] = verdicts(comparison, [*PAIRS, ("other", "real")])
    assert one.reasons() == ("no evidence of gain in macro F1 (+0.000, one seed, so no interval)")
    assert headline([]).endswith("so there is no verdict.")
