"""The one look of a progress bar."""

from __future__ import annotations

from functools import partial

from tqdm import tqdm

__all__ = ["progress"]

progress = partial(tqdm, delay=2, leave=False, disable=None)
"""tqdm's bar of what takes longer than two seconds, on a terminal alone and while it lasts."""
