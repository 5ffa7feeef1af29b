"""What a run left in its folder, for the tools that go on from there."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from classify import attribute_columns, labelled_attributes, load_table
from recipes.chain.command.command_line import parse
from recipes.chain.draw import labelled_draw
from recipes.chain.run import RECORD
from recipes.chain.settings.study import NO_FLAGS, RunConfig

__all__ = ["real_table", "run_settings", "synthetic_table"]


def run_settings(run: Path) -> RunConfig:
    """The settings of a run.

    Raises:
        FileNotFoundError: there is none.
        ValueError: its settings are not of this version.
    """
    settings = run / RECORD
    _check(settings)
    try:
        # Its record holds every setting, so no preset's are needed.
        return parse(RunConfig, [f"--config={settings}"], skip=NO_FLAGS)
    except ValueError as error:
        raise ValueError(
            f"{settings} cannot be read ({error}); give a run of this version"
        ) from error


def real_table(run: Path, settings: RunConfig) -> pd.DataFrame:
    """The real rows of all splits that the run used: the user's data, or those that it drew."""
    own = run / "data"
    table = load_table(own if own.is_dir() else settings.data or own, settings.attributes)
    attributes = labelled_attributes(table, settings.attributes or attribute_columns(table))
    return labelled_draw(table, attributes, settings.num_real, settings.num_val)


def synthetic_table(run: Path, name: str) -> pd.DataFrame:
    """Every row of a synthetic set.

    Raises:
        FileNotFoundError: the set has no table.
    """
    folder = run / "synthetic" / name
    _check(folder / "metadata.csv")
    return load_table(folder)


def _check(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give the folder of a finished run")
