"""How rare do the images become with fewer steps than the paper's 250?

    python recipes/fewer_steps.py                # the embedded avatars, half an hour on 2 cores

For every solver and number of steps, images are generated plain and self-guided from the same
seeds. What the guidance achieves is its *shift*: by how much it raises the mean distance to the
five nearest real training images (AvgkNN, in the labeler's features). Each shift is compared with
that of 250 ancestral steps, once at equal budget (w adapted so that the scheduled variances of the
guided steps sum to the same) and once at its w. Intervals (95 %) are from resampling the seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from lightning.fabric import Fabric
from matplotlib.figure import Figure
from numpy.typing import NDArray

from augment import (
    Denoiser,
    SamplerConfig,
    Schedule,
    SelfGuidanceConfig,
    generate,
    load_denoiser,
)
from augment.guidance import Strength
from augment.metrics import avg_knn
from augment.metrics.features import extract
from classify import load_table
from classify.datasets import read_image
from classify.datasets.avatars import avatar_table
from classify.files import write_text
from labeling import Predictor, load_labeler
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.devices import launch
from recipes.chain.command.files import check_folder, write_figure
from recipes.chain.command.sources import DATA, GENERATORS, LABELERS
from recipes.chain.encoders import load_encoder
from recipes.chain.settings.distances import named_distance

_DRAWS = 2000
"""Resamplings of the seeds."""

SolverName = Literal["ancestral", "ddim", "dpm"]
Kind = Literal["plain", "budget", "scale"]
Measure = NDArray[np.float64]
"""AvgkNN of each seed's image, (N,)."""

_GUIDED: Mapping[Kind, str] = {"budget": "equal budget", "scale": "equal w"}
"""The kinds of guided images, and what the chart calls them."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is compared."""

    generator: str = field(default="avatars-32", metadata=GENERATORS)
    """Embedded name, checkpoint, diffusers folder or hub id of the generator."""
    labeler: str = field(default="avatars", metadata=LABELERS)
    """Embedded name or folder of the labeler: its features guide, and AvgkNN is taken in them."""
    data: Path | None = field(default=None, metadata=DATA)
    """Real images, as for the other recipes; left out, the embedded ones."""
    images: int = 256
    """Seeds of every cell."""
    reference: int = 250
    """Ancestral steps that the others are compared with."""
    steps: Sequence[int] = (100, 50, 25)
    """Numbers of steps."""
    solvers: Sequence[SolverName] = ("ancestral", "ddim", "dpm")
    """Update rules."""
    strength: float = 0.4
    """The budget: the w of 250 steps at every 5, from which that of the reference follows."""
    every: int = 5
    """Guide every n-th step."""
    batch_size: int = 32
    """Images at a time."""
    out: Path = Path("runs/fewer_steps")
    """Images, fewer_steps.csv and fewer_steps.png; the same command continues a stopped run."""

    def __post_init__(self) -> None:
        for name in ("images", "reference", "every", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least 1")
        if not self.strength > 0:
            raise ValueError(f"strength is {self.strength}; give a positive one, such as 0.4")
        if not self.steps or not self.solvers:
            raise ValueError("steps or solvers are empty; give at least one of each")

    def scale(self, schedule: Schedule) -> float:
        """The w of the reference, by its budget, on a model's schedule.

        Raises:
            ValueError: the model has fewer steps than it or another cell takes.
        """
        for steps in (self.reference, *self.steps):
            schedule.respaced(steps)
        strength = Strength(every=self.every, budget=self.strength)
        return strength.resolved_scale(schedule, self.reference)


@dataclass(frozen=True)
class Cell:
    """One set of images: how it is sampled."""

    solver: SolverName
    steps: int
    kind: Kind

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.solver}-{self.steps}-{self.kind}"

    def guidance(self, settings: Settings, schedule: Schedule) -> SelfGuidanceConfig | None:
        """Its settings on a model's schedule; None for plain images."""
        if self.kind == "plain":
            return None
        # By the paper's fraction of the steps, as RESULTS.md has it.
        if self.kind == "budget":
            return SelfGuidanceConfig(every=settings.every, perturb=0.8, budget=settings.strength)
        scale = settings.scale(schedule)
        return SelfGuidanceConfig(every=settings.every, perturb=0.8, scale=scale)


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame:
    """Generate, measure, print the table, write CSV and picture; the table."""
    settings = parse(Settings, arguments)
    check_folder(settings.out)
    denoiser, labeler = load_denoiser(settings.generator), load_labeler(settings.labeler)
    settings.scale(denoiser.schedule)  # says which steps are allowed
    fabric = launch(1)
    tables = {
        cell: _generate(cell, settings, denoiser, labeler, fabric) for cell in cells(settings)
    }
    measured = _measure(settings, tables)
    table = shares(settings, measured)
    write_text(settings.out / "fewer_steps.csv", table.to_csv(index=False))
    write_figure(settings.out / "fewer_steps.png", chart(table))
    print(table.to_string(index=False, float_format="{:.3f}".format))
    return table


