"""Generate until a quota is met or a limit is reached, in rounds of seeds that follow one another.

A round is a range of seeds, so every round is a whole call of `generate` on the same folder: what
earlier rounds left there is kept, and a stopped run finds it and goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from augment import Quota, Selection, admitted, select

__all__ = ["Filled", "fill"]

Step = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What was generated, and what of it the quota takes."""

    table: pd.DataFrame
    """Every image generated, labelled and judged."""
    selection: Selection
    """The rows taken, and wish by wish what was got."""
    rounds: pd.DataFrame
    """Columns `round, generated, admitted, taken`, all in total up to that round, and a column for
    each wish, what it has got by then."""
    stopped: Literal["met", "limit"]
    """Why no further round was made."""

    @property
    def short(self) -> list[str]:
        """The wishes that were not met, and how far they are."""
        report = self.selection.report
        unmet = report[(report["wish"] != "all") & (report["got"] < report["wanted"])]
        columns = ["wish", "got", "wanted"]
        return [f"{wish}, {got} of {wanted}" for wish, got, wanted in unmet[columns].to_numpy()]


def fill(
    make: Callable[[Sequence[int]], pd.DataFrame],
    label: Step,
    judge: Step,
    quota: Quota,
    *,
    n_real: int,
    limit: int,
    size: int,
    first_seed: int = 0,
) -> Filled:
    """Generate, label, judge and select, round by round.

    It stops after the first round with which the quota is met, or at the limit. A quota without
    wish, ratio or cap is never met before.

    Args:
        make: the images of some seeds: `generate` into one folder; returns their rows.
        label: adds labels, as `pseudo_label` does.
        judge: adds the admission, as `admit` does.
        quota: what is wanted.
        n_real: real train images, for the quota's ratio.
        limit: images generated at most.
        size: images a round; a multiple of the sampler's batch size wastes nothing.
        first_seed: of the first round.

    Raises:
        ValueError: a limit or a size under 1.
    """
    if limit < 1 or size < 1:
        raise ValueError(f"limit is {limit} and size {size}; give at least 1 image each")
    tables: list[pd.DataFrame] = []
    history: list[dict[str, int]] = []
    ends = bool(quota.wanted) or quota.limit(n_real) is not None
    for start in range(0, limit, size):
        seeds = range(first_seed + start, first_seed + min(start + size, limit))
        tables.append(judge(label(make(seeds))))
        table = pd.concat(tables, ignore_index=True)
        selection = select(table, quota, n_real=n_real)
        history.append(_row(len(history), table, selection))
        met = ends and selection.is_met
        if met:
            break
    return Filled(
        table=table,
        selection=selection,
        rounds=pd.DataFrame(history),
        stopped="met" if met else "limit",
    )


def _row(number: int, table: pd.DataFrame, selection: Selection) -> dict[str, int]:
    counts = {"generated": len(table), "admitted": len(admitted(table))}
    wishes = selection.report[selection.report["wish"] != "all"]
    got = {str(w): int(n) for w, n in zip(wishes["wish"], wishes["got"], strict=True)}
    return {"round": number, **counts, "taken": len(selection.table), **got}
