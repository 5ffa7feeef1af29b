"""A folder of images with a table, `metadata.csv`: the toolkit's own layout, which Hugging Face's
imagefolder reads too.
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from classify.datasets.images import PROGRAMS
from classify.names import closest, known_names
from classify.progress import progress

FILE = "metadata.csv"
SPLITS = ("train", "val", "test")
SOURCES = ("real", "synthetic")

_PLACE = ("file_name", "split", "source", "path")
"""Own columns that say what an image is, and where."""
_MADE = (
    *("seed", "seed_group", "sampler", "class_label", "admission", "copied", "copied_distance"),
    *("realism", "minority_score", "minority_class"),
)
"""Own columns that say how an image was made and judged."""
_OF_ATTRIBUTES = ("p_", "target_")
"""Before the name of an attribute that is there: the labeler's probability, and what was asked."""
_MEANS = ("macro", "micro", "samples")
"""What means are called in tables of scores, alone or before a comma."""
_MOST_COLUMNS = 10_000
_WRITTEN = (
    {"1": 1.0, "-1": 0.0},
    {"yes": 1.0, "no": 0.0},
    {"true": 1.0, "false": 0.0},
)
"""How labels may be written besides 1 and 0, a column in one way; in small letters."""
_TEXT = {"file_name": "str", "split": "str", "source": "str", "sampler": "str"}
_OUTSIDE = r"^[/\\]|^[A-Za-z]:|(?:^|[/\\])\.\.(?:[/\\]|$)"
"""Absolute, with a drive, or with a `..` in it."""
_log = logging.getLogger(__name__)


def load(
    root: Path, attributes: Sequence[str] | None = None, *, soft: bool = False
) -> pd.DataFrame:
    """Read and check `root/metadata.csv`; see `classify.datasets.load_table`."""
    file = root / FILE
    _check_names(file, attributes or ())
    table = rows(file, ("file_name", "split", *(attributes or ())))
    if "source" not in table:
        table.insert(2, "source", "real")
    if attributes is None:
        _warn_of_own(file, table)
    names = _left_over(table) if attributes is None else list(attributes)
    labels = pd.DataFrame({name: _labels(table, name, soft) for name in names}, table.index)
    return table.drop(columns=names).join(labels)[list(table.columns)]


def rows(file: Path, needed: Collection[str] = ("file_name",)) -> pd.DataFrame:
    """The rows of a table beside its images, with `path`; `split` and `source` are checked if they
    are there, and attributes are not.
    """
    table = _read(file)
    if missing := [name for name in needed if name not in table]:
        near = [other for name in missing for other in closest(name, table.columns)]
        meant = f"did you mean {', '.join(near)}? " if near else ""
        raise ValueError(
            f"{file} lacks {known_names(missing)}; {meant}its columns are "
            f"{known_names(table.columns)}; add what is missing, or correct the name"
        )
    _check_rows(file, table)
    if "path" in table:
        _log.warning("%s: its column path is not used, path is where the image is", file)
    root = str(file.parent)
    paths = [os.path.join(root, name) for name in table["file_name"]]
    bar = progress(paths, "looking for images", unit="image")
    missing_files = [not os.path.isfile(path) for path in bar]
    _refuse(file, table, missing_files, "image file is missing", "restore it, or drop the row")
    return table.assign(path=paths)


def find_images(root: Path) -> pd.DataFrame:
    """Every image file in a folder and below, sorted: `file_name` and `path`."""
    named = Image.registered_extensions()  # loads all of Pillow's formats, so it comes first
    endings = {e for e, kind in named.items() if kind in Image.OPEN and kind not in PROGRAMS}
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in endings and p.is_file())
    if not files:
        raise ValueError(
            f"{root} holds no image; allowed are the formats that Pillow reads; put images there"
        )
    names = [file.relative_to(root).as_posix() for file in files]
    return pd.DataFrame({"file_name": names, "path": [str(file) for file in files]})


