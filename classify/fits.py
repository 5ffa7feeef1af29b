"""What in a study's fits speaks against taking its scores at their word."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from classify.metrics import MACRO, MEANS
from classify.predictions import Predictions
from classify.verdict import listed

__all__ = ["cautions"]


def cautions(scores: pd.DataFrame, predictions: Predictions) -> list[str]:
    """A sentence each on fits that learned nothing, and on arms that do not differ.

    Args:
        scores: Of `run_study`.
        predictions: Of its fits, for the test images.
    """
    test = scores[scores["split"] == "test"]
    return [*_constant(predictions), *_never_right(test), *_alike(test)]


def _constant(predictions: Predictions) -> Iterator[str]:
    """Fits that say of every image the same."""
    found = []
    for arm, probabilities in predictions.probabilities.items():
        decided = probabilities >= 0.5
        constant = (decided == decided[:, :1]).all(axis=(1, 2))
        found += [f"{arm} with seed {seed}" for seed in np.flatnonzero(constant)]
    if found:
        yield f"Every test image is predicted the same by {listed(found)}: nothing was learned."


def _never_right(test: pd.DataFrame) -> Iterator[str]:
    """Arms whose F1 is 0 in every attribute, and attributes whose F1 is 0 in every arm."""
    rows = test[(test["metric"] == "f1") & ~test["attribute"].isin(MEANS)].dropna(subset="value")
    for of, other in (("arm", "attribute"), ("attribute", "arm")):
        best = rows.groupby(of, sort=False)["value"].max()
        if names := [str(name) for name in best.index[best == 0]]:
            yield f"F1 is 0 with every seed and in every {other} for {listed(names)}."


def _alike(test: pd.DataFrame) -> Iterator[str]:
    """Arms whose macro scores are equal to three digits, every one with every seed."""
    macro = test[test["attribute"] == MACRO]
    values = macro.pivot(index="arm", columns=["metric", "seed"], values="value").round(3)
    for _, arms in values.fillna(-1).groupby(list(values.columns), sort=False):
        if len(arms) > 1:
            yield (
                f"The macro scores of {listed(list(arms.index))} are equal to three digits with "
                "every seed: look whether they trained on the same rows."
            )
