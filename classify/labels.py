"""Labels of a table: as arrays, and whether they can be learned from."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from classify.metrics import refuse_names_of_means


def label_tensor(table: pd.DataFrame, attributes: Sequence[str]) -> Tensor:
    """Labels float32 (N, A): 1, 0, a probability, or NaN = unlabelled."""
    return torch.from_numpy(table[list(attributes)].to_numpy(dtype="float32", copy=True))


def labelled_attributes(table: pd.DataFrame, attributes: Sequence[str]) -> list[str]:
    """Those of the attributes that have a label anywhere in the table, in order."""
    return [name for name in attributes if table[name].notna().any()]


def check_learnable(table: pd.DataFrame, attributes: Sequence[str]) -> None:
    """Refuse attributes that have labels but no positive in train, or the name of a mean.

    Raises:
        ValueError: Names them and says to leave them out.
    """
    refuse_names_of_means(attributes)
    train = table.loc[table["split"] == "train", list(attributes)]
    positives = (train == 1).any()
    if hopeless := [name for name in labelled_attributes(table, attributes) if not positives[name]]:
        raise ValueError(
            f"no image in train is positive for {', '.join(hopeless)}; a classifier needs one; "
            f"label some, or leave {'it' if len(hopeless) == 1 else 'them'} out with --attributes"
        )
