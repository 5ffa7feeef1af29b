"""How far a run's labels can be trusted: the labeler against the real validation labels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from labeling import quality_by_group
from labeling.quality import ALL
from recipes._audit import dividing
from recipes._prepare import Chain

__all__ = ["label_quality", "label_rarity", "useless_labels"]

_TELLING = 0.1
"""Of Youden's J, true less false positive rate: 0 by chance, 1 at best."""


def label_quality(chain: Chain) -> pd.DataFrame:
    """The labels that the labeler gives the real val rows, judged by attribute and by group.

    Returns:
        As `labeling.quality_by_group`; the groups are of Male and Young, where the table has them.
    """
    val = chain.table[chain.table["split"] == "val"].reset_index(drop=True)
    known = [name for name in chain.attributes if name in chain.labeler.attributes]
    return quality_by_group(val, chain.label(val)[known], dividing(val))


def useless_labels(quality: pd.DataFrame) -> list[str]:
    """Attributes that the labeler hardly tells better than chance, of `label_quality`."""
    rows = quality[(quality["group"] == ALL) & quality["f1"].notna()].set_index("attribute")
    negatives = rows["n"] - rows["n_positive"]
    # Every error is a missed positive or a false one.
    false_positives = rows["error"] * rows["n"] - (1 - rows["recall"]) * rows["n_positive"]
    telling = rows["recall"] - false_positives / negatives
    return [str(name) for name in rows.index[telling < _TELLING]]


def label_rarity(table: pd.DataFrame, shares: pd.Series[float]) -> pd.Series[float]:
    """How rare each row's labels are together: minus their log-probability (nats), were the
    attributes independent and as frequent as `shares` says. What is empty counts nothing.
    """
    p = shares.clip(1e-6, 1 - 1e-6)  # a value that never occurred is very rare, not impossible
    labels = table[list(p.index)]
    surprise = -(labels * np.log(p) + (1 - labels) * np.log1p(-p))
    return surprise.sum(axis=1)
