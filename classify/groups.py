"""Groups of images for an audit: by one column, and by the intersection of all of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["GROUPS", "Cells", "Grouping", "composition", "divide", "value_text"]

GROUPS = ("Male", "Young")
"""CelebA's columns that people are usually audited by."""


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """One way of dividing the images into groups; who lacks a value is in none."""

    name: str
    """The column, or the columns joined by " x "."""
    columns: tuple[str, ...]
    """What divides."""
    members: Mapping[str, NDArray[np.bool_]]
    """Group ("Male=1, Young=0") -> (C,): which of the cells belong to it, if any."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The images by cell: equal in all columns, lacking values included."""

    order: NDArray[np.intp]
    """(N,): positions of the images, cell after cell."""
    bounds: NDArray[np.intp]
    """(C + 1,): where in that order each cell starts, and the end."""
    groupings: tuple[Grouping, ...]
    """By every column, then, of several, by their intersection."""


def divide(groups: pd.DataFrame) -> Cells:
    """Divide images into cells and say which cells make up which group.

    Args:
        groups: One row per image, one column per way of dividing; a lacking value is NaN.

    Raises:
        ValueError: No column, or a column that puts all images into one group.
    """
    columns = list(groups.columns)
    if not columns:
        raise ValueError("groups have no column; name at least one to divide the images by")
    for column in columns:
        if groups[column].nunique() < 2:
            raise ValueError(
                f"groups: column {column} has one value only; at least two make groups; leave it "
                "out"
            )
    codes = groups.groupby(columns, dropna=False, sort=False).ngroup().to_numpy()
    keys = groups.drop_duplicates(ignore_index=True)
    return Cells(
        order=np.argsort(codes, kind="stable"),
        bounds=np.concatenate([[0], np.bincount(codes).cumsum()]),
        groupings=tuple(_grouping(keys, way) for way in _ways(columns)),
    )


def composition(tables: Mapping[str, pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """What sets of images, a synthetic one say, are made up of.

    Args:
        tables: Name of the set -> table, none of them empty.
        columns: Columns of every table to divide by.

    Returns:
        Tidy rows, columns `set, grouping, group, n, share`; the group `unlabelled` holds the images
        that lack a value. Shares are of all images of the set and add up to 1 in each grouping.
    """
    sets = pd.concat([table[list(columns)].assign(set=name) for name, table in tables.items()])
    rows = []
    for grouping in (_grouping(sets, way) for way in _ways(columns)):
        members = {**grouping.members}
        members["unlabelled"] = ~np.any(list(members.values()), axis=0)
        for name, group in itertools.product(tables, members):
            there = (sets["set"] == name).to_numpy()
            n = int((there & members[group]).sum())
            rows.append((name, grouping.name, group, n, n / there.sum()))
    return pd.DataFrame(rows, columns=["set", "grouping", "group", "n", "share"])


def _ways(columns: Sequence[str]) -> list[tuple[str, ...]]:
    """By every column, then, of several, by all of them."""
    return list(dict.fromkeys([*((column,) for column in columns), tuple(columns)]))


def _grouping(keys: pd.DataFrame, columns: tuple[str, ...]) -> Grouping:
    """All combinations of values, whether they occur or not."""
    values = [sorted(keys[column].dropna().unique()) for column in columns]
    members = {}
    for combination in itertools.product(*values):
        pairs = list(zip(columns, combination, strict=True))
        group = ", ".join(f"{column}={value_text(value)}" for column, value in pairs)
        members[group] = np.all([keys[column] == value for column, value in pairs], axis=0)
    return Grouping(name=" x ".join(columns), columns=columns, members=members)


def value_text(value: object) -> str:
    """A group's value as it is shown: 1.0 as 1."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)
