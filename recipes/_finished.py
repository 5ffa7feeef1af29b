"""What a run left in its folder, for the recipes that go on from there."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from classify import load_table
from recipes._command import parse
from recipes._settings import RunConfig

__all__ = ["real_table", "run_settings", "synthetic_table"]


def run_settings(run: Path) -> RunConfig:
    """The settings of a run.

    Raises:
        FileNotFoundError: there is none.
    """
    settings = run / "config.yaml"
    _check(settings)
    # Its record holds every setting, so no preset's are needed.
    return parse(RunConfig, {"demo": {}, "paper": {}}, [f"--config={settings}"])


def real_table(run: Path, settings: RunConfig) -> pd.DataFrame:
    """The real rows of all splits: the user's data, or those that the run drew."""
    own = run / "data"
    return load_table(own if own.is_dir() else settings.data or own, settings.attributes)


def synthetic_table(run: Path, arm: str) -> pd.DataFrame:
    """Every generated row of an arm.

    Raises:
        FileNotFoundError: the arm has no table.
    """
    folder = run / "synthetic" / arm
    _check(folder / "metadata.csv")
    return load_table(folder)


def _check(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give the folder of a finished run")
