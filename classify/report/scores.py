"""Whether the synthetic images help: verdict, controls, F1 by attribute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from classify.metrics import MACRO, MACRO_RARE, MEANS
from classify.report import tables as t
from classify.report.figures import dot_plot
from classify.report.page import Block, Cell, Details, Figure, Paragraph, Section, Table, how
from classify.report.tables import Colours, Shares
from classify.verdict import OUTCOMES, Finding, Verdict, headline, of_gains

__all__ = ["attributes_section", "controls_section", "verdict_section"]

_SCOPES = {MACRO: "All attributes", MACRO_RARE: "Rare attributes"}

_REMAINS = dict(zip(OUTCOMES, ("yes", "in part", "no evidence"), strict=True))


def verdict_section(
    found: Sequence[Verdict], cautions: Sequence[str] = (), reservations: Sequence[str] = ()
) -> Section:
    """What came out, in a few sentences, and why it should not be trusted.

    Args:
        found: of `classify.verdict.verdicts`.
        cautions: a sentence each.
        reservations: what limits the study, a sentence each, before all else.
    """
    blocks: list[Block] = [Paragraph(headline(found, reservations), "headline")]
    if more := of_gains(found):
        blocks.append(Paragraph(more))
    if found:
        header = ["Difference in F1", *_SCOPES.values(), "Remains"]
        blocks.append(Table(header, [_row(one) for one in found]))
    blocks += [Paragraph(f"Caution: {caution}", "caution") for caution in cautions]
    note = (
        "“Gain” or “loss” is said only where the whole 95 % interval of the difference in F1 at "
        "0.5, paired by seed and test image, lies on one side of 0. Anything else, a single seed "
        "included, is “no evidence of gain”, which does not mean that there is no difference. A "
        "gain remains where average precision, and F1 at thresholds fitted on val, gain by the "
        "same rule. Where neither does, the arm may only call what is rare present more often (a "
        "shift of the prior), which a lower threshold does too."
    )
    return Section("Verdict", [*blocks, how(note)], boxed=True)


def _row(one: Verdict) -> list[Cell | str]:
    """A pair, what was found over all and over rare attributes, and whether a gain remains."""
    cells = [_found(found) if (found := one.findings.get(mean)) else t.NOTHING for mean in _SCOPES]
    remains = t.NOTHING if one.outcome is None else _REMAINS[one.outcome]
    return [f"{one.arm} against {one.baseline}", *cells, remains]


def _found(one: Finding) -> Cell:
    """The word, and in small print the figures and where else a gain is seen."""
    figures = one.figures().replace("-", "−")
    return Cell(one.verdict, ", ".join(filter(None, [figures, one.elsewhere()])))


def controls_section(
    comparison: pd.DataFrame, focus: str | None, controls: Mapping[str, str], colours: Colours
) -> Section | None:
    """How far the focus arm is ahead of each control, an arm of real images -> what it tells."""
    needed = "arm baseline attribute metric difference low high verdict"
    t.check_columns("comparison", comparison, needed)
    told = comparison[(comparison["attribute"] == MACRO) & (comparison["metric"] == "f1")]
    told = told[(told["arm"] == focus) & told["baseline"].isin(list(controls))]
    if told.empty:
        return None
    text = (
        "Controls are arms of real images alone that take as many steps. What "
        f"{focus} gains over all of them is explained neither by more images, nor by the "
        "labeler’s knowledge, nor by the usual remedies for rare classes. The difference is "
        f"F1 of {focus} minus F1 of the control, with its 95 % interval."
    )
    columns: t.Columns = {
        "Control": t.key("baseline", colours, controls),
        "Difference": t.difference,
        "Verdict": ("verdict", str),
    }
    return Section("Controls", [how(text), t.tabulate(told, columns)])


def attributes_section(
    scores: pd.DataFrame, drawn: Sequence[str], colours: Colours, shares: Shares = None
) -> Section | None:
    """F1 by attribute, of tidy scores; the figure shows the arms `drawn`, the table all."""
    table = _by_attribute(scores, shares)
    scored = table.dropna(how="all")
    if scored.empty:
        return None
    shown = scored[[arm for arm in drawn if arm in scored]]
    plot = dot_plot(shown, colours, label="F1 on the real test split", shares=shares)
    label = f"Dot plot of F1 by attribute for {', '.join(map(str, shown))}; numbers in the table"
    order = ", rarest at the top, its share of positives in the real train split at the right"
    rows = f"one row per attribute{'' if shares is None else order}"
    text = (
        f"Means over seeds on the real test split, {rows}. Further right is better. A row says "
        "little by itself: the scores of rare attributes rest on few test images."
    )
    blocks: list[Block] = [how(text), Figure(plot, label)]
    if missing := [str(name) for name in table.index if name not in scored.index]:
        why = "Not estimable, because the test split does not hold both values"
        blocks.append(how(f"{why}: {', '.join(missing)}."))
    numbers = t.matrix(table, "Attribute", colours)
    if shares is not None:
        of = shares.reindex(table.index).to_numpy(float)
        known = [[r[0], t.percent(x), *r[1:]] for r, x in zip(numbers.rows, of, strict=True)]
        numbers = Table(["Attribute", "Share", *numbers.header[1:]], known)
    return Section("F1 by attribute", [*blocks, Details("The numbers", [numbers])])


def _by_attribute(scores: pd.DataFrame, shares: Shares) -> pd.DataFrame:
    """Mean F1 over seeds on test: index attribute, columns arms."""
    t.check_columns("scores", scores, "arm seed split attribute metric value")
    rows = scores[
        (scores["split"] == "test") & (scores["metric"] == "f1") & ~scores["attribute"].isin(MEANS)
    ]
    names, arms = (list(dict.fromkeys(rows[column])) for column in ("attribute", "arm"))
    table = rows.pivot_table(index="attribute", columns="arm", values="value", dropna=False)
    return t.ordered(table.reindex(index=names, columns=arms), shares)
