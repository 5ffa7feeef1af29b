"""How diverse the images of each target are, beside the real images that have it.

Guidance by a head that was fitted to a handful of positives also steers what these happen to share,
such as the colour of the background: the wish is met, and the images of a target are one another's
like. The spread of a set is the root of its images' mean squared distance from their mean; here it
is given over that of the real images of the target, so that 1 is as diverse as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Seen", "diversity", "spread"]

_LEAST = 4
"""Images of a target, real and generated, whose spread says anything."""
_COLUMNS = ("set", "attribute", "value", "images", "real", "features", "colours", "layout")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A set with what is measured of its N images."""

    table: pd.DataFrame
    """One row per image, with its attributes if it is real, or columns `target_<attribute>`."""
    features: Tensor
    """Features of an encoder, floating (N, D)."""
    few_pixels: Tensor
    """RGB, floating (N, 3 P): a few pixels of every channel in turn."""

    def views(self) -> dict[str, Tensor]:
        """Features, mean colours, and how light and dark lie about their mean, each (N, ...)."""
        pixels = self.few_pixels.reshape(len(self.table), 3, -1)
        grey = pixels.mean(dim=1)
        layout = grey - grey.mean(dim=1, keepdim=True)
        return {"features": self.features, "colours": pixels.mean(dim=2), "layout": layout}


def diversity(real: Seen, sets: Mapping[str, Seen]) -> pd.DataFrame:
    """The spread of the images of each target over that of the real images which have it.

    Args:
        real: the real images, their table with columns of 1, 0 or empty.
        sets: name -> generated images.

    Returns:
        One row per set, attribute and value asked for of at least four images, where as many real
        ones have it: `set, attribute, value, images, real`, and the ratio for `features`, `colours`
        and `layout`, NaN where the real images are all alike.
    """
    rows = []
    for (name, made), value in product(sets.items(), (1, 0)):
        for attribute in _asked(made.table, real.table):
            asked = _where(made.table[f"target_{attribute}"], value)
            having = _where(real.table[attribute], value)
            if min(len(asked), len(having)) >= _LEAST:
                ratios = _ratios(made, asked, real, having)
                rows.append((name, attribute, value, len(asked), len(having), *ratios))
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def spread(features: Tensor) -> float:
    """Root of the trace of the covariance, unbiased.

    Args:
        features: (N, D), N >= 2.
    """
    return float(features.double().var(dim=0).sum().sqrt())


def _asked(made: pd.DataFrame, real: pd.DataFrame) -> list[str]:
    """Attributes that images were asked for and that real images are known to have or not."""
    return [name for name in map(str, real) if f"target_{name}" in made]


def _where(column: pd.Series[Any], value: int) -> NDArray[np.intp]:
    return np.flatnonzero((column == value).to_numpy(bool, na_value=False))


def _ratios(
    made: Seen, asked: NDArray[np.intp], real: Seen, having: NDArray[np.intp]
) -> list[float]:
    pairs = zip(made.views().values(), real.views().values(), strict=True)
    return [spread(x[asked]) / (spread(y[having]) or np.nan) for x, y in pairs]
