"""What was added: samples of the synthetic sets, how rare they are, what was kept and why."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from PIL import Image, ImageOps

from classify.datasets.images import read_image
from classify.metrics import RARE
from classify.report import tables as t
from classify.report.figures import dot_plot
from classify.report.page import Block, Cell, Details, Figure, Section, Sheet, Sheets, heading, how
from classify.report.tables import Colours

__all__ = [
    "admission_section",
    "contact_sheet",
    "rarity_section",
    "realism_section",
    "samples_section",
    "targets_section",
]

_COLUMNS, _GAP, _LARGEST = 8, 2, 96  # of a sheet: images, pixels between them, side of an image

Files = Mapping[str, Sequence[str | Path]]
"""Name of a set, or reason of a rejection -> image files."""


def samples_section(samples: Files, rarest: Files, colours: Colours) -> Section | None:
    """The first images of every set, and its rarest ones.

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


def rarity_section(
    prevalence: pd.DataFrame, rarity: pd.DataFrame | None, colours: Colours
) -> Section | None:
    """Whether the sets hold more of what is rare.

    Args:
        prevalence: share of positives in [0, 1]: index attribute, one column per set, `real` (the
            real train split) among them.
        rarity: mean log-probability (nats) under the known distribution: index set, columns
            `mean_log_probability, n`; None where it is not known.
        colours: of the sets.
    """
    t.check_columns("prevalence", prevalence, "real")
    rare = prevalence[prevalence["real"] < RARE].sort_values("real", kind="stable")
    blocks: list[Block] = []
    if len(rare):
        text = (
            f"Share of images with each attribute that is below {100 * RARE:g} % in the real train "
            "split. A set drawn towards minorities should lie to the right of an ordinary one. In "
            "synthetic sets the labeler’s labels are counted, its errors on rare attributes "
            "included."
        )
        plot = dot_plot(rare, colours, label="share of positives", percent=True)
        names = ", ".join(map(str, rare))
        label = f"Dot plot of the share of rare attributes in {names}; numbers in the table"
        numbers = t.matrix(rare, "Attribute", colours, t.percent)
        blocks = [how(text), Figure(plot, label), Details("The numbers", [numbers])]
    if rarity is not None:
        text = (
            "Mean over the attribute vectors under the known distribution, in nats; lower is "
            "rarer. A wrong label also makes a vector look rare."
        )
        columns: t.Columns = {
            "Set": ("set", str),
            "Mean log-probability": ("mean_log_probability", lambda value: t.number(value, 2)),
            "Images": ("n", t.whole),
        }
        table = t.tabulate(rarity.rename_axis("set").reset_index(), columns)
        blocks += [heading("Mean log-probability"), how(text), table]
    return Section("How rare the sets are", blocks) if blocks else None


def targets_section(hits: pd.DataFrame, colours: Colours) -> Section | None:
    """Whether steered images have what they were asked for.

    Args:
        hits: columns `arm` (the set), `labeler, attribute, value, asked` (images), `hit` and
            `unasked` (share with the value of the images asked for it, and of the others).
        colours: of the sets.
    """
    t.check_columns("hits", hits, "arm labeler attribute value asked hit unasked")
    if hits.empty:
        return None
    text = (
        "Each image of these sets was asked for attributes, and steered to them. How many have "
        "what was asked, by the word of the labeler, which marks its own homework where it steered "
        "too, and, where the run has a judge, of one that had no part in it; beside it, how many "
        "have it that were not asked. Means over what was asked, weighed by images."
    )
    of_set: t.Columns = {"Set": t.key("arm", colours)}
    overall: t.Columns = {
        "By": ("labeler", str), "Asked": ("hit", t.percent), "Not asked": ("unasked", t.percent)
    }  # fmt: skip
    one: t.Columns = {
        "Asked for": ("wish", str), "Images": ("asked", t.whole),
        **{by: (by, t.percent) for by in hits["labeler"].unique()},
    }  # fmt: skip
    blocks: list[Block] = [
        how(text),
        t.tabulate(_weighed(hits), {**of_set, **overall}),
        Details("By attribute", [t.tabulate(_by_wish(hits), {**of_set, **one})]),
    ]
    return Section("What steered images were asked for", blocks)


def _weighed(hits: pd.DataFrame) -> pd.DataFrame:
    """`hit` and `unasked` by set and labeler, means over what was asked, weighed by images."""
    weighed = hits[["hit", "unasked"]].mul(hits["asked"], axis=0)
    groups = [hits["arm"], hits["labeler"]]
    sums = weighed.groupby(groups, sort=False).sum()
    return sums.div(hits["asked"].groupby(groups, sort=False).sum(), axis=0).reset_index()


