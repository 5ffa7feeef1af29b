"""The audit of a run: figures by group, and the predictions as other auditing tools take them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from gzip import GzipFile
from io import BytesIO
from pathlib import Path

import pandas as pd

from classify import GROUPS, Predictions, audit, composition, fairlearn_frame
from classify.files import write_bytes
from classify.groups import divide, value_text

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
) -> int:
    """Write `fairlearn-<arm>.csv.gz` and `aequitas-<arm>.csv.gz` of the audited arms.

    A row is a test image, an attribute that it has a label of, a fit and a grouping: columns
    `attribute`, `seed` and `grouping`, then `y_true`, `y_pred`, `score` and `group` for fairlearn,
    or `label`, `score` (the decision, so that it needs no threshold of its own) and `group` for
    Aequitas. Both tools judge one attribute of one fit by one grouping at a time: choose the rows,
    and for Aequitas drop the first three columns, which it would take for groups.

    No cell is empty: an image is left out of a grouping that it lacks a value of. As in the audit,
    an attribute does not group itself.

    Args:
        folder: made if absent.
        predictions: of the study.
        groups: of `audit_groups`.
        arms: names.

    Returns:
        How many rows are left out of each file for want of a group's value.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by = {
        grouping.columns: (grouping.name, _group_names(groups[list(grouping.columns)].dropna()))
        for grouping in divide(groups).groupings
    }
    for arm in arms:
        for tool, convert in (("fairlearn", _unchanged), ("aequitas", _decisions)):
            parts = map(convert, _fits(predictions, arm, by))
            _write_gzip_csv(folder / f"{tool}-{arm}.csv.gz", parts)
    seeds = len(predictions.probabilities[arms[0]])
    labelled = pd.DataFrame(predictions.labels, groups.index, predictions.attributes).notna()
    left_out = [
        labelled[attribute].drop(names.index).sum()
        for columns, (_, names) in by.items()
        for attribute in labelled
        if attribute not in columns
    ]
    return seeds * int(sum(left_out))


def _group_names(values: pd.DataFrame) -> pd.Series[str]:
    """The group of each image, `Male=1, Young=0`."""
    rows = values.itertuples(index=False)
    named = [
        ", ".join(f"{name}={value_text(value)}" for name, value in zip(values, row, strict=True))
        for row in rows
    ]
    return pd.Series(named, values.index)


def _fits(
    predictions: Predictions,
    arm: str,
    by: Mapping[tuple[str, ...], tuple[str, pd.Series[str]]],
) -> Iterator[pd.DataFrame]:
    """One table per attribute, fit and grouping, in this order.

    Every fit, not the mean of their probabilities: the audit's figures are means over fits, which
    the figures of a mean prediction, another classifier, are not. CelebA's 19,962 images, 40
    attributes, 5 seeds and 3 groupings are 12 million rows per arm; so the files are compressed and
    never whole in memory.
    """
    for column, attribute in enumerate(predictions.attributes):
        for seed, probabilities in enumerate(predictions.probabilities[arm][..., column]):
            for columns, (grouping, names) in by.items():
                if attribute in columns:
                    continue
                rows = predictions.files.get_indexer(names.index)
                frame = fairlearn_frame(
                    predictions.labels[rows, column], probabilities[rows], names.to_frame("group")
                )
                frame.insert(0, "attribute", attribute)
                frame.insert(1, "seed", seed)
                frame.insert(2, "grouping", grouping)
                yield frame


def _unchanged(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


def _decisions(frame: pd.DataFrame) -> pd.DataFrame:
    """As Aequitas names and wants them."""
    decided = frame.assign(label=frame["y_true"], score=frame["y_pred"])
    return decided[["attribute", "seed", "grouping", "label", "score", "group"]]


def _write_gzip_csv(path: Path, parts: Iterator[pd.DataFrame]) -> None:
    """Tables of the same columns below one another; equal ones give equal bytes, without a time."""
    packed = BytesIO()
    with GzipFile(fileobj=packed, filename="", mode="wb", compresslevel=6, mtime=0) as file:
        for number, part in enumerate(parts):
            text = part.to_csv(index=False, header=number == 0, float_format="%.6g")
            file.write(text.encode())
    write_bytes(path, packed.getvalue())