def attribute_columns(table: pd.DataFrame, *, soft: bool = False) -> list[str]:
    """Names of the attributes, in order: the columns that are not the table's own.

    The table's own say what an image is and where (`file_name`, `split`, `source`, `path`), how it
    was made and judged (see `_MADE`), and of an attribute that is there the labeler's probability,
    `p_<attribute>`, and what was asked for, `target_<attribute>`.

    Raises:
        ValueError: A column left over is no attribute: it is called `macro`, or has a cell that is
            not 1, 0 or empty, or with `soft`, for a synthetic image, a probability.
    """
    names = _left_over(table)
    for name in names:
        _labels(table, name, soft)
    return names


def _left_over(table: pd.DataFrame) -> list[str]:
    """The columns that are not the table's own, whatever is in them."""
    own = {*_PLACE, *_MADE, *_of_attributes(table)}
    names = [str(name) for name in table.columns if name not in own]
    _check_names("the table", names)
    return names


def _of_attributes(table: pd.DataFrame) -> list[str]:
    names = dict.fromkeys(str(name) for name in table.columns)
    own = {f"{prefix}{name}" for prefix in _OF_ATTRIBUTES for name in names}
    return [name for name in names if name in own]


def _check_names(where: Path | str, attributes: Collection[str]) -> None:
    """Refuse attributes that would be taken for something else."""
    if own := [name for name in attributes if name in (*_PLACE, *_MADE)]:
        raise ValueError(
            f"{own[0]} is named as an attribute of {where}; these names are reserved: "
            f"{', '.join((*_PLACE, *_MADE))}; rename the column, or leave it out"
        )
    if means := [name for name in attributes if name.split(",")[0] in _MEANS]:
        raise ValueError(
            f"{where} has an attribute {means[0]}, as a mean over attributes is called; attributes "
            "have other names; rename the column"
        )
    if twice := [name for name, n in pd.Series(list(attributes)).value_counts().items() if n > 1]:
        raise ValueError(f"attribute {twice[0]} is named twice; give each once")


def _warn_of_own(file: Path, table: pd.DataFrame) -> None:
    """Say which columns of real images could be attributes, but have names of the table's own."""
    real, unused = table[table["source"] == "real"], []
    for name in (*_MADE, *_of_attributes(table)):
        cells = real[name].dropna() if name in table else real.iloc[:0, 0]
        if len(cells) and pd.to_numeric(cells, errors="coerce").isin((0, 1)).all():
            unused.append(name)
    if unused:
        _log.warning(
            "%s: names of the toolkit's own columns, so no attributes: %s; rename what is one",
            file,
            known_names(unused),
        )


def _read(file: Path) -> pd.DataFrame:
    try:  # only an empty cell is empty: a file may well be called "NA"
        check_header(file)
        table = pd.read_csv(
            file, dtype=_TEXT, keep_default_na=False, na_values=[""], low_memory=False
        ).copy()  # in one piece: columns are added without pandas' complaint
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeError, csv.Error) as error:
        raise ValueError(
            f"{file} is not a CSV table ({str(error).splitlines()[0]}); write it as UTF-8 with a "
            "header line"
        ) from error
    if table.empty:
        raise ValueError(f"{file} has no rows; a table has one row per image; add them")
    if "seed" in table:
        seeds = pd.to_numeric(table["seed"], errors="coerce")
        bad = table["seed"].notna() & ~(seeds % 1 == 0)
        _refuse(file, table, bad, "seed is not a whole number", "correct it")
        table["seed"] = seeds.astype("Int64")
    return table


