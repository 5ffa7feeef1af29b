"""How many synthetic images are enough? F1 against their number, on the images of a finished run.

    python recipes/ratio_sweep.py runs/celeba_augment
    python recipes/ratio_sweep.py runs/celeba_augment --arm plain --fractions 0.1 0.3 1 --seeds 5

The first images of the run's arm, so many as each fraction says, are added to its real training
images; every number gets the same optimiser steps, seeds and real test images. The image shows the
mean over seeds with its 95 % interval. Enough is the smallest number, none included, whose F1,
paired by seed and test image, cannot be told from that of the best number: the interval of the
difference (`classify.compare_pairs`) holds 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from augment import admitted, merge
from classify import (
    FitConfig,
    attribute_columns,
    compare_pairs,
    labelled_attributes,
    pairs_with,
    read_predictions,
    run_study,
    summarise,
)
from classify.files import claim
from classify.metrics import MACRO
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.devices import launch
from recipes.chain.command.files import write_csv, write_figure
from recipes.chain.finished import real_table, run_settings, synthetic_table
from recipes.chain.labels.labelers import softened


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """What is swept."""

    run: Path
    """Folder of a run of celeba_augment or fashion_longtail, its images generated and labelled."""
    out: Path = Path("runs/ratio_sweep")
    """Everything is written here; the same command again continues a sweep that was stopped."""
    arm: str = "minority"
    """The synthetic set whose images are added."""
    fractions: Sequence[float] = (0.125, 0.25, 0.5, 1.0)
    """Shares of its images, in (0, 1]; none at all is always among them."""
    seeds: int = 3
    """Fits of each number; intervals need at least 2."""
    devices: int | str = "auto"
    """Lightning's: number of devices, or auto."""

    def __post_init__(self) -> None:
        if not self.fractions or not all(0 < share <= 1 for share in self.fractions):
            raise ValueError(f"fractions are {list(self.fractions)}; give numbers in (0, 1]")
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}; give at least 1, better 3 or 5")


@dataclass(frozen=True, kw_only=True)
class SweepInputs:
    """What the run left."""

    real: pd.DataFrame
    """Real rows of all splits."""
    synthetic: pd.DataFrame
    """The arm's admitted rows, in the order of their seeds."""
    attributes: list[str]
    fit: FitConfig
    """The run's classifier."""
    skip_bad: bool


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame:
    """Run the sweep; writes `scores.csv`, `sweep.csv` and `sweep.png`, returns the curve."""
    config = parse(SweepConfig, arguments)
    inputs = read_run(config)
    record = {**asdict(config), "run": str(config.run.resolve()), "fit": inputs.fit.record()}
    claim(config.out / "sweep.json", {k: record[k] for k in record.keys() - {"out", "devices"}})
    fabric = launch(config.devices)
    count = len(inputs.synthetic)
    numbers = sorted({0, *(max(1, round(share * count)) for share in config.fractions)})
    scores = run_study(
        {str(n): merge(inputs.real, inputs.synthetic[:n]) for n in numbers},
        inputs.attributes,
        inputs.fit,
        seeds=config.seeds,
        out=config.out,
        fabric=fabric,
        cache=config.out / "cache",
        skip_bad=inputs.skip_bad,
    )
    summary = summarise(scores)
    best = best_arm(summary)
    predictions = read_predictions(config.out, list(map(str, numbers)), config.seeds)
    compared = compare_pairs(
        predictions.labels,
        predictions.probabilities,
        predictions.attributes,
        pairs_with(best, predictions.probabilities),
    )
    found = curve(summary, compared)
    if fabric.is_global_zero:
        write_csv(config.out / "scores.csv", scores)
        write_csv(config.out / "sweep.csv", found)
        write_figure(config.out / "sweep.png", chart(found, config.arm))
        print(f"{found.round(3).to_string(index=False)}\n{sentence(found, config.arm)}")
    return found


