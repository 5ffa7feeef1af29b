"""Libraries that only some labelers need."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["require"]


def require(module: str, *, extra: str) -> ModuleType:
    """Import a module that comes with an extra of this package.

    Raises:
        ValueError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{module} cannot be imported ({error}); this needs the extra {extra!r}; "
            f"install it with: pip install '.[{extra}]'"
        ) from error
