"""Which arms of a run are compared, and the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from classify import Arm, Predictions, compare_pairs
from classify.metrics import MACRO

__all__ = [
    "REAL", "best_on_val", "compare_arms", "compared_pairs", "judged_pairs", "train_shares",
]  # fmt: skip

REAL = "real"
"""The arm of real images alone, which all are compared with."""
_RIVALS = (REAL, "oversample", "plain")
"""The arms that one with synthetic images has to beat, as far as they were run: no more images, the
same ones again, and images of an unguided sampler; and whatever is best without synthetic images.
"""
_COMPARISON = (
    "arm", "baseline", "attribute", "metric", "difference", "low", "high", "p_value", "p_holm",
    "verdict", "n_seeds",
)  # fmt: skip
"""Columns of `comparison.csv`, which a study of one arm leaves empty."""


Pairs = list[tuple[str, str]]


def train_shares(table: pd.DataFrame, attributes: Sequence[str]) -> dict[str, float]:
    """Attribute -> share of positives in [0, 1] among the real train rows; 0 without a label."""
    means = table.loc[table["split"] == "train", list(attributes)].mean().fillna(0.0)
    return {str(name): float(share) for name, share in means.items()}


def best_on_val(scores: pd.DataFrame, arms: Sequence[str]) -> str:
    """The arm of the highest mean macro F1 on val; the test images choose nothing.

    Args:
        scores: of `classify.run_study`.
        arms: which take part; of equals the first is the best.
    """
    is_f1 = (scores["attribute"] == MACRO) & (scores["metric"] == "f1")
    judged = scores[is_f1 & (scores["split"] == "val") & scores["arm"].isin(arms)]
    return str(judged.groupby("arm")["value"].mean().reindex(list(arms)).fillna(0.0).idxmax())


def judged_pairs(arms: Mapping[str, Arm], focus: str | None, best: str) -> Pairs:
    """The pairs that the verdict is about: every arm with a set against the rivals that were run
    and the best one without synthetic images, and the focus against the others with a set.
    """
    helped = [name for name, arm in arms.items() if arm.sets]
    rivals = [name for name in dict.fromkeys([*_RIVALS, best]) if name in arms]
    return [
        (arm, baseline)
        for arm in helped
        for baseline in dict.fromkeys([*rivals, *(helped if arm == focus else [])])
        if baseline != arm
    ]


def compared_pairs(arms: Mapping[str, Arm], focus: str | None, best: str) -> Pairs:
    """Every arm against those before it, and what else the verdict is about, the focus' first."""
    names, judged = list(arms), judged_pairs(arms, focus, best)
    pairs = []
    for place, baseline in enumerate(names):
        before = [a for a in names[:place] if a == focus or (a, baseline) in judged]
        pairs += [(arm, baseline) for arm in (*before, *names[place + 1 :])]
    return pairs


def compare_arms(
    predictions: Predictions,
    val: Predictions,
    pairs: Sequence[tuple[str, str]],
    shares: Mapping[str, float],
) -> pd.DataFrame:
    """The pairs compared, by seed and test image; thresholds are those fitted on val."""
    if not pairs:
        return pd.DataFrame(columns=_COMPARISON)
    return compare_pairs(
        predictions.labels,
        predictions.probabilities,
        predictions.attributes,
        pairs,
        fitted=val.best_thresholds(),
        shares=shares,
    )
