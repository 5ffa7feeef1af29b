"""Whether a study's real images suit its attributes, its labelers, its quota and its generator, and
whether the disk has room for what it makes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import pandas as pd
import torch

from augment import Denoiser, Quota
from augment.selection import parse_wish
from classify import check_learnable
from classify.datasets import read_image
from classify.names import one_of
from recipes.chain.settings import RunConfig

__all__ = [
    "check_attributes",
    "check_format",
    "check_quota",
    "check_room",
    "check_table",
    "disk_bytes",
]


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


def disk_bytes(config: RunConfig, n_real: int, denoiser: Denoiser) -> int:
    """About what a run writes: the PNG files of its sets, and the decoded copy of all images.

    A small PNG and its row take 1.2 bytes for each byte of its pixels, as measured on the embedded
    generator's.
    """
    synthetic = sum(made.count or 0 for made in config.synthetic_sets.values())
    side = config.image_size or denoiser.image.size
    files = synthetic * torch.Size(denoiser.image.shape).numel() * 6 // 5
    return files + (n_real + synthetic) * 3 * side**2


def check_room(config: RunConfig, n_real: int, denoiser: Denoiser) -> None:
    """Refuse a run that the disk has no room for, before it begins; one that stands there already
    has taken a part of its room.
    """
    if (config.out / "config.yaml").exists():
        return
    nearest = next(p for p in (config.out, *config.out.absolute().parents) if p.exists())
    wanted, free = disk_bytes(config, n_real, denoiser), shutil.disk_usage(nearest).free
    if wanted > free:
        raise ValueError(
            f"the run takes about {wanted // 10**6:,} MB of disk, and {nearest} has "
            f"{free // 10**6:,} MB free; ask for fewer or smaller images, or give an --out with "
            "more room"
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
