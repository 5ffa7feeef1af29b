"""Sets of images to measure: folders, with or without a table, and tables themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from PIL import Image

from augment.image_files import read_rows

__all__ = ["ImageSet", "generated_sets", "real_set"]

_EXTENSIONS = frozenset(Image.registered_extensions())


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images under a name."""

    name: str
    """What the set is called, in tables and plots."""
    folder: Path
    """What the file names are relative to."""
    file_names: Sequence[str]
    """One an image."""

    @property
    def paths(self) -> list[Path]:
        """One an image."""
        return [self.folder / name for name in self.file_names]

    def named(self, name: str) -> ImageSet:
        """The same images under another name."""
        return replace(self, name=name)


def real_set(path: Path, split: str | None = "train") -> ImageSet:
    """The real images to measure against.

    Args:
        path: a folder of images, or a `metadata.csv`. In a table, rows of the source `synthetic`
            are left out.
        split: the rows to take of a table that has splits; None takes all. A folder without a table
            is taken whole.

    Raises:
        FileNotFoundError: no such folder or table, or a row's image is missing.
        ValueError: no image, or no table.
    """
    rows = _rows(path)
    if rows is None:
        return _folder(path)
    if "split" in rows and split is not None:
        rows = rows[rows["split"] == split]
    if "source" in rows:
        rows = rows[rows["source"] != "synthetic"]
    kind = "real rows" if split is None else f"real rows of the split {split}"
    return _table(path, rows, kind)


def generated_sets(paths: Sequence[Path], *, taken: str = "") -> list[ImageSet]:
    """The sets to be measured, with names distinct from one another and from the one taken.

    Of a table, the rows of the source `synthetic` are taken, and all if it has none.

    Raises:
        FileNotFoundError: no such folder or table, or a row's image is missing.
        ValueError: no image, no table, or a set given twice.
    """
    resolved = [path.expanduser().resolve() for path in paths]
    if twice := [path for path, count in Counter(resolved).items() if count > 1]:
        raise ValueError(f"{twice[0]} is given twice; allowed are distinct sets; give it once")
    sets = [_generated(path) for path in paths]
    names = Counter([taken, *(s.name for s in sets)])
    return [
        s if names[s.name] == 1 else s.named(_path_name(path, taken))
        for s, path in zip(sets, paths, strict=True)
    ]


def _path_name(path: Path, taken: str) -> str:
    """The path as given, or the whole of it where that is the name taken."""
    return str(path) if str(path) != taken else str(path.resolve())


def _generated(path: Path) -> ImageSet:
    rows = _rows(path)
    if rows is None:
        return _folder(path)
    synthetic = rows[rows["source"] == "synthetic"] if "source" in rows else rows[:0]
    return _table(path, synthetic if len(synthetic) else rows, "rows")


def _rows(path: Path) -> pd.DataFrame | None:
    """The rows of a table, or of the table in a folder; None for a folder without."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing; give a folder of images, or a metadata.csv among images"
        )
    table = path / "metadata.csv" if path.is_dir() else path
    return read_rows(table) if table.is_file() else None


def _table(path: Path, rows: pd.DataFrame, kind: str) -> ImageSet:
    folder = path if path.is_dir() else path.parent
    if rows.empty:
        raise ValueError(f"{path} has no {kind}; allowed is 1 or more; give another table or split")
    return ImageSet(
        name=_name(folder if path.name == "metadata.csv" else path),
        folder=folder,
        file_names=list(rows["file_name"]),
    )


def _folder(path: Path) -> ImageSet:
    names = sorted(
        str(file.relative_to(path))
        for file in path.rglob("*")
        if file.suffix.lower() in _EXTENSIONS
    )
    if not names:
        raise ValueError(
            f"{path} holds no image; allowed are the formats Pillow reads; put images there"
        )
    return ImageSet(name=_name(path), folder=path, file_names=names)


def _name(path: Path) -> str:
    return path.resolve().stem if path.is_file() else path.resolve().name
