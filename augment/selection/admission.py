"""Admission: which generated images may train a classifier, and why the others may not.

The verdict is a column of the table; the files stay where they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import poisson
from torch import Tensor

from augment.metrics import precision_mask
from augment.selection.near_copies import Calibration, Signatures, nearest

ADMISSION = "admission"
"""The column of the verdict: `kept`, or the first of the reasons below that holds."""
KEPT = "kept"
UNREADABLE = "unreadable"
BLANK = "blank"
LEAKS = ("copy of test", "copy of val")
"""The generator knows images that it is judged on."""
MEMORISED = "copy of train"
OFF_MANIFOLD = "off manifold"
_VERDICTS = [KEPT, UNREADABLE, BLANK, *LEAKS, MEMORISED, OFF_MANIFOLD]

_SHOWS_NOTHING = 4.0
"""Grey levels of 255; an image whose pixels deviate less, in every channel, shows nothing."""

_BY_CHANCE = 0.01
"""Probability from which on a number of near copies is put down to chance."""

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RealImages:
    """Real images of one split to compare with."""

    signatures: Signatures
    """Of M images."""
    names: pd.Series
    """What each is called (M,), for the table: its `file_name`."""


def admit(
    table: pd.DataFrame,
    pixels: Tensor,
    real: Mapping[Split, RealImages],
    calibration: Calibration,
    *,
    readable: NDArray[np.bool_] | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:
    """Judge every generated image.

    Args:
        table: one row per image (N).
        pixels: uint8 (N, C, H, W), what stands in the files.
        real: the real images by split; the splits that are not given are not compared with.
        calibration: of `calibrate` on the real train images.
        readable: bool (N,), False for a file that does not decode; its pixels are not looked at.
        inside: bool (N,) of `in_manifold`; left out, that is not judged.

    Returns:
        A copy of the table with `admission`, and for a copy of a real image `copied`, the
        image's name, and `copied_distance`, in [0, 2] (empty elsewhere). A copy of test or val is
        called so whatever else it copies.

    Raises:
        ValueError: arrays of another length than the table, or images that cannot be compared.
    """
    for what, given in (("pixels", pixels), ("readable", readable), ("inside", inside)):
        if given is not None and len(given) != len(table):
            raise ValueError(
                f"{what} has {len(given)} entries for {len(table)} rows; give one per row"
            )
    verdict = np.full(len(table), KEPT, dtype=object)
    copied = np.full(len(table), pd.NA, dtype=object)
    distance = np.full(len(table), np.nan)
    if readable is not None:
        verdict[~readable] = UNREADABLE
    verdict[(verdict == KEPT) & _is_blank(pixels)] = BLANK
    for split in ("test", "val", "train"):
        if split in real:
            unjudged = np.flatnonzero(verdict == KEPT)
            near, at = nearest(
                pixels[unjudged], real[split].signatures, within=calibration.threshold
            )
            hits = (near < calibration.threshold).numpy()
            copies = unjudged[hits]
            verdict[copies] = f"copy of {split}"
            copied[copies] = real[split].names.to_numpy()[at.numpy()[hits]]
            distance[copies] = near.numpy()[hits]
    if inside is not None:
        verdict[(verdict == KEPT) & ~inside] = OFF_MANIFOLD
    words = {
        name: pd.Series(values, index=table.index, dtype="object")
        for name, values in ((ADMISSION, verdict), ("copied", copied))
    }
    return table.assign(**words, copied_distance=distance)


def admitted(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that were kept; all of them in a table that was not judged."""
    return table[table[ADMISSION] == KEPT] if ADMISSION in table else table


def refuse_leaks(table: pd.DataFrame, calibration: Calibration, held_out: int) -> None:
    """Raise ValueError at copies of real val or test images, on which no score may rest.

    A generator that never saw these images comes near one now and then, the more often the fewer
    and the plainer they are. So its images are copies if one is so without doubt, or if so many are
    that chance would give them once in a hundred times (Poisson).

    Args:
        table: of `admit`.
        calibration: that it was judged by.
        held_out: how many val and test images there are.
    """
    leaks = table[table[ADMISSION].isin(LEAKS)].sort_values("copied_distance")
    expected = len(table) * held_out * calibration.chance
    is_chance = poisson.sf(len(leaks) - 1, expected) >= _BY_CHANCE
    if leaks.empty or (is_chance and leaks["copied_distance"].iloc[0] > calibration.certain):
        return
    row = leaks.iloc[0]
    raise ValueError(
        f"{len(leaks)} generated images copy real val or test images, most closely "
        f"{row['file_name']} ({row[ADMISSION]} image {row['copied']}, distance "
        f"{row['copied_distance']:.3f}): the generator has seen what it is judged on; use one "
        "trained on the train rows alone, or go on without these images by --allow_leak"
    )


def keep_rates(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How many images of each arm's judged table were kept, and why the others were not.

    Returns:
        Columns `arm, admission, images, share` (of the arm's images), every verdict that occurs in
        an arm, `kept` always and first.
    """
    rows = []
    for arm, table in tables.items():
        counts = table[ADMISSION].value_counts().reindex(_VERDICTS, fill_value=0)
        rows += [
            (arm, reason, int(count), count / max(len(table), 1))
            for reason, count in counts.items()
            if count or reason == KEPT
        ]
    return pd.DataFrame(rows, columns=["arm", ADMISSION, "images", "share"])


def in_manifold(
    features: NDArray[np.floating], real: NDArray[np.floating], *, k: int = 5
) -> NDArray[np.bool_]:
    """Which images lie where real ones do: the precision of Kynkäänniemi et al. (2019), image-wise.

    A real image's ball reaches to its k-th nearest other real image; an image is in if it lies
    strictly inside any ball.

    Args:
        features: float (N, D) of the images; a row that is not finite is out.
        real: float (M, D) of the real train images, M > k.
        k: neighbours of the radius.

    Returns:
        bool (N,).
    """
    if features.ndim != 2 or real.ndim != 2 or features.shape[1] != real.shape[1]:
        raise ValueError(
            f"features are {features.shape} and {real.shape}; give (N, D) and (M, D) of one network"
        )
    if not 1 <= k < len(real):
        raise ValueError(f"k is {k} with {len(real)} real images; give 1 to {len(real) - 1}")
    inside = np.zeros(len(features), dtype=bool)
    finite = np.isfinite(features).all(axis=1)
    if finite.any():
        inside[finite] = precision_mask(features[finite], real, k=k)
    return inside


def _is_blank(pixels: Tensor) -> NDArray[np.bool_]:
    """Which of uint8 (N, C, H, W) images show next to nothing in every channel, bool (N,)."""
    spread = [
        part.float().flatten(2).std(dim=2, correction=0).amax(dim=1)
        for part in torch.split(pixels, 128)
    ]
    blank: NDArray[np.bool_] = (torch.cat(spread) < _SHOWS_NOTHING).numpy()
    return blank
