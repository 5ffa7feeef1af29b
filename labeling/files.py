"""Files: JSON that is read, why another library could not read one, and writing that leaves either
the whole file or none, and never another's.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

__all__ = ["one_line", "read_json", "refuse_existing", "scratch_path", "write_text"]


def refuse_existing(path: Path) -> None:
    """Raise a ValueError if there is such a file, or a file where its folder would be."""
    if path.exists():
        raise ValueError(f"{path} exists and is not overwritten; give another path")
    if blocking := next((folder for folder in path.parents if folder.is_file()), None):
        raise ValueError(f"{path} cannot be written; {blocking} is a file; give another path")


def scratch_path(path: Path) -> Path:
    """A name beside a file that nobody else uses, with the same ending."""
    return path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 under a temporary name in the same folder, made if absent, then rename.

    Raises:
        ValueError: the file exists.
    """
    refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = scratch_path(path)
    try:
        scratch.write_text(content, encoding="utf-8")
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; ValueError if it is none."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # covers bad JSON and bad UTF-8
        raise ValueError(f"{path} is not JSON ({error}); write it again") from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ValueError(f"{path} holds a {kind}; it has to be a JSON object; write it again")
    return content


def one_line(error: Exception) -> str:
    """The reason that another library gave, short enough for a message."""
    return " ".join(str(error).split())[:200] or type(error).__name__
