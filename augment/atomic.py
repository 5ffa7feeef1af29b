"""Writing that leaves either the whole file or none."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_bytes"]


def write_bytes(path: Path, content: bytes) -> None:
    """Write under a temporary name in the same folder, then rename.

    The name is the same every time, so that a run that goes on clears away what a killed one left.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
