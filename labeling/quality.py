"""How far a labeler can be trusted: its labels against real ones, by attribute and group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from labeling.card import head
from labeling.thresholds import Floats, as_columns

__all__ = ["ALL", "quality_by_group"]

ALL = "all"
"""The `group` of all rows together."""


def quality_by_group(
    truth: pd.DataFrame,
    decided: pd.DataFrame,
    groups: Sequence[str] = (),
    *,
    min_count: int = 10,
) -> pd.DataFrame:
    """Scores of labels that may be empty, over all rows and over each intersection of attributes.

    Args:
        truth: N rows with one column per attribute: 1, 0 or NaN = unlabelled; and the columns
            `groups`. A row with one of these empty is in no group.
        decided: the labeler's labels of the same rows, 1, 0 or NaN = empty; its columns are the
            attributes judged.
        groups: names of columns, attributes or others: a group is a combination of their values,
            those that have rows.
        min_count: rows of either true value that a score needs.

    Returns:
        Tidy rows, group `all` first, then such as `Male=0, Young=1`: `group`, `attribute`; `f1`,
        `precision`, `recall` of the positive class and `error`, the share of wrong labels, over
        rows with both labels; `kept`, the share of the labelled rows that the labeler decided; `n`
        rows with both labels and `n_positive` of them. Scores are NaN, never 0, where fewer than
        `min_count` of these rows hold one of the values, and `kept` where fewer than `min_count`
        rows are labelled. An attribute never decided to be present has precision, recall and F1 of
        0 (scikit-learn's `zero_division=0`).

    Raises:
        ValueError: the rows differ, an attribute has no truth, a group has no column, or
            `min_count` is below 1.
    """
    if min_count < 1:
        raise ValueError(f"min_count is {min_count}; give a number of rows, at least 1")
    names = list(decided.columns)
    if missing := [name for name in names if name not in truth.columns]:
        raise ValueError(f"there are no true labels of {head(missing)}; leave it out or add them")
    if missing := [name for name in groups if name not in truth.columns]:
        raise ValueError(
            f"there is no column {head(missing)} to group by; the table has "
            f"{head(list(truth.columns), 8)}; name some of these"
        )
    labels, y = as_columns(decided, truth[names], len(names))
    is_labelled = truth[names].notna().to_numpy()
    rows = [
        {"group": group, "attribute": name}
        | _scores(y[of, i], labels[of, i], int(is_labelled[of, i].sum()), min_count)
        for group, of in _groups(truth, groups)
        for i, name in enumerate(names)
    ]
    return pd.DataFrame(rows)


def _groups(
    truth: pd.DataFrame, names: Sequence[str]
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Name and members, bool (N,), of all rows and of each group."""
    yield ALL, np.ones(len(truth), dtype=np.bool_)
    if not names:
        return
    values = truth[list(names)]
    cells = values.dropna().drop_duplicates().sort_values(list(names))
    for cell in cells.itertuples(index=False, name=None):
        pairs = list(zip(names, cell, strict=True))
        members = np.all([values[name] == value for name, value in pairs], axis=0)
        yield ", ".join(f"{name}={_text(value)}" for name, value in pairs), members


def _text(value: object) -> str:
    """A group's value as it is shown: 1.0 as 1."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _scores(y: Floats, decided: Floats, n_labelled: int, min_count: int) -> dict[str, object]:
    both = ~np.isnan(y)
    y, decided = y[both], decided[both]
    n, n_positive = len(y), int(y.sum())
    precision = recall = f1 = error = np.nan
    if min(n_positive, n - n_positive) >= min_count:
        precision, recall, f1, _ = precision_recall_fscore_support(
            y, decided, average="binary", zero_division=0
        )
        error = float(np.mean(y != decided))
    return {
        "f1": f1,
        "precision": precision,
        "recall": recall,
        "error": error,
        "kept": n / n_labelled if n_labelled >= min_count else np.nan,
        "n": n,
        "n_positive": n_positive,
    }
