"""How far one arm is ahead of the others, attribute by attribute, rare and common ones apart."""

from __future__ import annotations

import pandas as pd

from classify.intervals import LEVEL
from classify.metrics import MACRO, RARE
from classify.report import tables as t
from classify.report.figures import forest_plot
from classify.report.page import Block, Details, Figure, Paragraph, Section, heading, how
from classify.report.tables import Colours, Shares

__all__ = ["differences_section"]

_APART = {
    "macro, rare": f"rare attributes (below {100 * RARE:g} %)",
    "macro, common": "common attributes",
}
"""The means over some attributes, and what the page calls these."""


def differences_section(
    comparison: pd.DataFrame,
    focus: str | None,
    colours: Colours,
    shares: Shares = None,
    quality: pd.DataFrame | None = None,
) -> Section | None:
    """The paired differences of the focus arm, with a forest plot a baseline.

    Args:
        comparison: of `classify.compare_pairs`.
        focus: the arm.
        colours: of the arms.
        shares: of positives.
        quality: the labeler's; its errors stand beside the differences.
    """
    rows = comparison[(comparison["arm"] == focus) & (comparison["metric"] == "f1")]
    rows = rows.dropna(subset="difference")
    single = rows[~rows["attribute"].isin((MACRO, *_APART))]
    if single.empty:
        return None
    text = (
        f"F1 of {focus} minus F1 of the other arm, paired by seed, with its 95 % interval. Right "
        f"of 0 favours {focus}. A marker is filled where the interval excludes 0, and hollow "
        "elsewhere. The intervals are not corrected for looking at many attributes: about one in "
        "twenty excludes 0 by chance alone; Holm’s adjustment says how many stay certain."
    )
    blocks: list[Block] = [how(text), *_apart(rows, colours)]
    if quality is not None:
        errors = quality[quality["group"] == "all"].set_index("attribute")["error"]
        single = single.assign(error=single["attribute"].map(errors))
    for place, (baseline, told) in enumerate(single.groupby("baseline", sort=False)):
        table = t.ordered(told.set_index("attribute", drop=False), shares)
        title = f"{focus} against {baseline}"
        count, plot, numbers = _against(table, f"{focus} minus F1 of {baseline}", colours, shares)
        if place == 0:
            blocks += [heading(title), count, plot, Details("The numbers", [numbers])]
        else:
            blocks.append(Details(title, [count, plot, numbers]))
    return Section("Differences by attribute", blocks)


def _apart(rows: pd.DataFrame, colours: Colours) -> list[Block]:
    """The mean differences of rare and of common attributes, one row per baseline."""
    means = rows[rows["attribute"].isin(_APART)]
    if means.empty:
        return []
    cells = {(row["baseline"], row["attribute"]): t.difference(row) for row in t.records(means)}
    of_kind = {
        kind: lambda row, attribute=attribute: cells.get((row["baseline"], attribute), t.NOTHING)
        for attribute, kind in _APART.items()
    }
    columns: t.Columns = {f"{means['arm'].iloc[0]} against": t.key("baseline", colours), **of_kind}
    return [t.tabulate(means[["baseline"]].drop_duplicates(), columns)]


def _against(table: pd.DataFrame, what: str, colours: Colours, shares: Shares) -> list[Block]:
    """How many differences are certain, their figure and their numbers."""
    above, below = int((table["low"] > 0).sum()), int((table["high"] < 0).sum())
    counted = (
        f"Of {len(table)} attributes, {above} lie above 0, {below} below 0, and "
        f"{len(table) - above - below} are undecided"
    )
    if "p_holm" in table:
        counted += f"; {int((table['p_holm'] < LEVEL).sum())} are certain after Holm’s adjustment"
    colour = colours.get(str(table["arm"].iloc[0]))
    plot = forest_plot(table, colour, label=f"F1 of {what}", shares=shares)
    label = f"Forest plot of differences by attribute, F1 of {what}; numbers in the table"
    columns: t.Columns = {
        "Attribute": ("attribute", str),
        "Difference": ("difference", t.signed),
        "95 % interval": t.bounds,
        **({"Labels wrong": ("error", t.percent)} if "error" in table else {}),
    }
    return [Paragraph(f"{counted}."), Figure(plot, label), t.tabulate(table, columns)]
