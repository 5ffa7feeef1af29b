"""Writing that leaves either the whole file or none."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_bytes(file: Path, content: bytes) -> None:
    """Write under a temporary name in the same folder, then rename."""
    scratch = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    scratch.write_bytes(content)
    os.replace(scratch, file)


def write_text(file: Path, content: str) -> None:
    """`write_bytes` of UTF-8."""
    write_bytes(file, content.encode())


def claim(file: Path, record: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Write down what a folder is for, or compare with what stands there.

    Args:
        file: the record; its folder is made if absent.
        record: as JSON can hold it.

    Returns:
        The entries that differ: name -> there, wanted. None if the record was written.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(record, indent=1))
        return {}
    wanted = json.loads(json.dumps(record))
    there = json.loads(file.read_text(encoding="utf-8"))
    return differing(there, wanted)


def differing(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Name -> there, wanted, of the wanted entries that are not there so."""
    return {
        name: (there.get(name), wanted[name]) for name in wanted if there.get(name) != wanted[name]
    }
