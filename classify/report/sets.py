"""What was added: samples of the synthetic sets, how rare they are, what was kept and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from classify.comparison import RARE
from classify.report.blocks import Block, Cell, Details, Figure, Section, Sheets, heading, how
from classify.report.figures import dot_plot
from classify.report.sheet import contact_sheet
from classify.report.tables import (
    Colours,
    check_columns,
    count,
    figure,
    key,
    matrix,
    percent,
    share,
    tabulate,
    word,
)

__all__ = ["admission_section", "rarity_section", "samples_section"]

Files = Mapping[str, Sequence[str | Path]]


def samples_section(samples: Files, rarest: Files, colours: Colours) -> Section | None:
    """Images of every set.

    Args:
        samples: set -> image files; the first 64 are shown.
        rarest: set -> files of its rarest images, rarest first.
        colours: of the sets.

    Raises:
        FileNotFoundError, ValueError: an image is missing or does not decode.
    """
    if not any(samples.values()):
        return None
    text = (
        "These are the first images of each set that train, not chosen by eye. Look for images "
        "that are broken, repeated or unlike the real ones; a few dozen images say little about "
        "how often something occurs."
    )
    blocks: list[Block] = [how(text), _sheets(samples, "samples of the set", colours)]
    if any(rarest.values()):
        text = (
            "These are the images whose labels together are the least likely, were the attributes "
            "independent and as frequent as in the real train split. Wrong labels look rare too: "
            "check whether the images show what they are called."
        )
        shown = _sheets(rarest, "the rarest of the set", colours)
        blocks += [heading("The rarest"), how(text), shown]
    return Section("Samples", blocks)


def _sheets(files: Files, what: str, colours: Colours) -> Sheets:
    """A sheet of each name that has images."""
    return Sheets(
        [
            contact_sheet(paths, Cell(name, colour=colours.get(name)), f"{what} {name}")
            for name, paths in files.items()
            if paths
        ]
    )


def rarity_section(
    prevalence: pd.DataFrame, rarity: pd.DataFrame | None, colours: Colours
) -> Section | None:
    """Whether the sets hold more of what is rare.

    Args:
        prevalence: share of positives in [0, 1]: index attribute, a column a set, `real` (the real
            train split) among them.
        rarity: mean log-probability (nats) under the known distribution: index set, columns
            `mean_log_probability, n`; None where it is not known.
        colours: of the sets.
    """
    check_columns("prevalence", prevalence, "real")
    rare = prevalence[prevalence["real"] < RARE].sort_values("real", kind="stable")
    blocks = [] if rare.empty else _frequencies(rare, colours)
    if rarity is not None:
        blocks += _log_probabilities(rarity)
    return Section("How rare the sets are", blocks) if blocks else None


def _frequencies(rare: pd.DataFrame, colours: Colours) -> list[Block]:
    text = (
        f"Share of images with each attribute that is below {100 * RARE:g} % in the real train "
        "split. A set drawn towards minorities should lie to the right of an ordinary one. In "
        "synthetic sets the share is counted from the labeler’s labels, with its errors on rare "
        "attributes in it."
    )
    names = ", ".join(map(str, rare))
    label = f"Dot plot of the share of rare attributes in {names}; numbers in the table"
    plot = dot_plot(rare, colours, label="share of positives", percent=True)
    numbers = matrix(rare, "Attribute", colours, percent)
    return [how(text), Figure(plot, label), Details("The numbers", [numbers])]


def _log_probabilities(rarity: pd.DataFrame) -> list[Block]:
    text = (
        "Mean over the attribute vectors under the known distribution, in nats; lower is rarer. A "
        "wrong label also makes a vector look rare."
    )
    columns = {
        "Set": word("set"),
        "Mean log-probability": figure("mean_log_probability", 2),
        "Images": count("n"),
    }
    table = tabulate(rarity.rename_axis("set").reset_index(), columns)
    return [heading("Mean log-probability"), how(text), table]


def admission_section(
    admission: pd.DataFrame, rejected: Files, quotas: pd.DataFrame, colours: Colours
) -> Section | None:
    """How many images were kept, why the others were not, and what the quota took.

    Args:
        admission: columns `arm` (the set), `admission, images, share`.
        rejected: reason -> image files.
        quotas: columns `arm` (the set), `wish, wanted, available, got`.
        colours: of the sets.
    """
    check_columns("admission", admission, "arm", "admission", "images", "share")
    check_columns("quotas", quotas, "arm", "wish", "wanted", "available", "got")
    if admission.empty:
        return None
    text = (
        "Which synthetic images were let into training. Copies of real images, by a threshold "
        "read off the real train images themselves, are kept out: a copy of a train image adds "
        "nothing, and a copy of a test image would make the scores a lie. Rejected files stay on "
        "disk."
    )
    columns = {
        "Set": key("arm", colours),
        "Verdict": word("admission"),
        "Images": count("images"),
        "Share": share("share"),
    }
    blocks: list[Block] = [how(text), tabulate(admission, columns)]
    if any(rejected.values()):
        blocks.append(_sheets(rejected, "rejected as", {}))
    wishes = quotas[quotas["wish"] != "all"]  # a quota without wish needs no table
    if len(wishes):
        text = (
            "How many images were wanted, how many of those generated would serve, and how many "
            "were taken. One image may serve several wishes."
        )
        counts = {name.title(): count(name) for name in ("wanted", "available", "got")}
        columns = {"Set": key("arm", colours), "Wish": word("wish"), **counts}
        blocks += [heading("Quotas"), how(text), tabulate(wishes, columns)]
    return Section("Admission", blocks)
