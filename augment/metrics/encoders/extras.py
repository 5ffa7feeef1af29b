"""Libraries that only some encoders need."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["require"]


def require(module: str, *, needed_by: str, extra: str) -> Any:
    """Import a module that comes with an extra of this package.

    Raises:
        ValueError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{module.partition('.')[0]} is not installed; {needed_by} need it; "
            f"pip install 'minority-augment[{extra}]'"
        ) from error