def read_run(config: SweepConfig) -> SweepInputs:
    """Real and synthetic tables and the classifier's settings of the run.

    Raises:
        FileNotFoundError: no run, or no images of the arm.
        ValueError: images that were not labelled.
    """
    run_config = run_settings(config.run)
    real = real_table(config.run, run_config)
    attributes = labelled_attributes(real, run_config.attributes or attribute_columns(real))
    synthetic = admitted(synthetic_table(config.run, config.arm))
    if missing := [name for name in attributes if name not in synthetic]:
        raise ValueError(
            f"the {config.arm} images of {config.run} have no labels for {missing[0]}; "
            "let the run finish first"
        )
    if synthetic.empty:
        raise ValueError(
            f"no {config.arm} image of {config.run} was admitted, so there is none to add; see the "
            "column admission of its metadata.csv"
        )
    if run_config.labels.soft:
        synthetic = softened(synthetic, attributes)
    with Image.open(synthetic["path"].iloc[0]) as image:
        size = run_config.image_size or image.width
    return SweepInputs(
        real=real,
        synthetic=_by_seed(synthetic),
        attributes=attributes,
        fit=run_config.fit_at(size),
        skip_bad=run_config.skip_bad,
    )


def _by_seed(synthetic: pd.DataFrame) -> pd.DataFrame:
    """In the order of the seeds; images made elsewhere have none, and stay in their order."""
    by = ["seed"] if "seed" in synthetic else []
    return synthetic.sort_values(by, ignore_index=True) if by else synthetic


def best_arm(summary: pd.DataFrame) -> str:
    """The arm of the highest mean F1, of a summary by `classify.summarise`."""
    of_f1 = summary[summary["metric"] == "f1"].set_index("arm")["mean"]
    return str(of_f1.idxmax())


def curve(summary: pd.DataFrame, compared: pd.DataFrame) -> pd.DataFrame:
    """Macro F1 on test by number of synthetic images, and how far each is from the best.

    Args:
        summary: of `summarise`, with the numbers as the arms' names.
        compared: of `compare_pairs`, with the best number as baseline.

    Returns:
        Columns `images, f1, low, high` (95 % interval over seeds), `behind, behind_low,
        behind_high` (F1 less the best number's, paired by seed and test image; 0 for the best) and
        `enough`, True in one row: the smallest number whose interval of `behind` reaches 0. With
        one seed there are no intervals, and the best is the one.
    """
    rows = summary[summary["metric"] == "f1"].set_index("arm")[["mean", "low", "high"]]
    rows = rows.rename(columns={"mean": "f1"})
    macro = compared[(compared["attribute"] == MACRO) & (compared["metric"] == "f1")]
    behind = macro.set_index("arm")[["difference", "low", "high"]]
    columns = ["behind", "behind_low", "behind_high"]
    rows[columns] = behind.reindex(rows.index).to_numpy()
    rows.loc[best_arm(summary), columns] = 0.0  # less itself, with one seed too
    rows.index = pd.Index([int(str(arm)) for arm in rows.index], name="images")
    rows = rows.sort_index().reset_index()
    within = (rows["behind_high"] >= 0) & (rows["behind_low"] <= 0)
    rows["enough"] = np.arange(len(rows)) == int(within.to_numpy().argmax())
    return rows


def sentence(found: pd.DataFrame, arm: str) -> str:
    """The sweep's result in words."""
    best = found.sort_values("f1").iloc[-1]
    enough = int(found.loc[found["enough"], "images"].iloc[0])
    peak = f"the best mean F1 is {best['f1']:.3f} with {int(best['images'])} {arm} images"
    if math.isnan(best["low"]):
        return f"One seed, so no intervals: {peak}."
    if enough == 0:
        return f"No evidence of gain: {peak}, and none at all cannot be told from it."
    return f"No evidence of gain after {enough} images: {peak}."


def chart(found: pd.DataFrame, arm: str) -> Figure:
    """F1 against the number of images, with intervals; the smallest sufficient number marked."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(
        xlabel=f"synthetic images added ({arm})", ylabel="macro F1 on real test images"
    )
    if found["low"].notna().all():
        label = "95 % interval over seeds"
        axes.fill_between(found["images"], found["low"], found["high"], alpha=0.2, label=label)
    axes.plot(found["images"], found["f1"], marker="o", label="mean over seeds")
    enough = found[found["enough"]].iloc[0]
    axes.axvline(enough["images"], color="0.4", ls="--", lw=1)
    axes.plot(
        enough["images"],
        enough["f1"],
        "o",
        ms=11,
        mfc="none",
        mec="0.2",
        label=f"enough: {int(enough['images'])}",
    )
    axes.set_xticks(found["images"])
    axes.margins(x=0.04)
    axes.legend(loc="best", frameon=False)
    return figure


if __name__ == "__main__":
    run(main)
