"""The real images that lie most sparsely, as a table that is saved and read again.

The paper's reference sets: of CelebA's training images the 10,000 of highest AvgkNN (ResNet-50,
k = 5), elsewhere 50,000.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from augment.atomic import write_bytes
from augment.metrics.density import real_avg_knn
from augment.metrics.vectors import Vectors, check_count, vectors

__all__ = ["rarest", "read_tail", "save_tail", "tail", "tail_count"]

SCORE = "avg_knn"
"""The column that the tail's table adds."""


def tail(real_features: Vectors, table: pd.DataFrame, count: int, *, k: int = 5) -> pd.DataFrame:
    """The rows of highest AvgkNN, the highest first.

    Args:
        real_features: floating (N, D).
        table: the real images' rows, (N) in the same order.
        count: how many are kept, 1 to N.
        k: of AvgkNN.

    Returns:
        A new table with the column `avg_knn` added; its index is the given table's.

    Raises:
        ValueError: refused features, count or k, or a table of another length.
    """
    real = vectors("real_features", real_features)
    if len(table) != len(real):
        raise ValueError(
            f"got {len(real)} features and a table of {len(table)} rows; give the features of "
            "these images in the table's order"
        )
    check_count("count", count, len(real), f"{len(real)} real images")
    scores = real_avg_knn(real, k=k)
    kept = rarest(scores, count)
    return table.iloc[kept].assign(**{SCORE: scores[kept]})


def rarest(scores: npt.ArrayLike, count: int) -> npt.NDArray[np.intp]:
    """Positions of the highest `count` scores (N,), the highest first, equal ones in order.

    With `Reference.avg_knn` they are the tail's rows, and its features.
    """
    order: npt.NDArray[np.intp] = np.argsort(-np.asarray(scores), kind="stable")
    return order[:count]


def tail_count(reference: str) -> int | None:
    """N of the words `tail:N`; None for `all`.

    Raises:
        ValueError: it is neither.
    """
    kind, _, count = reference.partition(":")
    if reference == "all":
        return None
    if kind != "tail" or not count.isdigit() or int(count) < 1:
        raise ValueError(
            f"reference is {reference!r}; allowed are all and tail:N, N real images of the highest "
            "AvgkNN; the paper's for CelebA is tail:10000"
        )
    return int(count)


def save_tail(path: Path, rows: pd.DataFrame) -> None:
    """Write a tail's table as CSV; its `path` column, which is this machine's, is left out.

    Raises:
        ValueError: something stands at the path.
    """
    if path.exists():
        raise ValueError(f"{path} is there already; give another path, or remove it")
    write_bytes(path, rows.drop(columns="path", errors="ignore").to_csv(index=False).encode())


def read_tail(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a saved tail, in its order, out of the real images' table.

    Args:
        path: as `save_tail` wrote it.
        table: the images it was chosen from, with `file_name`.

    Returns:
        Rows of `table`, its index kept, with the saved `avg_knn`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no saved tail, or names images that the table lacks.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; save a tail there first")
    saved = pd.read_csv(path)
    if saved.empty or not {"file_name", SCORE} <= set(saved.columns):
        raise ValueError(
            f"{path} has no rows with file_name and {SCORE}; give a table that save_tail wrote"
        )
    places = pd.Index(table["file_name"]).get_indexer(pd.Index(saved["file_name"]))
    if (places < 0).any():
        raise ValueError(
            f"{path} names {(places < 0).sum()} images that the real set lacks, the first "
            f"{saved['file_name'][int((places < 0).argmax())]}; give the set it was chosen from"
        )
    rows: pd.DataFrame = table.iloc[places].assign(**{SCORE: saved[SCORE].to_numpy()})
    return rows
