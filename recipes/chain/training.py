"""What the recipes that train a network of `augment` share: devices, images and their classes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from augment.denoiser import Denoiser
from classify.config import Precision
from classify.datasets import load_images
from recipes.chain.command.devices import Devices, chosen_precision, resolved_devices
from recipes.chain.command.files import check_folder
from recipes.chain.command.loggers import logger_of

__all__ = [
    "TrainerDevices",
    "cells_as_names",
    "class_numbers",
    "files_sha256",
    "train_rows",
]


@dataclass(frozen=True, kw_only=True)
class TrainerDevices(Devices):
    """Where and how exactly Lightning's Trainer computes."""

    precision: Precision | Literal["auto"] = "32-true"
    """Precision of the computations (Lightning's); auto is bf16-mixed on devices that multiply
    bfloat16, and 32-true on others."""
    logger: str | None = None
    """A logger besides the CSV file: tensorboard, wandb (offline), mlflow, or the path of a class
    of Lightning's."""

    def trainer(self, out: Path) -> dict[str, Any]:
        """The arguments of Lightning's Trainer, for a training in the folder `out`.

        Raises:
            ValueError: `out` can be no folder.
        """
        check_folder(out)
        devices, nodes = resolved_devices(self.devices, self.num_nodes)
        given = {"accelerator": self.accelerator, "devices": devices, "num_nodes": nodes}
        make = logger_of(self.logger)
        more = {"logger": make(out)} if make else {}
        return {**given, "precision": chosen_precision(self.precision), **more}


def train_rows(source: Path) -> pd.DataFrame:
    """The images to train on: a table's train rows, or every image of a folder without a table.

    Raises:
        FileNotFoundError, ValueError: as `classify.datasets.load_images`.
        ValueError: the table has no train row.
    """
    rows = load_images(source)
    if "split" in rows:
        rows = rows[rows["split"] == "train"]
    if rows.empty:
        raise ValueError(f"{source} has no train row, and no other may be learned from; add some")
    return rows


def cells_as_names(column: pd.Series[Any]) -> pd.Series[str]:
    """A column's cells as names of classes, empty where there is none; 1.0 is 1."""
    text = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    return text.str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)


def class_numbers(
    rows: pd.DataFrame, column: str | None, denoiser: Denoiser, setting: str
) -> list[int] | None:
    """The class of each image, if the generator has classes.

    Args:
        rows: the images' table.
        column: of class numbers.
        denoiser: the generator.
        setting: which names the column, for a refusal.

    Raises:
        ValueError: a generator with classes without a column, or a column that holds other things.
    """
    if column is None and denoiser.classes is not None:
        raise ValueError(
            f"the generator is class-conditional and knows {denoiser.classes} classes; name the "
            f"table's column of class numbers by {setting}"
        )
    if column is None:
        return None
    if column not in rows:
        raise ValueError(
            f"the table has no column {column}; it has {', '.join(map(str, rows))}; name one"
        )
    cells = [str(cell).strip().removesuffix(".0") for cell in rows[column]]
    if bad := [cell for cell in cells if not cell.isdigit()]:
        raise ValueError(
            f"column {column} holds {bad[0]!r}; give class numbers from 0 up: name another "
            "column or correct the cell"
        )
    return [int(cell) for cell in cells]


def files_sha256(paths: Iterable[str]) -> str:
    """Hash of the files' names and sizes, wherever they lie."""
    files = [Path(path) for path in paths]
    text = "".join(f"{file.name} {file.stat().st_size}\n" for file in files)
    return hashlib.sha256(text.encode()).hexdigest()
