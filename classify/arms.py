"""Arms of a study: a training table, and where an arm is about that, changes of the fit's settings.

The controls tell apart why an arm gains. As many rows again as another arm adds, but real ones
(`duplicate`), or real ones with a labeler's labels (`relabel`); what is rare coming up more often
(`oversample`); and, as changes of the settings alone, another loss or stronger augmentation. All
arms take the same number of optimiser steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classify.config import FitConfig

__all__ = ["Arm", "check_changes", "duplicate", "oversample", "relabel", "substitute"]

_OF_ALL = frozenset({"image_size", "epochs", "min_steps", "batch_size", "rounds", "architecture"})
"""Settings that arms share: with others they would not be comparable."""
_SETTINGS = frozenset(f.name for f in fields(FitConfig)) - _OF_ALL


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What one arm of a study trains on, and how its fits differ from the study's."""

    table: pd.DataFrame
    """Train, val and test rows."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `FitConfig` -> the arm's values; empty for the study's own."""
    meaning: str = ""
    """What the arm tells, for a reader; a sentence."""
    sets: tuple[str, ...] = ()
    """Names of the synthetic sets whose images it trains on."""

    def __post_init__(self) -> None:
        check_changes(self.changes)

    @classmethod
    def of(cls, arm: pd.DataFrame | Arm) -> Arm:
        """An arm as it is, a table as an arm without changes."""
        return arm if isinstance(arm, Arm) else cls(table=arm)

    def config(self, base: FitConfig) -> FitConfig:
        """The study's settings with this arm's changes."""
        return replace(base, **self.changes)


def check_changes(names: Iterable[str]) -> None:
    """Refuse changes of settings in which arms must not differ.

    Raises:
        ValueError: names the first.
    """
    if other := sorted(set(names) - _SETTINGS):
        raise ValueError(
            f"an arm changes {other[0]}; give changes of {', '.join(sorted(_SETTINGS))}, and set "
            "anything else for all arms"
        )


def duplicate(table: pd.DataFrame, count: int, *, seed: int = 0) -> pd.DataFrame:
    """The table and `count` of its real train rows again, drawn with replacement.

    Raises:
        ValueError: no real train row.
    """
    return _with_more(table, _real_train(table), count, seed)


def relabel(
    table: pd.DataFrame, labelled: pd.DataFrame, count: int, *, seed: int = 0
) -> pd.DataFrame:
    """The table and `count` of its real train rows again, the copies with a labeler's labels.

    With one seed, these are the images that `duplicate` takes: the arms differ by the labels alone.

    Args:
        table: real rows of all splits.
        labelled: the real train rows in the same order, labelled by the labeler.
        count: rows added, drawn with replacement.
        seed: of the draw.

    Raises:
        ValueError: no real train row, or `labelled` has other images.
    """
    if labelled["path"].tolist() != _real_train(table)["path"].tolist():
        raise ValueError(
            "the relabelled images are not the table's real train images; "
            "label those, in their order"
        )
    return _with_more(table, labelled, count, seed)


def oversample(
    table: pd.DataFrame, attributes: Sequence[str], *, share: float = 0.05, seed: int = 0
) -> pd.DataFrame:
    """Train rows repeated by what is rare in them: repeat-factor sampling of Gupta et al. (2019).

    An attribute that a share f of the labelled train rows has gets the factor
    max(1, sqrt(share / f)), a row the largest factor of the attributes it has. The factor's
    fraction is drawn, so that it holds on average.

    Args:
        table: rows of all splits; only train rows are repeated.
        attributes: those looked at.
        share: in (0, 1], under which an attribute is rare.
        seed: of the draw.

    Raises:
        ValueError: a share out of range.
    """
    rows, _ = _repeated(table, attributes, share, seed)
    return table.iloc[rows].reset_index(drop=True)


def substitute(
    table: pd.DataFrame,
    pool: pd.DataFrame,
    attributes: Sequence[str],
    *,
    replaced: float,
    share: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """The rows of `oversample`, other images standing in for a part of the repeats.

    The first draw of every row stays. A repeat is replaced by an image that has the attribute for
    which the row is repeated, drawn without replacement until all have come up; it stays where the
    pool has none. So there are as many rows as from `oversample`, and rare attributes are as
    frequent; what else an image shows is its own.

    Args:
        table: rows of all splits; only train rows are repeated.
        pool: rows to draw from, such as synthetic ones; the real train rows for a control.
        attributes: those looked at.
        replaced: share of the repeats in [0, 1]; 0 gives the rows of `oversample`.
        share: as for `oversample`.
        seed: of the draws; which rows are repeated is as in `oversample`, and which repeats are
            replaced does not depend on the pool.

    Raises:
        ValueError: a share out of range.
    """
    if not 0 <= replaced <= 1:
        raise ValueError(f"replaced is {replaced}; give a share in [0, 1]")
    rows, cause = _repeated(table, attributes, share, seed)
    repeats = np.flatnonzero(rows[1:] == rows[:-1]) + 1
    rng = np.random.default_rng((seed, 1))
    chosen = rng.permutation(repeats)[: round(replaced * len(repeats))]
    wanted = cause[rows[chosen]]
    for number, name in enumerate(attributes):
        places = chosen[wanted == number]
        having = rng.permutation(np.flatnonzero(pool[name] >= 0.5))
        if len(having):
            rows[places] = len(table) + np.resize(having, len(places))
    return pd.concat([table, pool]).iloc[rows].reset_index(drop=True)


def _repeated(
    table: pd.DataFrame, attributes: Sequence[str], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions in the table, a repeated row's one after another, and for each row of the table
    which attribute sets its factor.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; give a share in (0, 1]")
    is_train = (table["split"] == "train").to_numpy()
    labels = table.loc[is_train, list(attributes)]
    frequency = labels.mean().clip(lower=1 / max(len(labels), 1))
    factors = np.sqrt(share / frequency).clip(lower=1).fillna(1)
    cells = np.where(labels == 1, factors, 1.0)
    drawn = np.random.default_rng(seed).random(len(labels))
    times, cause = np.ones(len(table), dtype=np.int64), np.zeros(len(table), dtype=np.int64)
    times[is_train] = np.floor(cells.max(axis=1, initial=1.0) + drawn).astype(np.int64)
    cause[is_train] = cells.argmax(axis=1)
    return np.repeat(np.arange(len(table)), times), cause


def _real_train(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["split"] == "train") & (table["source"] == "real")]


def _with_more(table: pd.DataFrame, rows: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    if rows.empty or count < 0:
        raise ValueError(
            f"{count} of {len(rows)} real train rows cannot be added; give a table with real "
            "train rows, and a number from 0 up"
        )
    chosen = np.random.default_rng(seed).integers(len(rows), size=count)
    return pd.concat([table, rows.iloc[chosen][list(table)]], ignore_index=True)