def cells(settings: Settings) -> Iterator[Cell]:
    """The reference first; it needs no cell at its own w."""
    yield Cell("ancestral", settings.reference, "plain")
    yield Cell("ancestral", settings.reference, "budget")
    for solver, steps, kind in product(settings.solvers, settings.steps, ("plain", *_GUIDED)):
        if (solver, steps) != ("ancestral", settings.reference):
            yield Cell(solver, steps, kind)


def _generate(
    cell: Cell, settings: Settings, denoiser: Denoiser, labeler: Predictor, fabric: Fabric
) -> pd.DataFrame:
    wanted, guidance, record = cell.guidance(settings, denoiser.schedule), None, None
    if wanted is not None:
        guidance = wanted.with_distance(named_distance("features", denoiser, labeler))
        record = {**asdict(wanted), "distance": "features", "network": labeler.sha256}
    print(f"{cell.name} ...", flush=True)
    return generate(
        denoiser,
        range(settings.images),
        settings.out / cell.name,
        sampler=SamplerConfig(steps=cell.steps, solver=cell.solver, batch_size=settings.batch_size),
        guidance=guidance,
        settings=record,
        fabric=fabric,
    )


def _measure(settings: Settings, tables: Mapping[Cell, pd.DataFrame]) -> dict[Cell, Measure]:
    """AvgkNN of every image among the real training ones."""
    folder = settings.data or settings.out / "data"
    if settings.data is None:
        avatar_table(folder)
    real = load_table(folder)
    encoder, cache = load_encoder(settings.labeler), settings.out / "features"
    see = partial(extract, encoder=encoder, read=read_image, cache=cache)
    reference = see(_paths(real[real["split"] == "train"]), name="real")
    return {
        cell: avg_knn(see(_paths(table), name=cell.name), reference)
        for cell, table in tables.items()
    }


def _paths(table: pd.DataFrame) -> list[Path]:
    return [Path(path) for path in table["path"]]


def shares(settings: Settings, measured: Mapping[Cell, Measure]) -> pd.DataFrame:
    """What share of the reference's shift every guided cell has; intervals resample the seeds.

    Returns:
        Columns `solver, steps, kind, plain, guided, shift, share, low, high`: mean AvgkNN of both,
        their difference, it over the reference's and the ends of the latter's interval.
    """
    draws = np.random.default_rng(0).integers(settings.images, size=(_DRAWS, settings.images))
    reference = _shift(measured, Cell("ancestral", settings.reference, "budget"))
    rows: list[dict[str, Any]] = []
    for cell in (cell for cell in measured if cell.kind != "plain"):
        shift = _shift(measured, cell)
        resampled = shift[draws].mean(axis=1) / reference[draws].mean(axis=1)
        low, high = np.quantile(resampled, (0.025, 0.975))
        plain = measured[replace(cell, kind="plain")].mean()
        means = {"plain": plain, "guided": measured[cell].mean(), "shift": shift.mean()}
        share = {"share": shift.mean() / reference.mean(), "low": low, "high": high}
        rows.append(asdict(cell) | means | share)
    return pd.DataFrame(rows)


def _shift(measured: Mapping[Cell, Measure], cell: Cell) -> Measure:
    """By how much the guidance moved each image away from the real ones, (N,)."""
    return measured[cell] - measured[replace(cell, kind="plain")]


def chart(table: pd.DataFrame) -> Figure:
    """Share of the reference's shift by number of steps, a panel each for budget and w."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    panels = figure.subplots(1, len(_GUIDED), sharey=True)
    for axes, (kind, title) in zip(panels, _GUIDED.items(), strict=True):
        rows = table[table["kind"] == kind]
        for solver, line in rows.groupby("solver", sort=False):
            line = line.sort_values("steps")
            ends = [line["share"] - line["low"], line["high"] - line["share"]]
            axes.errorbar(line["steps"], line["share"], ends, marker="o", capsize=3, label=solver)
        axes.axhline(1, color="grey", lw=1, ls="--")
        axes.set(title=title, xscale="log", xlabel="steps")
        ticks = sorted(rows["steps"].unique())
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
    panels[0].set_ylabel("shift of AvgkNN,\nof that of the reference")
    panels[0].legend()
    return figure


if __name__ == "__main__":
    run(main)
