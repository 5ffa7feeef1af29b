"""Writing that leaves either the whole file or none, and never another's."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["refuse_existing", "write_text"]


def refuse_existing(path: Path) -> None:
    """Raise a ValueError if there is such a file."""
    if path.exists():
        raise ValueError(f"{path} exists and is not overwritten; choose another --out")


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 under a temporary name in the same folder, made if absent, then rename.

    Raises:
        ValueError: the file exists.
    """
    refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    scratch.write_text(content, encoding="utf-8")
    os.replace(scratch, path)
