"""How far a labeler can be trusted: its own scores against real labels, by attribute and group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from labeling.card import head
from labeling.thresholds import as_columns

__all__ = ["ALL", "decision_quality", "label_quality", "quality_by_group"]

ALL = "all"
"""The `group` of all rows together."""

Floats = npt.NDArray[np.float64]


def label_quality(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, thresholds: Mapping[str, float]
) -> pd.DataFrame:
    """Scores of the positive class by attribute, on rows whose labels are real.

    Args:
        labels: float (N, A) of 1, 0 or NaN = unlabelled (left out).
        probabilities: float (N, A) in [0, 1]; NaN = no prediction (left out).
        thresholds: name -> threshold, "present where p >= threshold", in the order of the A
            columns.

    Returns:
        One row an attribute (index `attribute`): `f1`, `precision`, `recall` in [0, 1], `n` rows
        used and `n_positive` of them. The scores are NaN where these rows do not hold both values.
        An attribute never predicted has precision, recall and F1 of 0 (scikit-learn's
        `zero_division=0`).
    """
    p, y = as_columns(probabilities, labels, len(thresholds))
    predicted = np.where(np.isnan(p), np.nan, p >= np.array(list(thresholds.values()), dtype=float))
    names = pd.Index(list(thresholds))
    scores = decision_quality(
        pd.DataFrame(y, columns=names), pd.DataFrame(predicted, columns=names)
    )
    return scores[["f1", "precision", "recall", "n", "n_positive"]]


def decision_quality(
    truth: pd.DataFrame, decided: pd.DataFrame, *, min_count: int = 1
) -> pd.DataFrame:
    """Scores of labels that may be empty.

    Args:
        truth: N rows with a column an attribute: 1, 0 or NaN = unlabelled.
        decided: the labeler's labels of the same rows, 1, 0 or NaN = empty; its columns are the
            attributes judged.
        min_count: rows of either true value that a score needs.

    Returns:
        One row an attribute (index `attribute`): `f1`, `precision`, `recall` of the positive class
        and `error`, the share of wrong labels, over rows with both labels; `kept`, the share of the
        labelled rows that the labeler decided; `n` rows with both labels and `n_positive` of them.
        Scores are NaN, never 0, where fewer than `min_count` of these rows hold one of the values,
        and `kept` where fewer than `min_count` rows are labelled.

    Raises:
        ValueError: the rows differ, an attribute has no truth, or `min_count` is below 1.
    """
    if min_count < 1:
        raise ValueError(f"min_count is {min_count}; expected at least 1; correct it")
    names = list(decided.columns)
    if missing := [name for name in names if name not in truth.columns]:
        raise ValueError(f"there are no true labels of {head(missing)}; leave it out or add them")
    labels, y = as_columns(decided, truth[names], len(names))
    n_labelled = truth[names].notna().sum().to_numpy()
    rows = [
        _scores(y[:, i], labels[:, i], int(n_labelled[i]), min_count) for i in range(len(names))
    ]
    columns = ["f1", "precision", "recall", "error", "kept", "n", "n_positive"]
    return pd.DataFrame(rows, index=pd.Index(names, name="attribute"), columns=columns)


def quality_by_group(
    truth: pd.DataFrame, decided: pd.DataFrame, groups: Sequence[str], *, min_count: int = 10
) -> pd.DataFrame:
    """`decision_quality` of all rows and of each intersection of attributes.

    Args:
        truth: as there, with the columns `groups` besides; a row with one of these empty is in no
            group.
        decided: as there.
        groups: names of columns, attributes or others: a group is a combination of their values,
            those that have rows.
        min_count: as there.

    Returns:
        Tidy rows `group, attribute, f1, precision, recall, error, kept, n, n_positive`; group `all`
        first, then such as `Male=0, Young=1`.
    """
    if missing := [name for name in groups if name not in truth.columns]:
        raise ValueError(
            f"there is no column {head(missing)} to group by; the table has "
            f"{head(list(truth.columns), 8)}; name some of these"
        )
    parts = {
        group: decision_quality(truth[rows], decided[rows], min_count=min_count)
        for group, rows in _groups(truth, groups)
    }
    return pd.concat(parts, names=["group"]).reset_index()


def _groups(
    truth: pd.DataFrame, names: Sequence[str]
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
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


def _scores(y: Floats, decided: Floats, n_labelled: int, min_count: int) -> dict[str, float]:
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
