"""The audit of a run: figures by group, and the predictions as other auditing tools take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from gzip import GzipFile
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from classify import GROUPS, Predictions, aequitas_frame, audit, composition, fairlearn_frame
from classify.files import write_bytes

__all__ = ["audit_arms", "audit_groups", "compose", "dividing", "export"]


def audit_groups(table: pd.DataFrame, files: pd.Index) -> pd.DataFrame | None:
    """What the test images are audited by.

    Args:
        table: real rows of all splits.
        files: `file_name` of the N test images.

    Returns:
        (N, 1 or 2), those columns of `GROUPS` that divide the images; None if none does.
    """
    test = table[table["split"] == "test"].set_index("file_name")
    columns = dividing(test)
    return test.loc[files, columns] if columns else None


def dividing(table: pd.DataFrame) -> list[str]:
    """Those columns of `GROUPS` that have more than one value in the table."""
    return [name for name in GROUPS if name in table and table[name].nunique() > 1]


def audit_arms(predictions: Predictions, groups: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Figures by group of the arms, and their change from the first."""
    return audit(
        predictions.labels,
        {arm: predictions.probabilities[arm] for arm in arms},
        groups,
        predictions.attributes,
        baseline=arms[0],
    )


def compose(table: pd.DataFrame, sets: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How many images of each group the sets have; synthetic ones by the labeler's labels, and
    unlabelled by what is no attribute of the study.
    """
    train = table[table["split"] == "train"]
    columns = [name for name in GROUPS if name in train]
    tables = {"real train": train, **sets}
    return composition({k: rows.reindex(columns=columns) for k, rows in tables.items()}, columns)


def export(
    folder: Path, predictions: Predictions, groups: pd.DataFrame, arms: Sequence[str]
) -> None:
    """Write `fairlearn-<arm>.csv.gz` and `aequitas-<arm>.csv.gz` of the audited arms.

    A row is a test image, an attribute it has a label of and a fit: columns `attribute` and `seed`,
    then those of `classify.fairlearn_frame` or `classify.aequitas_frame`. Both tools judge one
    attribute of one fit at a time: choose the rows, and for Aequitas drop the two columns, which it
    would take for groups. As in the audit, an attribute does not group itself: the cell is empty,
    or "unknown".

    Args:
        folder: made if absent.
        predictions: of the study.
        groups: of `audit_groups`.
        arms: names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for arm in arms:
        for tool, convert in (("fairlearn", _unchanged), ("aequitas", aequitas_frame)):
            parts = _fits(predictions, arm, groups, convert)
            _write_gzip_csv(folder / f"{tool}-{arm}.csv.gz", parts)


def _fits(
    predictions: Predictions,
    arm: str,
    groups: pd.DataFrame,
    convert: Callable[[pd.DataFrame], pd.DataFrame],
) -> Iterator[pd.DataFrame]:
    """One table an attribute and fit, in this order.

    Every fit, not the mean of their probabilities: the audit's figures are means over fits, which
    the figures of a mean prediction, another classifier, are not. CelebA's 19,962 images, 40
    attributes and 5 seeds are 4 million rows an arm; so the files are compressed and never whole in
    memory.
    """
    for column, attribute in enumerate(predictions.attributes):
        others = groups.assign(**{attribute: np.nan}) if attribute in groups else groups
        labels = predictions.labels[:, column]
        for seed, probabilities in enumerate(predictions.probabilities[arm][..., column]):
            frame = convert(fairlearn_frame(labels, probabilities, others))
            frame.insert(0, "attribute", attribute)
            frame.insert(1, "seed", seed)
            yield frame


def _unchanged(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


def _write_gzip_csv(path: Path, parts: Iterator[pd.DataFrame]) -> None:
    """Tables of the same columns below one another; equal ones give equal bytes, without a time."""
    packed = BytesIO()
    with GzipFile(fileobj=packed, filename="", mode="wb", compresslevel=6, mtime=0) as file:
        for number, part in enumerate(parts):
            text = part.to_csv(index=False, header=number == 0, float_format="%.6g")
            file.write(text.encode())
    write_bytes(path, packed.getvalue())
