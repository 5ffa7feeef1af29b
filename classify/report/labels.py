"""Whether the labels can be trusted: how often the labeler is wrong, and its thresholds."""

from __future__ import annotations

import pandas as pd

from classify.report import tables as t
from classify.report.page import Block, Details, Paragraph, Section, Table, heading, how
from classify.report.tables import METRICS, Shares

__all__ = ["labels_section"]

_WORST = 8
_FEW = 10
_COUNTS = ["train", "val", "test", "not_train", "not_val", "not_test"]


def labels_section(
    quality: pd.DataFrame, policy: pd.DataFrame, trust: pd.DataFrame, shares: Shares = None
) -> Section:
    """The labeler, tested on real validation images.

    Args:
        quality: `group` (`all` first, then such as `Male=0, Young=1`), `attribute, f1, precision,
            recall`, `error` (share of wrong labels), `kept` (share of cells that got a label).
        policy: what makes probabilities labels: index attribute, columns `present, absent,
            temperature, kept, ece_before, ece_after` and `n`, the rows it was fitted on (NaN: not).
        trust: `attribute`, `doubt` (why synthetic images have no label of it, or empty), and images
            that have it, `train, val, test`, and that lack it, `not_train, not_val, not_test`.
        shares: of positives.
    """
    t.check_columns("quality", quality, "group attribute f1 precision recall error kept")
    everyone = quality[quality["group"] == "all"].set_index("attribute", drop=False)
    f1, precision, recall = (t.number(everyone[metric].mean()) for metric in METRICS)
    text = (
        "This tests the labeler that named the synthetic images on the real validation images. Its "
        "thresholds may have been fitted on these, which flatters it a little. A gain in an "
        "attribute that the labeler gets wrong is not to be trusted. On synthetic images, those "
        "of low density above all, it may be worse than shown here. “Kept” is the share of cells "
        "that got a label; the others stay empty and train nothing."
    )
    means = (
        f"Means over {int(everyone['f1'].notna().sum())} attributes: F1 {f1}, precision "
        f"{precision}, recall {recall}; {t.percent(everyone['error'].mean())} of labels wrong, "
        f"{t.percent(everyone['kept'].mean())} kept. The least reliable:"
    )
    blocks = [
        how(text),
        *_doubts(trust),
        Paragraph(means),
        _table(everyone.nsmallest(_WORST, "f1")),
        Details("All attributes", [_table(t.ordered(everyone, shares))]),
        *_by_group(quality[quality["group"] != "all"]),
        _policy(policy),
    ]
    return Section("Label quality", blocks)


def _table(quality: pd.DataFrame, of: str = "attribute") -> Table:
    columns: t.Columns = {of.title(): (of, str)}
    columns |= {label: (metric, t.number) for metric, label in METRICS.items()}
    columns |= {"Wrong": ("error", t.percent), "Kept": ("kept", t.percent)}
    return t.tabulate(quality, columns)


def _doubts(trust: pd.DataFrame) -> list[Block]:
    """The attributes whose labels are not used, and those that few images show."""
    doubted = trust["doubt"] != ""
    shown = trust[doubted | (trust[_COUNTS] < _FEW).any(axis=1)]
    if shown.empty:
        return []
    text = (
        f"{int(doubted.sum())} of {len(trust)} attributes have no label in the synthetic images, "
        "so that none trains on it. Shown with them are those of which a split has fewer than "
        f"{_FEW} images of either value; counts are of train / val / test."
    )
    columns: t.Columns = {
        "Attribute": ("attribute", str),
        "Have it": lambda row: " / ".join(t.whole(row[name]) for name in _COUNTS[:3]),
        "Lack it": lambda row: " / ".join(t.whole(row[name]) for name in _COUNTS[3:]),
        "Labels": lambda row: f"none: {row['doubt']}" if row["doubt"] else "used",
    }
    return [how(text), t.tabulate(shown, columns)]


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
    headings = {
        "present": "Present from", "absent": "Absent below", "temperature": "Temperature",
        "ece_before": "Calibration error before", "ece_after": "after",
    }  # fmt: skip
    columns: t.Columns = {"Attribute": ("attribute", str)}
    columns |= {title: (name, t.number) for name, title in headings.items()}
    columns["Kept"] = ("kept", t.percent)
    table = policy[[*headings, "kept"]].astype(float).rename_axis("attribute").reset_index()
    shown = t.tabulate(table, columns)
    return Details("Thresholds, temperatures and calibration", [how(text), shown])
