"""Whether a study's real images suit its attributes, its labelers, its quota and its generator."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from augment import Denoiser, Quota
from augment.selection import parse_wish
from classify import check_learnable
from classify.datasets import read_image
from classify.names import one_of

__all__ = ["check_attributes", "check_format", "check_quota", "check_table"]


def check_table(table: pd.DataFrame, attributes: Sequence[str], known: Sequence[str]) -> None:
    """Refuse what the study would refuse after hours of generation.

    Args:
        table: the real rows.
        attributes: what is learned.
        known: what the labelers know; empty if that is not known yet.
    """
    if (synthetic := table["source"] != "real").any():
        raise ValueError(
            f"the data hold {synthetic.sum()} synthetic rows, the first "
            f"{table.loc[synthetic, 'file_name'].iloc[0]}; give the real rows alone"
        )
    if missing := [split for split in ("train", "val", "test") if split not in set(table["split"])]:
        raise ValueError(
            f"the data have no {' and no '.join(missing)} rows; give rows of train, val and test"
        )
    if not attributes:
        raise ValueError("the data have no attribute with a label; add a column of 1 and 0")
    check_learnable(table, attributes)
    if not (table.loc[table["split"] == "test", list(attributes)].nunique() > 1).any():
        raise ValueError(
            f"no attribute ({', '.join(attributes)}) has both 1 and 0 in the test rows, so no "
            "score could be told; add test images of either value"
        )
    if known and not set(known) & set(attributes):
        raise ValueError(
            f"the labeler knows none of the data's attributes ({', '.join(attributes)}); "
            "rename the columns, or give --labeler train"
        )


def check_attributes(asked: Sequence[str] | None, known: Sequence[str]) -> None:
    """Refuse attributes that a data set of known ones has not."""
    if unknown := [name for name in asked or () if name not in known]:
        raise ValueError(f"attributes name {unknown[0]}; {one_of(unknown[0], known)}")


def check_quota(quota: Quota, n_real: int, labelled: Sequence[str]) -> None:
    """Refuse a quota that no synthetic image can serve.

    Args:
        quota: what is wanted.
        n_real: real train images.
        labelled: the attributes that synthetic images get a label of.
    """
    for wish in quota.wanted:
        if unknown := [name for name in parse_wish(wish) if name not in labelled]:
            raise ValueError(
                f"quota.wanted has {wish!r}, but generated images get no label of {unknown[0]}; "
                f"{one_of(unknown[0], labelled)}, which they get"
            )
    if quota.limit(n_real) == 0:
        raise ValueError(
            f"quota.ratio {quota.ratio} allows not one image beside {n_real} real train images; "
            f"give at least 1/{n_real}"
        )


def check_format(table: pd.DataFrame, denoiser: Denoiser, source: str) -> None:
    """Refuse a generator whose images could be told from the real ones by channels or sharpness."""
    path = str(table["path"].iloc[0])
    try:
        image = read_image(path)
    except (OSError, ValueError):
        return  # reported with all others when they are decoded
    channels, size = len(image.getbands()), min(image.size)
    if channels != denoiser.image.channels:
        kinds = {1: "grey", 3: "colour"}
        raise ValueError(
            f"generator {source} makes {kinds[denoiser.image.channels]} images, the real ones are "
            f"{kinds[channels]} ({path}); give a generator trained on such images, or convert them"
        )
    if size < denoiser.image.size:
        raise ValueError(
            f"generator {source} makes images of {denoiser.image.size} px, the real ones have "
            f"{size} px ({path}); give a generator of at most {size} px"
        )
