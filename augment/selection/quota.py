"""Quotas: which of the admitted images train a classifier, and the table that they join.

All of them, so many for each real one, so many at most, or as many as there are wishes for:
`Bald=1: 200` or `Male=0,Eyeglasses=1: 100`. One image may serve several wishes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from augment.selection.admission import admitted


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What to take of a set's images; by default all."""

    ratio: float | None = None
    """Images at most for each real train image; left out, no such limit."""
    cap: int | None = None
    """Images at most; left out, no such limit."""
    wanted: Mapping[str, int] = field(default_factory=dict)
    """Images wanted by attributes, as {"Male=0,Eyeglasses=1": 100}; then no others are taken."""

    def __post_init__(self) -> None:
        if self.ratio is not None and not (math.isfinite(self.ratio) and self.ratio > 0):
            raise ValueError(f"quota.ratio is {self.ratio}; give a number above 0, or leave it out")
        if self.cap is not None and self.cap < 1:
            raise ValueError(f"quota.cap is {self.cap}; give at least 1 image, or leave it out")
        for wish, count in self.wanted.items():
            parse_wish(wish)
            if count < 1:
                raise ValueError(
                    f"quota.wanted has {count} for {wish}; give at least 1, or leave it out"
                )

    def limit(self, n_real: int) -> int | None:
        """Images at most beside `n_real` real train images; None for no limit."""
        limits = [self.cap, None if self.ratio is None else math.floor(self.ratio * n_real)]
        return min((limit for limit in limits if limit is not None), default=None)


class Selection(NamedTuple):
    """What was taken."""

    table: pd.DataFrame
    """The rows taken, in their order."""
    report: pd.DataFrame
    """Columns `wish, wanted, available, got`, one row per wish, then `all` (wanted: the limit or
    all there are; with wishes, what was taken)."""

    @property
    def is_met(self) -> bool:
        """Whether everything wanted was got."""
        return bool((self.report["got"] >= self.report["wanted"]).all())


def parse_wish(wish: str) -> dict[str, int]:
    """Attribute -> value of a wish such as `Male=0,Eyeglasses=1`.

    Raises:
        ValueError: it is not of that form, or names an attribute twice.
    """
    pairs = [part.partition("=")[::2] for part in wish.split(",")]
    values = {name.strip(): value.strip() for name, value in pairs}
    if "" in values or not set(values.values()) <= {"0", "1"} or len(values) < len(pairs):
        raise ValueError(
            f"wish {wish!r} is not understood; write NAME=1 or NAME=0, several joined by commas"
        )
    return {name: int(value) for name, value in values.items()}


def select(synthetic: pd.DataFrame, quota: Quota, *, n_real: int) -> Selection:
    """Take rows by quota; those that were admitted, if that was judged.

    Without wishes the first rows are taken, up to the limit. With wishes, an image that serves
    most of those still open is taken next, the earlier the better, until none serves any or the
    limit is reached. Without a limit every wish so gets what is wanted, or all there is, with at
    most 1 + 1/2 + ... + 1/m times as many images as the fewest possible, m the most wishes that
    one image serves (Dobson, 1982). With a limit, at least 63 % (1 - 1/e) of what the best choice
    would meet, summed over wishes, is met (Nemhauser, Wolsey & Fisher, 1978).

    Args:
        synthetic: labelled rows; an empty label serves no wish.
        quota: what is wanted.
        n_real: real train images, for the ratio.

    Raises:
        ValueError: a wish names a column that is not there.
    """
    limit, synthetic = quota.limit(n_real), admitted(synthetic)
    if not quota.wanted:
        wanted = len(synthetic) if limit is None else limit
        table = synthetic[:wanted]
        report = [("all", wanted, len(synthetic), len(table))]
    else:
        serves = _serves(synthetic, list(quota.wanted))
        counts = np.array(list(quota.wanted.values()))
        table = synthetic.iloc[_greedy(serves, counts, limit)]
        got = _serves(table, list(quota.wanted)).sum(axis=0)
        report = list(zip(quota.wanted, counts, serves.sum(axis=0), got, strict=True))
        report.append(("all", len(table), int(serves.any(axis=1).sum()), len(table)))
    return Selection(table, pd.DataFrame(report, columns=["wish", "wanted", "available", "got"]))


