"""A folder of images with `metadata.csv`: the toolkit's own layout, which Hugging Face's
imagefolder reads too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

FILE = "metadata.csv"
SPLITS = ("train", "val", "test")
SOURCES = ("real", "synthetic")
_OWN = (
    *("file_name", "split", "source", "path", "seed", "sampler", "class_label"),
    *("admission", "copied", "copied_distance", "minority_score", "minority_class"),
)
_TEXT = {"file_name": "str", "split": "str", "source": "str", "sampler": "str"}
_OUTSIDE = r"^[/\\]|^[A-Za-z]:|(?:^|[/\\])\.\.(?:[/\\]|$)"
"""Absolute, with a drive, or with a `..` in it."""


def load(
    root: Path, attributes: Sequence[str] | None = None, *, soft: bool = False
) -> pd.DataFrame:
    """Read and check `root/metadata.csv`; see `classify.datasets.load_table`."""
    file = root / FILE
    table = _read(file)
    _check_columns(file, table, attributes)
    if "source" not in table:
        table.insert(2, "source", "real")
    _check_rows(file, table)
    table["path"] = [os.path.join(root, name) for name in table["file_name"]]
    _refuse(
        file,
        table,
        [not os.path.isfile(path) for path in table["path"]],
        "image file is missing",
        "restore it or drop the row",
    )
    names = attribute_columns(table, soft=soft) if attributes is None else list(attributes)
    for name in names:
        table[name] = _labels(table, name, soft)
    return table


def attribute_columns(table: pd.DataFrame, *, soft: bool = False) -> list[str]:
    """Names of the attributes, in order: the columns that are not the table's own.

    The table's own are `file_name`, `split`, `source`, `path`, `seed`, `sampler`, `class_label`,
    the verdict on a generated image (`admission`, `copied`, `copied_distance`) and the labeler's
    probability `p_<attribute>` of an attribute that is there.

    Raises:
        ValueError: A column left over is no attribute: it has a cell that is not 1, 0 or empty, or
            with `soft`, for a synthetic image, a probability.
    """
    own = {*_OWN, *(f"p_{name}" for name in table.columns)}
    names = [str(name) for name in table.columns if name not in own]
    for name in names:
        _labels(table, name, soft)
    return names


def _read(file: Path) -> pd.DataFrame:
    try:  # only an empty cell is empty: a file may well be called "NA"
        table = pd.read_csv(
            file, dtype=_TEXT, keep_default_na=False, na_values=[""], low_memory=False
        )
    except (ValueError, UnicodeError) as error:
        raise ValueError(
            f"{file} is not a CSV table ({str(error).splitlines()[0]}): write it as UTF-8 with a "
            "header line"
        ) from error
    if table.empty:
        raise ValueError(f"{file} has no rows: one row an image is needed")
    if "seed" in table:
        seeds = pd.to_numeric(table["seed"], errors="coerce")
        _refuse(
            file,
            table,
            table["seed"].notna() & ~(seeds % 1 == 0),
            "seed is not a whole number",
            "correct it",
        )
        table["seed"] = seeds.astype("Int64")
    return table


def _check_columns(file: Path, table: pd.DataFrame, attributes: Sequence[str] | None) -> None:
    needed = ["file_name", "split", *(attributes or ())]
    if missing := [name for name in needed if name not in table]:
        raise ValueError(
            f"{file} lacks {_some(missing)}; its columns are {_some(table.columns)}: add what is "
            "missing or correct the header"
        )


def _check_rows(file: Path, table: pd.DataFrame) -> None:
    names = table["file_name"]
    _refuse(file, table, names.isna(), "file_name is empty", "name the image")
    _refuse(
        file,
        table,
        names.str.contains(_OUTSIDE, regex=True),
        "file_name leads out of the folder",
        "use a path relative to metadata.csv",
    )
    _refuse(
        file,
        table,
        names.map(os.path.normpath).duplicated(),
        "file_name stands twice",
        "keep one row an image",
    )
    _refuse(
        file,
        table,
        ~table["split"].isin(SPLITS),
        "split is unknown",
        f"use {', '.join(SPLITS)}",
        "split",
    )
    _refuse(
        file,
        table,
        ~table["source"].isin(SOURCES),
        "source is unknown",
        f"use {', '.join(SOURCES)}",
        "source",
    )
    strays = (table["source"] == "synthetic") & (table["split"] != "train")
    _refuse(
        file,
        table,
        strays,
        "synthetic image is not in train",
        "evaluate on real images only",
        "split",
    )


def _refuse(
    file: Path, table: pd.DataFrame, bad: object, what: str, remedy: str, column: str = ""
) -> None:
    """Raise a ValueError that names the first of the rows where `bad` (boolean, one a row) is
    true.
    """
    rows = np.flatnonzero(np.asarray(bad, dtype=bool))
    if rows.size:
        row = table.iloc[rows[0]]
        got = f", {column} {row[column]!r}" if column else ""
        more = f" (and {rows.size - 1:,} more)" if rows.size > 1 else ""
        raise ValueError(
            f"{file}, line {rows[0] + 2} ({row['file_name']}{got}): {what}{more}: {remedy}"
        )


def _labels(table: pd.DataFrame, name: str, soft: bool) -> pd.Series:
    """The column as float64 1.0, 0.0 or NaN; if `soft`, in [0, 1] of synthetic rows."""
    column = table[name]
    values = pd.to_numeric(column, errors="coerce").astype("float64")
    is_text = pd.api.types.is_bool_dtype(column)  # the words True and False
    good = values.isin((0.0, 1.0))
    if soft and "source" in table:
        good |= values.between(0, 1) & (table["source"] == "synthetic")
    bad = np.flatnonzero(column.notna() & (~good | is_text))
    if bad.size:
        cell = column.iloc[bad[0]]
        got = cell.item() if isinstance(cell, np.generic) else repr(cell)
        raise ValueError(
            f"column {name!r} is no attribute: {got} "
            f"({table['file_name'].iloc[bad[0]]}) is not 1, 0 or "
            "empty: correct it, or name the columns to use with --attributes"
        )
    return values


def _some(names: Sequence[str] | pd.Index, most: int = 8) -> str:
    return ", ".join(map(str, names[:most])) + (
        f" and {len(names) - most} more" if len(names) > most else ""
    )
