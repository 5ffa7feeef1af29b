"""What `python -m labeling` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from labeling.card import head
from labeling.export import export_onnx
from labeling.files import refuse_existing, write_text
from labeling.labeler import Predictor
from labeling.load import load_labeler
from labeling.policy import LabelPolicy
from labeling.pseudo import label_probabilities, pseudo_label
from labeling.quality import ALL, quality_by_group
from labeling.rule import PolicyConfig
from labeling.table_files import FILE, read_table, write_table

__all__ = ["evaluate", "export", "fit", "label"]

_DEFAULTS = PolicyConfig()


def label(
    table: Path,
    *,
    labeler: Sequence[str],
    out: Path,
    policy: Path | None = None,
    attributes: list[str] | None = None,
    soft: bool = False,
    batch_size: int = 256,
) -> None:
    """Label every image of a table: labels and probabilities into a new folder.

    Args:
        table: folder of images with metadata.csv.
        labeler: what labels.
        out: folder of the labelled table and its images, new.
        policy: file of `python -m labeling fit`; left out, the labeler's own thresholds.
        attributes: what to label; left out, all the labeler knows.
        soft: the probability in place of 1 and 0; synthetic rows only.
        batch_size: images at a time.
    """
    refuse_existing(out / FILE)
    rules = None if policy is None else LabelPolicy.read(policy)
    rows = read_table(table)
    if soft and (rows["source"] != "synthetic").any():
        raise ValueError(
            f"{table} has rows that are not synthetic; soft labels are for synthetic rows; leave "
            "--soft out"
        )
    predictor = load_labeler(labeler)
    names = attributes or list(predictor.attributes)
    labelled = pseudo_label(rows, predictor, names, policy=rules, soft=soft, batch_size=batch_size)
    write_table(labelled, out)
    summary = pd.DataFrame({"kept": labelled[names].notna().mean(), "mean": labelled[names].mean()})
    print(summary.rename_axis("attribute").to_string(float_format="%.3f"))
    print(f"{len(labelled):,} images labelled: {out / FILE}")


def fit(
    table: Path,
    *,
    labeler: Sequence[str],
    out: Path,
    attributes: list[str] | None = None,
    wanted: PolicyConfig = _DEFAULTS,
    batch_size: int = 256,
) -> None:
    """Fit thresholds and temperatures on the real rows of split val, into a policy file.

    Args:
        table: folder of images with metadata.csv and true labels.
        labeler: whose probabilities.
        out: the policy file (.json), new.
        attributes: what to fit; left out, all that the labeler knows and the table has.
        wanted: of the labels.
        batch_size: images at a time.
    """
    refuse_existing(out)
    rows, predictor = _real(read_table(table), "val"), load_labeler(labeler)
    names = _judged(rows, predictor, attributes)
    fitted = LabelPolicy.fit(
        rows,
        _probabilities(rows, predictor, names, batch_size),
        names,
        config=wanted,
        labeler=predictor.sha256,
    )
    fitted.write(out)
    print(fitted.summary().to_string(float_format="%.3f"))
    print(f"fitted on {len(rows):,} real val images: {out}")


def evaluate(
    table: Path,
    *,
    labeler: Sequence[str],
    out: Path,
    policy: Path | None = None,
    attributes: list[str] | None = None,
    groups: list[str] | None = None,
    split: Literal["train", "val", "test"] = "val",
    min_count: int = 10,
    batch_size: int = 256,
) -> None:
    """Compare a labeler's labels with the true ones of real rows, into a CSV file.

    Args:
        table: folder of images with metadata.csv and true labels.
        labeler: what is judged.
        out: the CSV file, new.
        policy: file of `python -m labeling fit`; left out, the labeler's own thresholds.
        attributes: what to judge; left out, all that the labeler knows and the table has.
        groups: attributes whose intersections are judged apart.
        split: the rows.
        min_count: rows of either true value below which a score stays empty.
        batch_size: images at a time.
    """
    refuse_existing(out)
    rules = None if policy is None else LabelPolicy.read(policy)
    rows, predictor = _real(read_table(table), split), load_labeler(labeler)
    names = _judged(rows, predictor, attributes)
    decided = pseudo_label(rows, predictor, names, policy=rules, batch_size=batch_size)
    quality = quality_by_group(rows, decided[names], groups or [], min_count=min_count)
    write_text(out, quality.to_csv(index=False))
    shown = quality[quality["group"] == ALL].drop(columns="group")
    print(shown.to_string(index=False, float_format="%.3f"))
    print(f"judged on {len(rows):,} real {split} images: {out}")


def export(*, labeler: Sequence[str], out: Path) -> None:
    """Write a labeler as ONNX, with its card beside it.

    Args:
        labeler: one that has a torch network.
        out: the .onnx file, new.
    """
    print(export_onnx(load_labeler(labeler), out))


def _real(table: pd.DataFrame, split: str) -> pd.DataFrame:
    rows = table[(table["split"] == split) & (table["source"] == "real")]
    if rows.empty:
        raise ValueError(
            f"the table has no real rows of split {split}; labels are judged on such rows; add some"
        )
    return rows.reset_index(drop=True)


def _judged(
    table: pd.DataFrame, predictor: Predictor, attributes: Sequence[str] | None
) -> list[str]:
    """The attributes with true labels; those asked for have to be there."""
    names = attributes or [name for name in predictor.attributes if name in table.columns]
    unknown = [n for n in names if n not in predictor.attributes or n not in table.columns]
    if unknown or not names:
        raise ValueError(
            f"attributes are {head(unknown) or 'none'}; the labeler has "
            f"{head(predictor.attributes)} and the table {head(list(table.columns))}; name some "
            "that both have"
        )
    for name in names:
        values = pd.to_numeric(table[name], errors="coerce")
        if not values[table[name].notna()].isin((0, 1)).all():
            raise ValueError(f"column {name!r} holds other than 1, 0 or empty; correct it")
    return list(names)


def _probabilities(
    table: pd.DataFrame, predictor: Predictor, names: Sequence[str], batch_size: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    columns = [predictor.attributes.index(name) for name in names]
    return label_probabilities(table, predictor, batch_size=batch_size)[:, columns]
