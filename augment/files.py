"""Writing: a file appears whole or not at all, and a folder belongs to one run; and why a library
could not read one.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["claim", "one_line", "read_record", "write_bytes"]


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a name of this call's own, in the same folder, then rename it.

    Whoever reads the path meets what stood there before or the whole new content, whatever else
    writes to it at the same time.

    Raises:
        OSError: it cannot be written; nothing is left behind then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def claim(path: Path, record: Mapping[str, Any], *, results: Iterable[str] = ()) -> dict[str, Any]:
    """Record what a folder is to hold, or check that it holds just that.

    Args:
        path: the JSON file of the record; its folder is made if absent.
        record: what makes the results what they are; what is not of JSON's types is recorded as
            its `str`.
        results: names of files which, found in the folder without a record, are someone else's.

    Returns:
        The record as JSON gives it back: a tuple is a list.

    Raises:
        ValueError: the folder is a file or lies below one, its record differs, is damaged, or is
            missing where results stand.
    """
    wanted: dict[str, Any] = json.loads(json.dumps(record, default=str))
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{folder} is a file or lies below one; give a folder") from error
    if not path.is_file():
        if stranger := next((name for name in results if (folder / name).exists()), None):
            raise ValueError(
                f"{folder} holds {stranger} but no {path.name}, so it was made elsewhere; "
                "give another folder"
            )
        write_bytes(path, (json.dumps(wanted, indent=2) + "\n").encode())
    found = read_record(path)
    for key in sorted(wanted.keys() | found.keys()):
        if found.get(key) != wanted.get(key):
            raise ValueError(
                f"{folder} holds results of another run "
                f"({key} {found.get(key)}, now {wanted.get(key)}); give another folder"
            )
    return wanted


def read_record(path: Path) -> dict[str, Any]:
    """The record that `claim` wrote.

    Raises:
        FileNotFoundError: there is none.
        ValueError: what stands there is not one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give a folder that this project wrote")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or not a record; give another folder") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged or not a record; give another folder")
    return found


def one_line(error: Exception) -> str:
    """The reason that another library gave, short enough for a message."""
    return " ".join(str(error).split())[:200] or type(error).__name__
