"""Whether the labels can be trusted: how often the labeler is wrong, and its thresholds."""

from __future__ import annotations

import pandas as pd

from classify.report.blocks import Block, Details, Paragraph, Section, Table, heading, how
from classify.report.tables import (
    METRICS,
    Shares,
    check_columns,
    figure,
    number,
    ordered,
    percent,
    share,
    tabulate,
    word,
)

__all__ = ["ALL", "labels_section"]

ALL = "all"
"""The `group` of all rows together."""
_WORST = 8


def labels_section(quality: pd.DataFrame, policy: pd.DataFrame, shares: Shares = None) -> Section:
    """The labeler, tested on real validation images.

    Args:
        quality: `group` (`all` first, then such as `Male=0, Young=1`), `attribute, f1, precision,
            recall`, `error` (share of wrong labels), `kept` (share of cells that got a label).
        policy: what makes probabilities labels: index attribute, columns `present, absent,
            temperature, kept, ece_before, ece_after` and `n`, the rows it was fitted on (NaN: not).
        shares: of positives.
    """
    check_columns("quality", quality, "group", "attribute", *METRICS, "error", "kept")
    everyone = quality[quality["group"] == ALL].set_index("attribute", drop=False)
    f1, precision, recall = (number(everyone[metric].mean()) for metric in METRICS)
    blocks = [
        how(
            "This tests the labeler that named the synthetic images on the real validation "
            "images. Its thresholds may have been fitted on these, which flatters it a little. A "
            "gain in an attribute that the labeler gets wrong is not to be trusted. On synthetic "
            "images, those of low density above all, it may be worse than shown here. “Kept” is "
            "the share of cells that got a label; the others stay empty and train nothing."
        ),
        Paragraph(
            f"Means over {int(everyone['f1'].notna().sum())} attributes: F1 {f1}, precision "
            f"{precision}, recall {recall}; {percent(everyone['error'].mean())} of labels wrong, "
            f"{percent(everyone['kept'].mean())} kept. The least reliable:"
        ),
        _table(everyone.nsmallest(_WORST, "f1")),
        Details("All attributes", [_table(ordered(everyone, shares))]),
        *_by_group(quality[quality["group"] != ALL]),
        _policy(policy),
    ]
    return Section("Label quality", blocks)


def _table(quality: pd.DataFrame, of: str = "attribute") -> Table:
    scores = {label: figure(metric) for metric, label in METRICS.items()}
    columns = {of.title(): word(of), **scores, "Wrong": share("error"), "Kept": share("kept")}
    return tabulate(quality, columns)


def _by_group(quality: pd.DataFrame) -> list[Block]:
    """Means over the same attributes in every group: others would not be comparable."""
    f1 = quality.pivot_table(
        index="attribute", columns="group", values="f1", sort=False, dropna=False
    )
    shared = f1.dropna().index
    if shared.empty:
        return []
    rows = quality[quality["attribute"].isin(shared)]
    means = rows.groupby("group", sort=False)[[*METRICS, "error", "kept"]].mean()
    text = (
        f"Means over the {len(shared)} attributes of which every group has at least 10 images with "
        "and 10 without."
    )
    return [heading("By group"), how(text), _table(means.reset_index(), "group")]


def _policy(policy: pd.DataFrame) -> Details:
    origin = "These are the thresholds on the labeler’s card; nothing was fitted in this run."
    if policy["n"].notna().any():
        origin = (
            "These were fitted on real validation images. Calibration error is given before and "
            "after division by the temperature, on the images it was fitted on."
        )
    text = (
        f"{origin} An attribute is present from the upper threshold on and absent below the lower "
        "one; between them the cell stays empty."
    )
    columns = {
        "Attribute": word("attribute"),
        "Present from": figure("present"),
        "Absent below": figure("absent"),
        "Temperature": figure("temperature"),
        "Calibration error before": figure("ece_before"),
        "after": figure("ece_after"),
        "Kept": share("kept"),
    }
    table = tabulate(policy.rename_axis("attribute").reset_index().fillna(float("nan")), columns)
    return Details("Thresholds, temperatures and calibration", [how(text), table])
