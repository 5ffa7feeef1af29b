"""The images to enlarge: a folder that `generate` wrote, with its record and its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from augment.generate.blocks import checked_seeds
from augment.generated_folder import read_record
from augment.image_files import ImageFiles, read_rows

__all__ = ["SmallImages"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SmallImages:
    """Generated images, by their seeds."""

    folder: Path
    record: Mapping[str, Any]
    """The settings they were made with."""
    rows: pd.DataFrame
    """Their table; every cell is text, as it stands there."""
    seeds: list[int]
    """One a row."""
    size: int
    """Height and width in pixels."""

    @classmethod
    def read(cls, folder: Path) -> SmallImages:
        """Read the folder's record and table.

        Raises:
            FileNotFoundError: the folder, its table or an image is missing.
            ValueError: `generate` did not write it.
        """
        record = read_record(folder)
        rows = read_rows(folder / "metadata.csv")
        try:
            seeds = _integers(rows["seed"])
            size = int(record["image"][-1])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{folder} has no seed for every image, or not their size; "
                "give a folder as augment.generate wrote it"
            ) from error
        return cls(folder=folder, record=record, rows=rows, seeds=checked_seeds(seeds), size=size)

    def images(self, seeds: Sequence[int], channels: int) -> Tensor:
        """Those of some seeds, uint8 (B, channels, size, size)."""
        names = dict(zip(self.seeds, self.rows["file_name"], strict=True))
        paths = [self.folder / names[seed] for seed in seeds]
        return ImageFiles(paths, size=self.size, channels=channels).stack()

    def labels(self) -> list[int]:
        """The class of each row's image.

        Raises:
            ValueError: the table has none, or a row has none.
        """
        if "class_label" not in self.rows:
            raise ValueError(
                f"the upsampler has classes, and {self.folder / 'metadata.csv'} has no column "
                "class_label; give sampler.label, one class for all"
            )
        try:
            return _integers(self.rows["class_label"])
        except ValueError as error:
            raise ValueError(
                f"class_label in {self.folder / 'metadata.csv'} is no class for every image "
                f"({error}); repair it, or give sampler.label, one class for all"
            ) from error


def _integers(cells: pd.Series) -> list[int]:
    """Numbers as they were written, or as pandas or a spreadsheet may have: 3.0 is 3."""
    return [int(cell.removesuffix(".0")) for cell in cells]
