"""How the fits went: their losses and validation scores by optimiser step."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from classify.predictions import unit_folder
from classify.report.figures import curves_plot
from classify.report.page import Figure, Section, how
from classify.report.tables import Colours
from classify.trainer import LOG

__all__ = ["curves_section", "read_curves"]

_TITLES = {"train/loss": "training loss", "val/loss": "validation loss", "val/f1": "validation F1"}
_COLUMNS = ["arm", "seed", "step", "metric", "value"]


def read_curves(out: Path, arms: Iterable[str], seeds: int) -> pd.DataFrame:
    """What the CSV files of a study's fits hold of losses and validation scores.

    Args:
        out: the study's folder.
        arms: names.
        seeds: fits per arm.

    Returns:
        Tidy rows `arm, seed, step, metric, value`, a step as the last session that took it logged
        it; none of a fit whose log is gone.
    """
    fits = [
        _read(unit_folder(out, arm, seed) / LOG).assign(arm=arm, seed=seed)
        for arm in arms
        for seed in range(seeds)
    ]
    return pd.concat([pd.DataFrame(columns=_COLUMNS), *(f for f in fits if len(f))])[_COLUMNS]


def _read(log: Path) -> pd.DataFrame:
    """Rows `step, metric, value` of one fit, of all its sessions."""
    sessions = sorted(log.glob("version_*"), key=lambda folder: int(folder.name.split("_")[1]))
    files = [folder / "metrics.csv" for folder in sessions]
    tables = [_session(file) for file in files if file.is_file() and file.stat().st_size]
    if not tables:
        return pd.DataFrame()
    # A session that was stopped early has not logged everything.
    wide = pd.concat(tables).reindex(columns=["step", *_TITLES])
    every = wide.melt("step", list(_TITLES), "metric", "value").dropna()
    every["step"] += 1  # Lightning counts from 0
    return every.drop_duplicates(["step", "metric"], keep="last").sort_values("step")


def _session(file: Path) -> pd.DataFrame:
    """What a session logged. Lightning writes the file in place, so that a full disk or a killed
    process may have cut it: what is no number is left out.
    """
    table = pd.read_csv(file, on_bad_lines="skip", encoding_errors="replace")
    return pd.DataFrame({name: pd.to_numeric(table[name], errors="coerce") for name in table})


def curves_section(curves: pd.DataFrame, colours: Colours) -> Section | None:
    """The curves of every arm, means over seeds; None where there are none.

    Args:
        curves: of `read_curves`.
        colours: arm -> index of its colour.
    """
    if curves.empty:
        return None
    mean = curves.groupby(["arm", "metric", "step"], sort=False)["value"].mean().reset_index()
    last = mean.groupby(["arm", "metric"], sort=False)["value"].last()
    told = "; ".join(
        f"{arm}: {title} {last[arm, metric]:.3f}"
        for arm in dict.fromkeys(mean["arm"])
        for metric, title in _TITLES.items()
        if (arm, metric) in last.index
    )
    text = (
        "Means over seeds. The losses of different arms are comparable on validation images only: "
        "their training images differ. Each fit keeps the weights of its best validation F1. A "
        "validation loss that rises while the training loss falls is overfitting."
    )
    plot = Figure(curves_plot(mean, _TITLES, colours), f"Curves of the fits, at the end {told}.")
    return Section("Training", [plot, how(text)])
