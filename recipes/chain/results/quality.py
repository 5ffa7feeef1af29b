"""What labels say: how far the labeler can be trusted, and how rare the synthetic sets are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from classify import attribute_scores, best_thresholds, label_tensor
from classify.metrics import AVERAGE_PRECISION, fitted_scores
from labeling import quality_by_group
from recipes.chain.results.audit import dividing

__all__ = [
    "label_quality",
    "label_rarity",
    "labeler_scores",
    "log_probabilities",
    "prevalence",
]


def label_quality(val: pd.DataFrame, labelled: pd.DataFrame) -> pd.DataFrame:
    """The labels that the labeler gives the real val rows, judged by attribute and by group.

    Args:
        val: real val rows with their true labels.
        labelled: the same rows with the labeler's; its columns are the attributes judged.

    Returns:
        As `labeling.quality_by_group`; the groups are of Male and Young, where the table has them.
    """
    return quality_by_group(val, labelled, dividing(val))


def labeler_scores(
    real: Mapping[str, pd.DataFrame], labelled: Mapping[str, pd.DataFrame], names: Sequence[str]
) -> pd.DataFrame:
    """The labeler judged on test as a classifier of a study is.

    Its F1, precision and recall are those of its labels, made at its own thresholds; a cell that it
    left empty counts as absent. Average precision is that of its probabilities, and `f1_fitted` is
    at thresholds fitted on val as every arm's.

    Args:
        real: val and test -> real rows with their true labels.
        labelled: the same rows, of `labeling.pseudo_label`.
        names: the attributes that it knows.

    Returns:
        Tidy rows `split, attribute, metric, value`, split test.
    """
    p = {split: table[[f"p_{name}" for name in names]] for split, table in labelled.items()}
    given = {split: torch.tensor(table.to_numpy(np.float32)) for split, table in p.items()}
    truth = {split: label_tensor(real[split], names) for split in labelled}
    decided = torch.tensor(labelled["test"][list(names)].fillna(0).to_numpy(np.float32))
    at_its_own = attribute_scores(decided, truth["test"], names, split="test")
    ranked = attribute_scores(given["test"], truth["test"], names, split="test")
    fitted = best_thresholds(given["val"].numpy(), truth["val"].numpy())
    parts = [
        at_its_own[at_its_own["metric"] != AVERAGE_PRECISION],
        ranked[ranked["metric"] == AVERAGE_PRECISION],
        fitted_scores(given["test"], truth["test"], names, fitted, split="test"),
    ]
    return pd.concat(parts, ignore_index=True)


def prevalence(
    real: pd.DataFrame, sets: Mapping[str, pd.DataFrame], attributes: Sequence[str]
) -> pd.DataFrame:
    """Share of positives in [0, 1]: index attribute, `real` (its train rows), then one column per
    set.

    The sets' shares are of the labeler's labels; NaN where an attribute has no label.
    """
    tables = {"real": real[real["split"] == "train"], **sets}
    shares = {name: table[list(attributes)].mean() for name, table in tables.items()}
    return pd.DataFrame(shares).rename_axis("attribute")


def label_rarity(table: pd.DataFrame, shares: pd.Series[float]) -> pd.Series[float]:
    """How rare each row's labels are together: minus their log-probability (nats), were the
    attributes independent and as frequent as `shares` says. What is empty counts nothing.
    """
    p = shares.clip(1e-6, 1 - 1e-6)  # a value that never occurred is very rare, not impossible
    labels = table[list(p.index)]
    surprise = -(labels * np.log(p) + (1 - labels) * np.log1p(-p))
    return surprise.sum(axis=1)


def log_probabilities(
    log_probability: Callable[[pd.DataFrame], NDArray[np.float64]],
    tables: Mapping[str, pd.DataFrame],
    attributes: Sequence[str],
) -> pd.DataFrame | None:
    """Mean log-probability (nats) of the attributes of each table, under the known distribution.

    Returns:
        Index table, columns `mean_log_probability, n`; None where an attribute is without label.
    """
    if any(table[list(attributes)].isna().any(axis=None) for table in tables.values()):
        return None
    rows = {name: (float(log_probability(t).mean()), len(t)) for name, t in tables.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["mean_log_probability", "n"])
