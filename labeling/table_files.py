"""Tables on disk, as far as labelling needs them: `metadata.csv` beside its images."""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePath

import pandas as pd

from labeling.files import refuse_existing, write_text

__all__ = ["FILE", "read_table", "write_table"]

FILE = "metadata.csv"


def read_table(source: Path) -> pd.DataFrame:
    """Read a table.

    Args:
        source: a folder with `metadata.csv`, or such a file.

    Returns:
        Its columns, `source` filled in as real where there is none, and `path`, absolute.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: it has no rows, no `file_name` or `split`, or a file name that leads out.
    """
    file = source / FILE if source.is_dir() else source
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing; give a folder of images with {FILE} (file_name, split)"
        )
    try:  # only an empty cell is empty: a file may well be called "NA"
        table = pd.read_csv(file, dtype={"file_name": str}, keep_default_na=False, na_values=[""])
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{file} is not a CSV table ({reason}); write it again") from error
    if missing := [name for name in ("file_name", "split") if name not in table.columns]:
        raise ValueError(f"{file} has no column {' and no '.join(missing)}; add it")
    if table.empty:
        raise ValueError(f"{file} has no rows; one row an image is needed")
    outside = [str(name) for name in table["file_name"] if _leads_out(str(name))]
    if outside:
        raise ValueError(
            f"{file} has file_name {outside[0]!r}, which leads out of the folder; use paths "
            "relative to it"
        )
    if "source" not in table.columns:
        table["source"] = "real"
    root = file.absolute().parent
    table["path"] = [str(root / name) for name in table["file_name"]]
    return table


def write_table(table: pd.DataFrame, folder: Path) -> None:
    """Write `folder/metadata.csv`, and the images beside it under their names.

    An image is a hard link where the file system can, so it takes no room, and a copy elsewhere.
    The table comes last: where it stands everything stands.

    Raises:
        ValueError: the folder has a table already.
    """
    refuse_existing(folder / FILE)
    for name, path in zip(table["file_name"], table["path"], strict=True):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            _place(path, target)
    write_text(folder / FILE, table.drop(columns="path").to_csv(index=False))


def _place(path: str, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:
        scratch = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        shutil.copyfile(path, scratch)
        os.replace(scratch, target)


def _leads_out(name: str) -> bool:
    path = PurePath(name)
    return path.is_absolute() or ".." in path.parts
