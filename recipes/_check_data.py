"""Whether a run's real images suit its study, its labelers and its generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from PIL import Image

from augment import Denoiser, Quota
from augment.quota import parse_wish
from classify import check_learnable
from labeling import Predictor

__all__ = ["check_fit", "check_quota", "check_table"]


def check_table(
    table: pd.DataFrame, attributes: Sequence[str], labelers: Mapping[str, Predictor]
) -> None:
    """Refuse what the study would refuse after hours of generation."""
    if (synthetic := table["source"] != "real").any():
        raise ValueError(
            f"the data hold {synthetic.sum()} synthetic rows, the first "
            f"{table.loc[synthetic, 'file_name'].iloc[0]}; give the real rows alone"
        )
    if missing := [split for split in ("train", "val", "test") if split not in set(table["split"])]:
        raise ValueError(
            f"the data have no {' and no '.join(missing)} rows; train, val and test are needed"
        )
    if not attributes:
        raise ValueError("the data have no attribute with a label; add a column of 1 and 0")
    check_learnable(table, attributes)
    if not (table.loc[table["split"] == "test", list(attributes)].nunique() > 1).any():
        raise ValueError(
            f"no attribute ({', '.join(attributes)}) has both 1 and 0 in the test rows, so no "
            "score could be told; add test images of either value"
        )
    known = {name for labeler in labelers.values() for name in labeler.attributes}
    if labelers and not known & set(attributes):
        raise ValueError(
            f"the labeler knows none of the data's attributes ({', '.join(attributes)}); "
            "rename the columns, or give --labeler train"
        )


def check_quota(
    quota: Quota,
    table: pd.DataFrame,
    attributes: Sequence[str],
    labelers: Mapping[str, Predictor] | None,
) -> None:
    """Refuse a quota that no generated image can serve.

    Args:
        quota: what is wanted.
        table: the real rows.
        attributes: those learned.
        labelers: what labels the images; None if they know all attributes.
    """
    if labelers is not None:
        named = {name for labeler in labelers.values() for name in labeler.attributes}
        attributes = [name for name in attributes if name in named]
    for wish in quota.wanted:
        if unknown := [name for name in parse_wish(wish) if name not in attributes]:
            raise ValueError(
                f"quota.wanted has {wish!r}, but generated images get no label of {unknown[0]}; "
                f"they get {', '.join(attributes)}; correct the wish"
            )
    if quota.limit(n_real := int((table["split"] == "train").sum())) == 0:
        raise ValueError(
            f"quota.ratio {quota.ratio} allows not one image beside {n_real} real train images; "
            f"give at least 1/{n_real}"
        )


def check_fit(table: pd.DataFrame, denoiser: Denoiser, source: str) -> None:
    """Refuse a generator whose images could be told from the real ones by channels or sharpness."""
    path = next(iter(table["path"]))
    try:
        with Image.open(path) as image:
            channels, size = (1 if image.mode in ("1", "L", "LA") else 3), min(image.size)
    except OSError:
        return  # reported with all others when they are decoded
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
