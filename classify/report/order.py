"""The page's order of attributes."""

from __future__ import annotations

import pandas as pd

__all__ = ["ordered"]


def ordered(frame: pd.DataFrame, shares: pd.Series[float] | None) -> pd.DataFrame:
    """The rows, indexed by attribute, rarest first as in `shares`; unknown ones last."""
    if shares is None:
        return frame
    known = [name for name in shares.index if name in frame.index]
    return frame.loc[known + [name for name in frame.index if name not in shares.index]]
