"""Data frames as the page's tables: numbers as text, order, and the columns that must be there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from classify.report.page import Cell, Table

METRICS = {"f1": "F1", "precision": "Precision", "recall": "Recall"}
"""What the page calls the scores."""
NAN = math.nan
NOTHING = "–"
"""What stands where there is no value; never a 0."""

Colours = Mapping[str, int]
"""Name of an arm or a set -> index of its colour; of `figures.colours_of`."""
Shares = pd.Series | None
"""Share of positives by attribute in the real train split, in the page's order; None: unknown."""
Row = Mapping[str, Any]
Column = tuple[str, Callable[[Any], str]] | Callable[[Row], Cell | str]
"""A column of the frame and how it is written, or what makes a cell of a row."""
Columns = dict[str, Column]
"""Heading -> column."""


def number(value: float, digits: int = 3, signed: bool = False) -> str:
    """A number with a true minus sign; a dash for NaN."""
    if math.isnan(value):
        return NOTHING
    value = round(value, digits) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{value:{'+' if signed and value else ''}.{digits}f}".replace("-", "−")


def signed(value: float) -> str:
    """A difference."""
    return number(value, signed=True)


def whole(value: float) -> str:
    """A count."""
    return f"{int(value):,}"


def percent(value: float) -> str:
    """A share in [0, 1] as a percentage; a dash for NaN."""
    return NOTHING if math.isnan(value) else f"{value:.1%}".replace("%", " %")


def interval(low: float, high: float, signed: bool = False) -> str:
    """An interval, or that it cannot be estimated."""
    if math.isnan(low) or math.isnan(high):
        return "not estimable"
    return f"{number(low, signed=signed)} to {number(high, signed=signed)}"


def bounds(row: Row) -> str:
    """`low` and `high` as the interval of a difference."""
    return interval(row["low"], row["high"], signed=True)


def difference(row: Row) -> Cell:
    """`difference`, its interval below it."""
    return Cell(signed(row["difference"]), bounds(row))


def key(name: str, colours: Colours, small: Mapping[str, str] | None = None) -> Column:
    """The column as the name of an arm or a set, with its colour and small print if it has any."""
    return lambda row: Cell(
        str(row[name]), (small or {}).get(str(row[name]), ""), colours.get(str(row[name]))
    )


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame: column -> value."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def tabulate(frame: pd.DataFrame, columns: Columns) -> Table:
    """A table of the frame's rows: heading -> column."""
    rows = [
        [
            make[1](row[make[0]]) if isinstance(make, tuple) else make(row)
            for make in columns.values()
        ]
        for row in records(frame)
    ]
    return Table(list(columns), rows)


def matrix(
    frame: pd.DataFrame, corner: str, colours: Colours, write: Callable[[float], str] = number
) -> Table:
    """A table of numbers, one row per entry of the index, one column per arm or set."""
    header = [Cell(str(name), colour=colours.get(str(name))) for name in frame]
    rows = zip(frame.index, frame.to_numpy(float), strict=True)
    return Table([corner, *header], [[str(name), *map(write, row)] for name, row in rows])


def ordered(frame: pd.DataFrame, shares: Shares) -> pd.DataFrame:
    """The rows, indexed by attribute, as `shares` lists them, rarest first; unknown ones last."""
    if shares is None:
        return frame
    known = [name for name in shares.index if name in frame.index]
    return frame.loc[known + [name for name in frame.index if name not in shares.index]]


def check_columns(what: str, table: pd.DataFrame, columns: str) -> None:
    """Refuse a table that a section cannot show, with a ValueError; `columns` are words."""
    if missing := [name for name in columns.split() if name not in table.columns]:
        raise ValueError(
            f"{what} has no column {', '.join(missing)}; the report shows "
            f"{', '.join(columns.split())}; pass the table as the study returns it"
        )