def check_header(file: Path) -> None:
    """Refuse names that pandas would change without a word: empty ones and those that stand twice.

    It is read apart, since so many columns can stand in it that pandas takes minutes.
    """
    with file.open(encoding="utf-8-sig", newline="") as lines:
        names = next((row for row in csv.reader(lines) if row), [])
    if len(names) > _MOST_COLUMNS:
        raise ValueError(
            f"{file} has {len(names):,} columns; allowed are {_MOST_COLUMNS:,}; take out what is "
            "no attribute"
        )
    if not all(name.strip() for name in names):
        place = next(place for place, name in enumerate(names, 1) if not name.strip())
        raise ValueError(
            f"{file} has no name for column {place} of {len(names)}; every column has one; name "
            "it, or take it out"
        )
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(
            f"{file} has column {twice} twice; every name stands once; rename one, or take it out"
        )


def _check_rows(file: Path, table: pd.DataFrame) -> None:
    names = table["file_name"]
    _refuse(file, table, names.isna(), "file_name is empty", "name the image")
    _refuse(
        file,
        table,
        names.str.contains(_OUTSIDE, regex=True),
        "file_name leads out of the folder",
        "use a path relative to the table",
    )
    repeated = names.map(os.path.normpath).duplicated()
    _refuse(file, table, repeated, "file_name stands twice", "keep one row per image")
    for column, allowed in (("split", SPLITS), ("source", SOURCES)):
        if column in table:
            unknown = ~table[column].isin(allowed)
            remedy = f"use {', '.join(allowed)}"
            _refuse(file, table, unknown, f"{column} is unknown", remedy, column)
    if {"split", "source"} <= set(table.columns):
        strays = (table["source"] == "synthetic") & (table["split"] != "train")
        what, remedy = "synthetic image is not in train", "evaluate on real images only"
        _refuse(file, table, strays, what, remedy, "split")


def _refuse(
    file: Path, table: pd.DataFrame, bad: object, what: str, remedy: str, column: str = ""
) -> None:
    """Raise a ValueError that names the first of the rows where `bad` (boolean, one per row) is
    true.
    """
    found = np.flatnonzero(np.asarray(bad, dtype=bool))
    if found.size:
        row = table.iloc[found[0]]
        name = row.get("file_name")
        got = f", {column} {row[column]!r}" if column else ""
        more = f" (and {found.size - 1:,} more)" if found.size > 1 else ""
        raise ValueError(f"{file}, line {found[0] + 2} ({name}{got}): {what}{more}; {remedy}")


def _labels(table: pd.DataFrame, name: str, soft: bool) -> NDArray[np.float64]:
    """The column as 1.0, 0.0 or NaN, in whichever of `_WRITTEN` it is; if `soft`, in [0, 1] of
    synthetic rows.
    """
    column = table[name]
    numbers = pd.to_numeric(column, errors="coerce")
    values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    good = (values == 0) | (values == 1)
    if soft and "source" in table:
        good |= (values >= 0) & (values <= 1) & (table["source"] == "synthetic").to_numpy()
    given = column.notna().to_numpy()
    if not (given & ~good).any():
        return values
    words = column.astype(str).str.strip().str.casefold().str.replace(r"\.0+$", "", regex=True)
    read = max((words.map(way) for way in _WRITTEN), key=pd.Series.count).to_numpy(np.float64)
    if (~np.isnan(read)).sum() > (given & good).sum():
        values, good = read, ~np.isnan(read)
    bad = np.flatnonzero(given & ~good)
    if bad.size:
        _refuse_label(table, name, int(bad[0]), words.iloc[bad[0]])
    return values


def _refuse_label(table: pd.DataFrame, name: str, row: int, word: str) -> None:
    """Raise a ValueError at the cell that is no label, or not written as the others are."""
    cell = table[name].iloc[row]
    got = cell.item() if isinstance(cell, np.generic) else repr(cell)
    why = "is not 1, 0 or empty; correct it, or name the columns to use with --attributes"
    if word == "0" or any(word in way for way in _WRITTEN):
        why = "is written otherwise than most labels of the column; write all as 1 and 0"
    raise ValueError(
        f"column {name!r} is no attribute: {got} ({table['file_name'].iloc[row]}) {why}"
    )
