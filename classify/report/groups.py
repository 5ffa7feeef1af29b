"""The fairness audit: differences between groups before and after, and who is in the sets."""

from __future__ import annotations

import pandas as pd

from classify.fairness import BETWEEN
from classify.intervals import LEVEL
from classify.report import tables as t
from classify.report.page import Block, Details, Paragraph, Section, Table, how
from classify.report.tables import Colours

__all__ = ["audit_section"]

_NAMES = {
    "demographic_parity_difference": "Demographic parity difference",
    "equalized_odds_difference": "Equalised odds difference",
    "worst_group_f1": "F1 of the worst group",
}
_SHOWN = 8


def audit_section(
    audit: pd.DataFrame, focus: str, composition: pd.DataFrame, colours: Colours
) -> Section:
    """The audit of one arm against its baseline.

    Args:
        audit: of `classify.audit`, of the two arms.
        focus: the arm after.
        composition: images of each group in each set, `set, grouping, group, n, share`.
        colours: of the sets.
    """
    columns = "arm baseline attribute grouping group metric value low high p_holm left_out"
    t.check_columns("audit", audit, columns)
    t.check_columns("composition", composition, "set grouping group n share")
    between = audit[audit["metric"].isin(BETWEEN)]
    between = between.assign(named=between["metric"].map(_NAMES))
    changed = between[(between["arm"] == focus) & between["baseline"].ne("")]
    changed = changed.dropna(subset="value")
    before = " and ".join(arm for arm in audit["arm"].unique() if arm != focus)
    text = (
        f"Differences between groups of the real test images, before ({before}) and after "
        f"({focus}); 0 is even. A figure that would rest on fewer than 30 images is not estimable: "
        "it is left out, never counted as 0. Noise alone keeps a difference above 0, so judge by "
        "the change, which is paired by seed and image and stands with its 95 % interval."
    )
    blocks: list[Block] = [how(text)]
    if changed.empty:
        none = "No difference between groups could be judged: there are too few test images."
        blocks.append(Paragraph(none))
    else:
        blocks += [_means(between, changed, focus), *_changes(changed)]
    if left_out := _left_out(audit, focus):
        blocks.append(how(f"Not estimable for lack of images: {left_out}."))
    groups = composition.pivot_table(
        index="group", columns="set", values="share", sort=False, dropna=False
    )
    sets = t.matrix(groups[list(dict.fromkeys(composition["set"]))], "Group", colours, t.percent)
    return Section("Fairness audit", [*blocks, Details("Groups in the training sets", [sets])])


def _means(between: pd.DataFrame, changed: pd.DataFrame, focus: str) -> Table:
    """Means over the attributes for which the change can be told."""
    keys = ["grouping", "metric", "named"]
    own = between[between["baseline"] == ""].merge(changed[[*keys, "attribute"]])
    own["arm"] = own["arm"].eq(focus).map({True: "after", False: "before"})
    means = own.pivot_table(index=keys, columns="arm", values="value", dropna=False)
    means = means.join(changed.groupby(keys).size().rename("n"), how="right").reset_index()
    means["change"] = means["after"] - means["before"]
    means["place"] = means["metric"].map(list(BETWEEN).index)
    means["ways"] = means["grouping"].str.count(" x ")
    columns: t.Columns = {
        "Groups by": ("grouping", str),
        "Mean over attributes of": ("named", str),
        "Before": ("before", t.number),
        "After": ("after", t.number),
        "Change": ("change", t.signed),
        "Attributes": ("n", t.whole),
    }
    return t.tabulate(means.sort_values(["ways", "grouping", "place"]), columns)


def _changes(changed: pd.DataFrame) -> list[Block]:
    """The largest of the changes that are certain, or of all if none is."""
    certain = changed[changed["p_holm"] < LEVEL]
    shown = changed if certain.empty else certain
    largest = shown["value"].abs().sort_values(ascending=False).index[:_SHOWN]
    text = f"{len(certain)} of {len(changed)} changes are certain after Holm’s adjustment over "
    if certain.empty:
        text = f"None of {len(changed)} changes is certain after Holm’s adjustment over "
    text += "attributes" + ("; the largest:" if len(largest) < len(shown) else ":")
    columns: t.Columns = {
        "Attribute": ("attribute", str),
        "Groups by": ("grouping", str),
        "Difference": ("named", str),
        "Change": t.difference,
    }
    return [
        Paragraph(text),
        t.tabulate(shown.loc[largest].rename(columns={"value": "difference"}), columns),
    ]


def _left_out(audit: pd.DataFrame, focus: str) -> str:
    """Groups too small for an equalised odds difference, by how many attributes."""
    rows = audit[
        (audit["arm"] == focus)
        & audit["baseline"].eq("")
        & audit["metric"].eq("equalized_odds_difference")
    ]
    groups = rows["left_out"].replace("", pd.NA).dropna().str.split("; ").explode()
    return ", ".join(
        f"{group} ({number} attribute{'s' if number != 1 else ''})"
        for group, number in groups.value_counts().items()
    )
