"""Data sets that are drawn by code: a folder of images that is drawn once and then reused.

A record of the settings stands in it. What is there is either that very data set or refused.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["draw_once"]


def draw_once(
    root: Path,
    what: str,
    settings: Mapping[str, int | str],
    draw: Callable[[Path], None],
) -> None:
    """Have a drawn data set under `root`.

    Args:
        root: Its folder: absent, empty, or drawn here with the same settings.
        what: What is drawn, as messages say it; the record is the file `<what>.json`.
        settings: What the pictures follow from.
        draw: Makes the folder it is given and writes the data set into it. That folder is moved to
            `root` when it is complete.

    Raises:
        ValueError: `root` holds anything else.
    """
    record = root / f"{what}.json"
    if _is_complete(root, record, what, settings):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}-") as scratch:
        folder = Path(scratch) / what
        draw(folder)
        (folder / record.name).write_text(json.dumps(settings), encoding="utf-8")
        try:
            os.replace(folder, root)  # takes the place of an empty folder, refuses a filled one
        except OSError:
            if not _is_complete(root, record, what, settings):  # else another process drew the same
                raise


def _is_complete(root: Path, record: Path, what: str, settings: Mapping[str, int | str]) -> bool:
    """Whether `root` holds this very data set; an error if it holds anything else."""
    if not root.exists():
        return False
    if not root.is_dir():
        raise ValueError(f"{root} is a file; {what} go into a folder; give another path")
    if not any(root.iterdir()):
        return False
    if not record.is_file():
        raise ValueError(
            f"{root} holds other files; {what} go into an empty or absent folder; give another path"
        )
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{record} is damaged; it says which {what} stand there; delete that folder, or give "
            "another path"
        ) from error
    if found != settings:
        raise ValueError(
            f"{root} holds {what} with {found}; it may hold those with {settings}; give another "
            "path, or delete that folder"
        )
    return True
