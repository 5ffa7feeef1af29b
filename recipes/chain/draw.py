"""A few labelled rows of many, as if no more had been labelled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labeling import NEEDED

__all__ = ["halved", "labelled_draw"]

_SEED = 0


def labelled_draw(
    table: pd.DataFrame, attributes: Sequence[str], num_real: int | None, num_val: int | None
) -> pd.DataFrame:
    """The table with so many train and val rows; test rows stay.

    The rows are put into an order that does not depend on how many are taken, so that a larger draw
    holds every smaller one: first as many images with each attribute as its labels are judged by
    (`labeling.NEEDED`), the rarest attribute first, then all others at random. So an attribute that
    a few rows in a thousand have can be learned at all.

    Raises:
        ValueError: more rows than there are.
    """
    parts = []
    for split, count in (("train", num_real), ("val", num_val)):
        rows = np.flatnonzero(table["split"] == split)
        if count is not None and count > len(rows):
            name = "num_real" if split == "train" else "num_val"
            raise ValueError(
                f"{name} is {count}, and the data have {len(rows)} {split} rows; give at most that"
            )
        order = (
            _rare_first(table.iloc[rows][list(attributes)])
            if count is not None
            else np.arange(len(rows))
        )
        parts.append(rows[np.sort(order[:count])])
    others = np.flatnonzero(~table["split"].isin(["train", "val"]))
    kept = np.sort(np.concatenate([*parts, others]))
    return table.iloc[kept].reset_index(drop=True)


def halved(table: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """The table with every other val row, rare ones first, in the part of a test row."""
    rows = np.flatnonzero(table["split"] == "val")
    order = rows[_rare_first(table.iloc[rows][list(attributes)])]
    split = table["split"].to_numpy(copy=True)
    split[order[1::2]] = "test"
    return table.assign(split=split)


def _rare_first(labels: pd.DataFrame) -> NDArray[np.int64]:
    """Positions of the rows with these labels, in the order in which they are drawn."""
    shuffled = np.random.default_rng(_SEED).permutation(len(labels))
    has = (labels == 1).to_numpy(dtype=bool, na_value=False)[shuffled]
    first: list[int] = []
    for column in np.argsort(has.sum(axis=0), kind="stable"):
        already = int(has[first, column].sum()) if first else 0
        more = [int(row) for row in np.flatnonzero(has[:, column]) if row not in first]
        first += more[: max(NEEDED - already, 0)]
    rest = np.setdiff1d(np.arange(len(labels)), first)  # ascending: in the shuffled order
    order: NDArray[np.int64] = shuffled[np.concatenate([np.array(first, dtype=np.int64), rest])]
    return order
