"""Foreign files to the table, one row per image, and to pixels.

Only this package reads tables that users bring, and decodes images. Another data set is one file
here, a reader of its layout, and one entry in `LAYOUTS`:

    # classify/datasets/flowers.py: flowers/<class>/<number>.jpg
    FILES = "flowers/<class>/*.jpg"

    def recognises(root: Path) -> bool:
        return (root / "flowers").is_dir()

    def load(root: Path, attributes: Sequence[str] | None = None) -> pd.DataFrame:
        ...  # columns file_name, split, source, the attributes as float64, path

    # below: LAYOUTS = (celeba, flowers)

In memory a table has the column `path` besides those of `metadata.csv`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pandas as pd

from classify.datasets import celeba, folder
from classify.datasets.folder import attribute_columns
from classify.datasets.images import Images, decode, decode_tables, read_image

__all__ = [
    "Images",
    "attribute_columns",
    "decode",
    "decode_tables",
    "holds_table",
    "load_images",
    "load_table",
    "read_image",
]


class Layout(Protocol):
    """A module that reads a data set as its authors lay it out."""

    FILES: str
    """What is in such a folder, as messages say it."""

    def recognises(self, root: Path) -> bool:
        """Whether a folder is of this layout."""

    def load(self, root: Path, attributes: Sequence[str] | None = None) -> pd.DataFrame:
        """Its table with the attributes that are asked for, or all; see `load_table`."""


LAYOUTS: tuple[Layout, ...] = (celeba,)
"""The first that recognises a folder without `metadata.csv` reads it."""


def load_table(
    source: str | Path, attributes: Sequence[str] | None = None, *, soft: bool = False
) -> pd.DataFrame:
    """Read the table of an image folder, recognised by what is in it.

    Args:
        source: A folder with `metadata.csv`, or one in CelebA's layout (see
            `classify.datasets.celeba`).
        attributes: Names that must be there; by default all columns that are not the table's own.
        soft: Take probabilities in [0, 1] as the labels of synthetic images.

    Returns:
        Columns `file_name`, `split`, `source`, the attributes (float64 1.0, 0.0 or NaN =
        unlabelled), whatever else the file has, and `path` (absolute).

    Raises:
        FileNotFoundError: No such folder.
        ValueError: No known layout, or a table that is refused; one line that says what to do.
    """
    root = Path(source).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root} is not a folder; give one with {folder.FILE} or in CelebA's layout"
        )
    if (root / folder.FILE).is_file():
        return folder.load(root, attributes, soft=soft)
    if layout := _layout(root):
        return layout.load(root, attributes)
    full = any(root.iterdir())
    state = f"holds neither {folder.FILE} nor a known layout" if full else "is empty"
    known = " or ".join(f"a folder with {layout.FILES}" for layout in LAYOUTS)
    raise ValueError(
        f"{root} {state}; give a folder of images with {folder.FILE} (file_name, split, one column "
        f"an attribute), or {known}"
    )


def load_images(source: str | Path) -> pd.DataFrame:
    """Read any folder of images, for tools that need no labels.

    Args:
        source: A folder, or a CSV file among images, whose `file_name` is relative to it.

    Returns:
        `file_name` and `path` (absolute). A CSV file, or a folder with `metadata.csv` or in a
        layout of `LAYOUTS`, gives one row for each of its own, in order, with all its columns
        (`split` and `source` only if they are there); any other folder gives every image file in
        it and below, sorted.

    Raises:
        FileNotFoundError: No such folder or file.
        ValueError: No image, or a table that is refused.
    """
    root = Path(source).expanduser().absolute()
    if root.is_file():
        return folder.rows(root)
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root} is not there; give a folder of images, with or without {folder.FILE}"
        )
    if (root / folder.FILE).is_file():
        return folder.rows(root / folder.FILE)
    if layout := _layout(root):
        return layout.load(root)
    return folder.find_images(root)


def holds_table(root: Path) -> bool:
    """Whether `load_table` takes a folder, as far as the names in it tell."""
    return (root / folder.FILE).is_file() or _layout(root) is not None


def _layout(root: Path) -> Layout | None:
    return next((layout for layout in LAYOUTS if layout.recognises(root)), None)
