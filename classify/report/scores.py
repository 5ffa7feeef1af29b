"""Whether the synthetic images help: verdict, scores by arm, controls, F1 by attribute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from classify.metrics import MACRO
from classify.report import tables as t
from classify.report.figures import dot_plot
from classify.report.page import Block, Cell, Details, Figure, Items, Paragraph, Section, Table, how
from classify.report.tables import METRICS, Colours, Shares

__all__ = ["arms_section", "attributes_section", "controls_section", "verdict_section", "verdicts"]

_SHOWS = {
    "gain": "a gain over",
    "loss": "a loss against",
    "no evidence of gain": "no evidence of gain over",
}


def verdicts(comparison: pd.DataFrame) -> pd.DataFrame:
    """The rows of `classify.compare` on macro F1, by which the arms are judged."""
    columns = "arm baseline attribute metric difference low high verdict n_seeds"
    t.check_columns("comparison", comparison, columns)
    return comparison[(comparison["attribute"] == MACRO) & (comparison["metric"] == "f1")]


def verdict_section(
    comparison: pd.DataFrame,
    arms: Sequence[str],
    focus: str | None,
    cautions: Sequence[str] = (),
    *,
    baseline: str = "real",
) -> Section:
    """What came out, in a sentence, and why it should not be trusted.

    Args:
        comparison: of `classify.compare`.
        arms: those that add synthetic images; each is judged against the baseline.
        focus: that of them which is judged against the others too.
        cautions: a sentence each.
        baseline: the arm of real images alone.
    """
    told = verdicts(comparison)
    first = told[(told["baseline"] == baseline) & told["arm"].isin(arms)]
    more = told[(told["arm"] == focus) & told["baseline"].isin(arms)]
    blocks: list[Block] = [Paragraph(_headline(first, baseline), "headline")]
    if len(first):
        blocks.append(Items([_in_words(row) for row in t.records(pd.concat([first, more]))]))
    blocks += [Paragraph(f"Caution: {caution}", "caution") for caution in cautions]
    note = (
        "“Gain” or “loss” is said only where the whole 95 % interval of the paired difference lies "
        "on one side of 0. Anything else, a single seed included, is “no evidence of gain”, which "
        "does not mean that there is no difference."
    )
    return Section("Verdict", [*blocks, how(note)], boxed=True)


def _headline(rows: pd.DataFrame, baseline: str) -> str:
    if rows.empty:
        return "No arm with synthetic images was compared with another, so there is no verdict."
    parts = [
        f"{t.listed(list(told['arm']))} {'shows' if len(told) == 1 else 'show'} "
        f"{_SHOWS[str(verdict)]} {baseline}"
        for verdict, told in rows.groupby("verdict", sort=False)
    ]
    return f"{'; '.join(parts)}."


def _in_words(row: t.Row) -> Cell:
    seeds = "1 seed" if row["n_seeds"] == 1 else f"{row['n_seeds']} paired seeds"
    return Cell(
        f"{row['arm']} against {row['baseline']}: {row['verdict']}",
        f"difference in macro F1 {t.signed(row['difference'])}, 95 % interval {t.bounds(row)}, "
        f"{seeds}",
    )


def arms_section(
    summary: pd.DataFrame,
    n_scored: int,
    n_attributes: int,
    colours: Colours,
    meanings: Mapping[str, str],
    reference: Mapping[str, Mapping[str, float]] | None = None,
) -> Section:
    """The scores of every arm.

    Args:
        summary: of `classify.summarise`.
        n_scored: number of attributes that the macro scores are a mean over.
        n_attributes: number of attributes of the study.
        colours: of the arms.
        meanings: arm -> what it tells, for those that need to be explained here.
        reference: published scores, what was trained on -> metric -> value.
    """
    t.check_columns("summary", summary, "arm metric mean low high n_seeds")
    if not 0 <= n_scored <= n_attributes:
        raise ValueError(
            f"n_scored is {n_scored}; the macro scores are a mean over 0 to {n_attributes} "
            "attributes; count those behind them"
        )
    rows: list[list[Cell | str]] = []
    for arm, told in summary.groupby("arm", sort=False):
        found = t.records(told.set_index("metric").reindex(list(METRICS)))
        cells = [Cell(t.number(row["mean"]), t.interval(row["low"], row["high"])) for row in found]
        first = Cell(str(arm), meanings.get(str(arm), ""), colours.get(str(arm)))
        rows.append([first, *cells, str(int(told["n_seeds"].max()))])
    text = (
        f"Means of the positive class over {n_scored} of {n_attributes} attributes, those with "
        "both values on the real test split. Every arm was trained for equally many steps and is "
        "tested on the same real images. The range is a 95 % interval over training seeds, for "
        "these test and synthetic images (the differences above are for other test images too). "
        "Ranges may overlap although a paired difference is clear."
    )
    if reference:
        text += " The paper’s figures are of another data set: compare their direction only."
    for name, scores in (reference or {}).items():
        cells = [Cell(t.number(scores[metric])) for metric in METRICS]
        rows.append([Cell(name, "CelebA at 64 px, one run"), *cells, "1"])
    return Section("Scores by arm", [how(text), Table(["Arm", *METRICS.values(), "Seeds"], rows)])


def controls_section(
    comparison: pd.DataFrame, focus: str | None, controls: Mapping[str, str], colours: Colours
) -> Section | None:
    """How far the focus arm is ahead of each control, an arm of real images -> what it tells."""
    told = verdicts(comparison)
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
    rows = f"one row an attribute{'' if shares is None else order}"
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
        (scores["split"] == "test") & (scores["metric"] == "f1") & (scores["attribute"] != MACRO)
    ]
    names, arms = (list(dict.fromkeys(rows[column])) for column in ("attribute", "arm"))
    table = rows.pivot_table(index="attribute", columns="arm", values="value", dropna=False)
    return t.ordered(table.reindex(index=names, columns=arms), shares)
