"""Samplers compared: cost, rarity, likeness to the real images, and what classifiers gain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd

from classify.report import tables as t
from classify.report.page import Block, Cell, Paragraph, Section, Table, heading, how
from classify.report.tables import Colours

__all__ = ["samplers_section"]

_COST = {"forwards": "Forwards", "seconds": "Seconds"}
_RARITY = {"avg_knn": "AvgkNN", "lof": "LOF", "rarity": "Rarity", "in_manifold": "In manifold"}
_LIKENESS = {
    "frechet": "Fréchet", "fid_pytorch_fid": "FID (pytorch-fid)", "sfid": "sFID", "kid": "KID",
    "precision": "Precision", "recall": "Recall", "density": "Density", "coverage": "Coverage",
}  # fmt: skip
_GAIN = {"f1": "F1", "f1_rare": "F1, rare", "average_precision": "Average precision"}


def samplers_section(
    samplers: pd.DataFrame, tails: pd.DataFrame, verdict: Sequence[str], colours: Colours
) -> Section:
    """The verdict, and every sampler by cost, rarity, likeness to the real images and gain.

    Args:
        samplers: one row per set, `set`, and of the measures those that there are; `<measure>_low`
            and `<measure>_high` are the ends of a 95 % interval.
        tails: columns `tail, set, real` (images) and measures of likeness.
        verdict: sentences.
        colours: of the sets.
    """
    t.check_columns("samplers", samplers, "set forwards seconds avg_knn f1")
    t.check_columns("tails", tails, "tail set real frechet")
    text = (
        "A forward is one pass of the generator for one image; backward passes and other networks "
        "count by their floating-point operations. Training a classifier that guides is not "
        "counted. A set called .equal has as few steps as an equal budget pays for. Intervals are "
        "95 %: of rarity over images, of F1 over seeds. Rare alone is not good: broken images are "
        "rare too, which precision shows, so the verdict of rarity counts those in the manifold "
        "of the real images alone."
    )
    blocks: list[Block] = [
        *(Paragraph(sentence, "headline") for sentence in verdict),
        how(text),
        _measures(samplers, {**_COST, **_GAIN}, colours),
        heading("How rare the images are"),
        _measures(samplers, _RARITY, colours),
        heading("Like all real train images"),
        _measures(samplers[samplers["set"] != "real"], _LIKENESS, colours),
    ]
    for tail, rows in tails.groupby("tail", sort=False):
        count = int(rows["real"].iloc[0])
        blocks += [
            heading(f"Like the {count:,} real train images of {tail}"),
            _measures(rows, _LIKENESS, colours),
        ]
    return Section("Samplers", blocks)


def _measures(frame: pd.DataFrame, titles: dict[str, str], colours: Colours) -> Table:
    """One row per set, the measures that the frame has, their intervals in small print."""
    columns: t.Columns = {"Set": t.key("set", colours)}
    columns |= {title: _cell(name) for name, title in titles.items() if name in frame}
    return t.tabulate(frame, columns)


def _cell(name: str) -> Callable[[t.Row], Cell]:
    digits = 1 if name == "forwards" else 3

    def cell(row: t.Row) -> Cell:
        low, high = row.get(f"{name}_low", t.NAN), row.get(f"{name}_high", t.NAN)
        known = math.isfinite(low) and math.isfinite(high)
        return Cell(t.number(row[name], digits), t.interval(low, high) if known else "")

    return cell
