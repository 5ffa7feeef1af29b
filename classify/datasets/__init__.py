"""Foreign files to the table: one row an image, in memory with the column `path` besides those of
`metadata.csv`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from classify.datasets import celeba, folder
from classify.datasets.folder import attribute_columns

__all__ = ["attribute_columns", "load_table"]


def load_table(
    source: str | Path, attributes: Sequence[str] | None = None, *, soft: bool = False
) -> pd.DataFrame:
    """Read the table of an image folder, recognised by what is in it.

    Args:
        source: A folder with `metadata.csv`, or one in CelebA's layout (see
            `classify.datasets.celeba`).
        attributes: Names that must be there; by default all columns that are not the table's own.
        soft: Take probabilities in [0, 1] as the labels of synthetic images.

    Returns:
        Columns `file_name`, `split`, `source`, the attributes (float64 1.0, 0.0 or NaN =
        unlabelled), whatever else the file has, and `path` (absolute).

    Raises:
        FileNotFoundError: No such folder.
        ValueError: Neither layout, or a table that is refused; one line that says what to do.
    """
    root = Path(source).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root} is not a folder: give one with metadata.csv or in CelebA's layout"
        )
    if (root / folder.FILE).is_file():
        return folder.load(root, attributes, soft=soft)
    if celeba.recognises(root):
        return celeba.load(root, attributes)
    state = (
        "is empty"
        if not any(root.iterdir())
        else "holds neither metadata.csv nor list_attr_celeba.txt"
    )
    raise ValueError(
        f"{root} {state}: give a folder of images with metadata.csv (file_name, split, one column "
        "an attribute) or a "
        "CelebA folder (img_align_celeba/, list_attr_celeba.txt, list_eval_partition.txt)"
    )
