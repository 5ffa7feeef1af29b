"""The one look of a progress bar, and how parts of a work are told by name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from tqdm import tqdm

__all__ = ["Doing", "progress", "silently"]

progress = partial(tqdm, delay=2, leave=False, disable=None)
"""tqdm's bar of what takes longer than two seconds, on a terminal alone and while it lasts."""

Doing = Callable[[str], AbstractContextManager[None]]
"""Put around a part of the work with its name, by whoever tells or measures it."""


def silently(what: str) -> AbstractContextManager[None]:
    """Of a work that nobody follows."""
    return nullcontext()