def merge(real: pd.DataFrame, synthetic: pd.DataFrame) -> pd.DataFrame:
    """Real rows of every split, then the synthetic ones that were admitted.

    Args:
        real: a table whose rows are real (also where it has no `source`); its validation and test
            rows stay as they are.
        synthetic: a table whose rows are synthetic and train; those that `admit` did not keep stay
            out.

    Returns:
        One table with the columns of both; a column that one of them lacks is empty in its rows.

    Raises:
        ValueError: a table without a column, a synthetic row outside train, a real row in
            `synthetic` or the reverse.
    """
    if "source" not in real:
        real = real.assign(source="real")
    for name in ("file_name", "split", "source"):
        for kind, table in (("real", real), ("synthetic", synthetic)):
            if name not in table:
                raise ValueError(
                    f"the {kind} table has no column {name}; give one as `load_table` and "
                    "`generate` return it"
                )
    strays = synthetic[(synthetic["split"] != "train") | (synthetic["source"] != "synthetic")]
    if len(strays):
        row = strays.iloc[0]
        raise ValueError(
            f"{len(strays)} rows of the synthetic table are not synthetic train rows, the first "
            f"{row['file_name']} ({row['source']}, {row['split']}); synthetic images only ever "
            "train; set source and split so"
        )
    if (real["source"] != "real").any():
        name = real.loc[real["source"] != "real", "file_name"].iloc[0]
        raise ValueError(
            f"the real table holds synthetic rows, the first {name}; "
            "give the real rows alone and the rest as the second table"
        )
    return pd.concat([real, admitted(synthetic)], ignore_index=True)


def _serves(table: pd.DataFrame, wishes: Sequence[str]) -> NDArray[np.bool_]:
    """Which image serves which wish, bool (N, W)."""
    columns = []
    for wish in wishes:
        values = parse_wish(wish)
        if missing := [name for name in values if name not in table]:
            raise ValueError(
                f"wish {wish!r} names {missing[0]}, which is no column of the table; "
                "label the images by it, or correct the wish"
            )
        # An empty label, which pandas' nullable types skip, serves no wish.
        meets = table[list(values)].eq(pd.Series(values)).fillna(False)
        columns.append(meets.all(axis=1).to_numpy(bool))
    return np.stack(columns, axis=1)


def _greedy(
    serves: NDArray[np.bool_], wanted: NDArray[np.int64], limit: int | None
) -> NDArray[np.int64]:
    """Positions of the chosen rows, ascending.

    Rows that serve the same wishes are alike, so that whole runs of them are taken at once: until
    the first of their open wishes is met, when another kind may serve more.
    """
    kinds, kind_of = np.unique(serves, axis=0, return_inverse=True)
    waiting = [np.flatnonzero(kind_of.ravel() == kind) for kind in range(len(kinds))]
    open_, left = wanted.copy(), len(serves) if limit is None else limit
    taken: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    while left:
        gain = (kinds & (open_ > 0)).sum(axis=1)
        ready = [kind for kind in range(len(kinds)) if gain[kind] and len(waiting[kind])]
        if not ready:
            break
        best = min(ready, key=lambda kind: (-gain[kind], waiting[kind][0]))
        count = min(left, len(waiting[best]), int(open_[kinds[best] & (open_ > 0)].min()))
        taken.append(waiting[best][:count])
        waiting[best] = waiting[best][count:]
        open_ = open_ - count * kinds[best]
        left -= count
    return np.sort(np.concatenate(taken))
