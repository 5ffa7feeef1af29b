"""Image files with a class each: the rows of a table that have one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from augment.image_files import ImageFiles, read_rows

__all__ = ["LabelledFiles", "LabelledPaths", "find_labelled"]


@dataclass(frozen=True, kw_only=True)
class LabelledPaths:
    """Files and their classes."""

    paths: list[Path]
    labels: list[int]
    """Of each file, its class's place in `classes`."""
    classes: tuple[str, ...]
    """The column's values, sorted: numbers by value, others by name."""


class LabelledFiles(Dataset[tuple[Tensor, int]]):
    """Pairs of an image, uint8 (channels, size, size), and its class."""

    def __init__(self, found: LabelledPaths, *, size: int, channels: int) -> None:
        self.images = ImageFiles(found.paths, size=size, channels=channels)
        self.labels = found.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.labels[index]


def find_labelled(folder: Path, column: str) -> LabelledPaths:
    """The train rows of a folder's `metadata.csv` that have a value in a column.

    Args:
        folder: of images.
        column: an attribute (1, 0, or empty = unlabelled) or classes of any names.

    Raises:
        FileNotFoundError: no table, or a row's image is missing.
        ValueError: no such column, or fewer than two classes in it.
    """
    table = folder / "metadata.csv"
    rows = read_rows(table, "train")
    if column not in rows:
        raise ValueError(
            f"{table} has no column {column}; it has {', '.join(map(str, rows))}; name one of them"
        )
    # As a spreadsheet may have written them: 1.0 is 1.
    values = rows[column].str.strip().str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)
    kept = values != ""
    classes = tuple(sorted(set(values[kept]), key=_order))
    if len(classes) < 2:
        raise ValueError(
            f"{column} has {len(classes)} classes in the train rows of {table}; "
            "a classifier needs at least 2; name another column or label some"
        )
    places = {name: place for place, name in enumerate(classes)}
    return LabelledPaths(
        paths=[folder / name for name in rows["file_name"][kept]],
        labels=[places[value] for value in values[kept]],
        classes=classes,
    )


def _order(name: str) -> tuple[bool, float, str]:
    number = name.removeprefix("-").isdigit()
    return not number, float(name) if number else 0.0, name