def _by_wish(hits: pd.DataFrame) -> pd.DataFrame:
    """One row per set and wish, one column per labeler."""
    wish = hits["attribute"].str.cat(hits["value"].astype(str), sep=" = ")
    index = ["arm", "wish", "asked"]
    return hits.assign(wish=wish).pivot(index=index, columns="labeler", values="hit").reset_index()


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
    t.check_columns("admission", admission, "arm admission images share")
    t.check_columns("quotas", quotas, "arm wish wanted available got")
    if admission.empty:
        return None
    text = (
        "Which synthetic images were let into training. Copies of real images, by a threshold "
        "read off the real train images themselves, are kept out: a copy of a train image adds "
        "nothing, and a copy of a test image would make the scores a lie. Rejected files stay on "
        "disk."
    )
    of_set: t.Columns = {"Set": t.key("arm", colours)}
    columns: t.Columns = {
        "Verdict": ("admission", str), "Images": ("images", t.whole), "Share": ("share", t.percent)
    }  # fmt: skip
    blocks: list[Block] = [how(text), t.tabulate(admission, {**of_set, **columns})]
    if any(rejected.values()):
        blocks.append(_sheets(rejected, "rejected as", {}))
    wishes = quotas[quotas["wish"] != "all"]  # a quota without wish needs no table
    if len(wishes):
        text = (
            "How many images were wanted, how many of those generated would serve, and how many "
            "were taken. One image may serve several wishes."
        )
        columns = {"Wish": ("wish", str)}
        columns |= {name.title(): (name, t.whole) for name in ("wanted", "available", "got")}
        table = t.tabulate(wishes, {**of_set, **columns})
        blocks += [heading("Quotas"), how(text), table]
    return Section("Admission", blocks)


def realism_section(realism: pd.DataFrame, worst: Files, colours: Colours) -> Section | None:
    """Whether the admitted images are like the real ones, by what had no part in the run.

    Args:
        realism: one row per set and view: columns `arm` (the set), `verdict`, `outside` (share),
            `images`, `view`, `accuracy`, `frechet, precision` (over those of real halves).
        worst: the images of each set that lie the farthest from anything real.
        colours: of the sets.
    """
    needed = "arm verdict outside images view accuracy frechet precision"
    t.check_columns("realism", realism, needed)
    if realism.empty:
        return None
    text = (
        "A set is unlike the real train images if more than three quarters of it lie where nothing "
        "real lies, by measures that nothing in this run was fitted to. It is recognisably "
        "synthetic if a classifier tells its images from real ones, as it does for most "
        "generators, and for images that are rare by intention. Accuracy is of images held out, "
        ".5 being chance. "
        "Fréchet distance and precision are over those of two halves of the real images, 1 being "
        "as good as real; images that are rare have more of the first and less of the second."
    )
    of_set: t.Columns = {"Set": t.key("arm", colours)}
    columns: t.Columns = {
        "Verdict": ("verdict", str), "Outside": ("outside", t.percent),
        "Images": ("images", t.whole),
    }  # fmt: skip
    by_view: t.Columns = {
        "By": ("view", str), "Accuracy": ("accuracy", t.number), "Fréchet": ("frechet", t.number),
        "Precision": ("precision", t.number),
    }  # fmt: skip
    blocks: list[Block] = [
        how(text),
        t.tabulate(realism.drop_duplicates("arm"), {**of_set, **columns}),
        Details("By view", [t.tabulate(realism, {**of_set, **by_view})]),
    ]
    if any(worst.values()):
        blocks += [
            heading("The farthest from real"),
            _sheets(worst, "farthest of the set", colours),
        ]
    return Section("Like the real ones?", blocks)


def _sheets(files: Files, what: str, colours: Colours) -> Sheets:
    """A sheet of each name that has images."""
    return Sheets(
        [
            contact_sheet(paths, Cell(name, colour=colours.get(name)), f"{what} {name}")
            for name, paths in files.items()
            if paths
        ]
    )


def contact_sheet(
    paths: Sequence[str | Path], caption: Cell, what: str, *, limit: int = 64
) -> Sheet:
    """Many small images as one: the first `limit` of at least one file, in rows of 8, each a square
    of the first one's size but at most 96 pixels. `what` says what they are to who cannot see them.

    Raises:
        FileNotFoundError, ValueError: an image is missing or does not decode.
    """
    images = [read_image(path).convert("RGB") for path in paths[:limit]]
    side = min(max(images[0].size), _LARGEST)
    columns = min(_COLUMNS, len(images))
    step, rows = side + _GAP, -(-len(images) // columns)
    sheet = Image.new("RGBA", (columns * step - _GAP, rows * step - _GAP))  # transparent gaps
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        sheet.paste(ImageOps.pad(image, (side, side)), (column * step, row * step))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Sheet(uri, *sheet.size, f"Grid of {len(images)} images: {what}", caption)
