"""Writing that leaves either the whole file or none."""

from __future__ import annotations

import os
from pathlib import Path


def write_bytes(file: Path, content: bytes) -> None:
    """Write under a temporary name in the same folder, then rename."""
    scratch = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    scratch.write_bytes(content)
    os.replace(scratch, file)


def write_text(file: Path, content: str) -> None:
    """`write_bytes` of UTF-8."""
    write_bytes(file, content.encode())
