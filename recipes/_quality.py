"""How far a run's labels can be trusted: the labeler against the real validation labels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from classify import GROUPS
from labeling import quality_by_group
from recipes._prepare import Chain

__all__ = ["label_quality", "label_rarity"]


def label_quality(chain: Chain) -> pd.DataFrame:
    """The labels that the labeler gives the real val rows, judged by attribute and by group.

    Returns:
        As `labeling.quality_by_group`; the groups are of Male and Young, where the table has them.
    """
    val = chain.table[chain.table["split"] == "val"].reset_index(drop=True)
    known = [name for name in chain.attributes if name in chain.labeler.attributes]
    groups = [name for name in GROUPS if name in val and val[name].nunique() > 1]
    return quality_by_group(val, chain.label(val)[known], groups)


def label_rarity(table: pd.DataFrame, shares: pd.Series[float]) -> pd.Series[float]:
    """How rare each row's labels are together: minus their log-probability (nats), were the
    attributes independent and as frequent as `shares` says. What is empty counts nothing.
    """
    p = shares.clip(1e-6, 1 - 1e-6)  # a value that never occurred is very rare, not impossible
    labels = table[list(p.index)]
    surprise = -(labels * np.log(p) + (1 - labels) * np.log1p(-p))
    return surprise.sum(axis=1)
