"""What each design choice of self-guidance does: the paper's ablations, in one table.

    python recipes/ablations.py                           # embedded avatars
    python recipes/ablations.py --data FOLDER --generator SRC --preset paper
    python recipes/ablations.py --config mine.yaml        # other grids, of any sampler's settings

A grid is a named set of settings for each of its cells, written as a study's sets are:

    grids:
      distance: {lpips: {guidance: {distance: lpips}}, l2: {guidance: {distance: l2}}}
      gamma: {2: {start: {boost: {gamma: 2}}}, 4: {start: {boost: {gamma: 4}}}}

Each cell's images, of the same seeds, are placed against the real train images as
`recipes/compare_samplers.py` places them; no classifier is trained. Cells of the same settings are
made once. In `ablations/` lie ablations.csv (one row per grid and cell: cost, rarity, likeness to
all real images and the Frechet distance to their rare end), tails.csv, ablations.png, and for each
grid a folder with density.png, the paper's Fig. 5, and the pictures of `recipes/measure.py`.

On the embedded avatars (256 images per cell, 25 steps; 21 minutes of one core; all in RESULTS.md),
where nothing else is said w = 1, n = 5 and the distance activations:

    cell                    forwards   AvgkNN   precision   recall   Frechet to the rare
    w = 0 (plain)                 25     22.9         .97      .49                   485
    w = 1                         37     23.8         .95      .58                   424
    w = 2                         37     24.6         .95      .56                   424
    w = 4                         37     26.0         .89      .47                   467
    n = 1                         87     28.6         .81      .01                   677
    n = 1, equal push             87     25.6         .93      .56                   425
    n = 5, equal push             37     25.0         .96      .53                   440
    n = 20                        30     23.3         .96      .51                   437
    fixed strength                37     23.0         .96      .53                   470
    gradient to the first         42     23.2         .97      .48                   483
    gradient to both              43     24.3         .95      .67                   410
    4 perturbations               60     24.4         .95      .60                   404
    100 steps                    150     24.6         .95      .53                   428
    DPM-Solver++                  37     24.8         .94      .64                   414

By AvgkNN the ranking depends on the strength above all; images that are farther out are not nearer
to the rare real ones than those of w = 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from augment.metrics.report import Results
from classify.datasets import read_image
from classify.files import claim
from classify.names import one_of
from recipes.celeba_augment import PRESETS as STUDY
from recipes.celeba_augment import real_images, with_few_labels
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.files import write_csv, write_figure
from recipes.chain.command.values import Values, plain
from recipes.chain.images.making import make_images
from recipes.chain.inputs import prepare
from recipes.chain.measures.measuring import Measuring, MeasuringConfig, costs_of, with_costs
from recipes.chain.run import Run
from recipes.chain.settings.sets import SyntheticSet
from recipes.chain.settings.study import LabelsConfig

__all__ = ["GRIDS", "AblationConfig", "chart", "main"]

Grid = Mapping[str, Values]
"""Cell -> its settings."""

TAIL = "tail_frechet"
"""Column of the distance to the rare end of the real images, the paper's cFID."""
_FIXED: Values = {"unit": "fixed", "scale": 0.02}

_LEVELS = {"0.5": 0.489, "0.6": 0.336, "0.8": 0.0931, "0.9": 0.0222}
"""The paper's p, a fraction of the steps, as signal levels of its cosine schedule."""

GRIDS: Mapping[str, Grid] = {
    "w": {"0": {}} | {w: {"guidance": {"scale": float(w)}} for w in ("0.4", "1", "2", "4")},
    "n": {str(n): {"guidance": {"every": n}} for n in (1, 2, 5, 10, 20)},
    "n-equal-push": {str(n): {"guidance": {"every": n, "budget": 1.0}} for n in (1, 5, 20)},
    "distance": {d: {"guidance": {"distance": d}} for d in ("activations", "l2", "l1")},
    "schedule": {
        "variance": {"guidance": {}},
        "fixed": {"guidance": _FIXED},
        "switch-off": {"guidance": {**_FIXED, "switch_off": 0.5}},
    },
    "stop-gradient": {g: {"guidance": {"stop_gradient": g}} for g in ("second", "first", "none")},
    "p": {
        p: {"guidance": {"perturb_alpha_bar": level, "perturb": None}}
        for p, level in _LEVELS.items()
    },
    "M": {str(m): {"guidance": {"samples": m}} for m in (1, 2, 4)},
    "steps": {str(n): {"guidance": {}, "sampler": {"steps": n}} for n in (25, 50, 100)},
    "solver": {s: {"guidance": {}, "sampler": {"solver": s}} for s in ("ancestral", "ddim", "dpm")},
}
"""The paper's tables and those of its appendix, and steps and solvers besides. Its fixed strengths
are no step sizes in these units; 0.02 is (see `augment/guidance/strength.py`). The distance lpips
needs AlexNet's weights."""

_SAMPLING = ("sampler.", "guidance.")
_CHANGES: Mapping[str, Mapping[str, Any]] = {
    "demo": {"num_synthetic": 128, "precision": "auto"},
    "paper": {"num_synthetic": 30_000, "sampler.steps": 100, "labeler": "generator"},
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    name: {**{k: v for k, v in STUDY[name].items() if k.startswith(_SAMPLING)}, **changes}
    for name, changes in _CHANGES.items()
}
"""The studies' samplers; the paper's ablations take 100 steps."""

SKIPPED = (
    "train", "study", "sets", "arms", "define_arms", "controls", "focus", "preview", "tuned",
    "judge", "quota", "limit", "targets", "labels", "admission", "logger", "allow_leak",
    "allow_unlike", "image_size",
)  # fmt: skip
"""Settings of a study that this command has no use for."""


@dataclass(frozen=True, kw_only=True)
class AblationConfig(MeasuringConfig):
    """What each design choice of self-guidance does."""

    may_grow: ClassVar[bool] = False

    out: Path = Path("runs/ablations")
    """Everything is written here; the same command again continues a run that was stopped."""
    grids: Mapping[str, Grid] = field(default_factory=lambda: dict(GRIDS))
    """What is varied, grid -> cell -> settings as in a study's sets; left out, the paper's."""
    only: list[str] | None = None
    """Grids to run; left out, all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # YAML reads the names of cells such as 2 as numbers.
        named = {str(g): {str(c): v for c, v in cells.items()} for g, cells in self.grids.items()}
        object.__setattr__(self, "grids", named)
        sets = Counter(f"{grid}-{cell}" for grid, cells in named.items() for cell in cells)
        if twice := [name for name, count in sets.items() if count > 1]:
            raise ValueError(
                f"two cells of grids are {twice[0]}, grid and cell in one; give one another name"
            )
        if unknown := [name for name in self.only or () if name not in self.grids]:
            raise ValueError(
                f"only names {unknown[0]}; {one_of(unknown[0], self.grids)}, or describe it as one"
            )

    @property
    def chosen_grids(self) -> dict[str, Grid]:
        """The grids to run."""
        return {name: self.grids[name] for name in self.only or self.grids}

    @property
    def cells(self) -> dict[str, Values]:
        """Every cell's settings by the name of its set, grid and cell."""
        return {
            f"{grid}-{cell}": values
            for grid, cells in self.chosen_grids.items()
            for cell, values in cells.items()
        }


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame | None:
    """Make and measure every cell, print and write the table and return it; None on other
    processes than the first.
    """
    config = parse(AblationConfig, arguments, presets=PRESETS, skip=SKIPPED)
    if config.data is None:
        config = cast("AblationConfig", with_few_labels(config))
    measuring, cells = Measuring(config), config.cells
    unlabelled = LabelsConfig(trust=["all"])  # no label is used, so none has to be trusted
    with Run(config.variant(sets=cells, arms=["real", *cells], labels=unlabelled)) as whole:
        inputs = prepare(whole, lambda: real_images(whole), source=config.source)
        out = whole.out / "ablations"
        if whole.fabric.is_global_zero:
            kept = {name: plain(getattr(config, name)) for name in ("tails", "encoder", "weights")}
            claim(out / "settings.json", kept)
        same, sets = _distinct(whole.config.synthetic_sets)
        for name, settings in sets.items():
            with whole.stage(f"Making {name}"):
                seeds = range(settings.count or config.num_synthetic)
                make_images(inputs, settings, seeds, whole.out / "synthetic" / name)
        with whole.stage("Counting what an image costs"):
            costs = costs_of(inputs, sets, out / "costs.csv")
        with whole.stage("Measuring the sets"):
            measured = measuring(inputs, list(sets), out)
        if not whole.fabric.is_global_zero:
            return None
        rows = with_costs(measured.results.table, costs)
        table = table_of(config.chosen_grids, same, rows, measured.tails)
        write_csv(out / "ablations.csv", table)
        write_csv(out / "tails.csv", measured.tails)
        write_figure(out / "ablations.png", chart(table))
        for grid, rows in table.groupby("grid", sort=False):
            (out / str(grid)).mkdir(exist_ok=True)
            _part(measured.results, list(rows["set"])).write(out / str(grid), read_image)
        shown = ["grid", "cell", "forwards", "avg_knn", "precision", "recall", "frechet", TAIL]
        whole.say(table[shown].to_string(index=False, float_format="{:.3f}".format))
        return table


def _distinct(
    cells: Mapping[str, SyntheticSet],
) -> tuple[dict[str, str], dict[str, SyntheticSet]]:
    """The set that has the images of each cell, and these sets."""
    same: dict[str, str] = {}
    sets: dict[str, SyntheticSet] = {}
    for name, settings in cells.items():
        same[name] = next((n for n, known in sets.items() if known == settings), name)
        sets.setdefault(same[name], settings)
    return same, sets


def table_of(
    grids: Mapping[str, Grid], same: Mapping[str, str], sets: pd.DataFrame, tails: pd.DataFrame
) -> pd.DataFrame:
    """One row per cell.

    Args:
        grids: their cells.
        same: cell's name -> the set that has its images.
        sets: one row per set, with its cost and measures.
        tails: one row per tail and set.

    Returns:
        Columns grid, cell, those of `sets`, and tail_frechet, the Frechet distance to the first
        tail.
    """
    first = tails[tails["tail"] == tails["tail"].iloc[0]].set_index("set")["frechet"]
    measures = sets.assign(**{TAIL: sets["set"].map(first)}).set_index("set", drop=False)
    rows = [
        {"grid": grid, "cell": cell, **measures.loc[same[f"{grid}-{cell}"]]}
        for grid, cells in grids.items()
        for cell in cells
    ]
    return pd.DataFrame(rows)


def _part(results: Results, names: Sequence[str]) -> Results:
    """The results of some sets, beside the real one's."""
    chosen = ["real", *dict.fromkeys(names)]
    return replace(
        results,
        sets=[one for one in results.sets if one.name in chosen],
        table=results.table[results.table["set"].isin(chosen)],
        images={name: results.images[name] for name in chosen},
    )


_ACROSS = 5
"""Grids side by side in the picture."""


def chart(table: pd.DataFrame) -> Figure:
    """Of each grid the mean AvgkNN with its interval, and the Frechet distance to the rare images,
    by cell, with the cost of an image below its name; all on the same scales.
    """
    grids = list(table.groupby("grid", sort=False))
    bands = [grids[i : i + _ACROSS] for i in range(0, len(grids), _ACROSS)]
    across = len(bands[0])
    figure = Figure(figsize=(2.6 * across, 4.8 * len(bands)), layout="constrained")
    parts = figure.subfigures(len(bands), 1, squeeze=False)[:, 0]
    all_panels = [part.subplots(2, across, sharex="col", squeeze=False) for part in parts]
    for band, panels in zip(bands, all_panels, strict=True):
        for (grid, rows), (above, below) in zip(band, panels.T, strict=False):
            _grid(above, below, rows)
            above.set_title(str(grid))
        for unused in panels[:, len(band) :].flat:
            unused.set_visible(False)
        panels[0, 0].set_ylabel("AvgkNN (higher is rarer)")
        panels[1, 0].set_ylabel("Fréchet distance to\nthe rare real images")
    for row in (0, 1):
        drawn = [axes for panels in all_panels for axes in panels[row] if axes.get_visible()]
        ends = [axes.get_ylim() for axes in drawn]
        low, high = min(end[0] for end in ends), max(end[1] for end in ends)
        for axes in drawn:
            axes.set_ylim(low - 0.05 * (high - low), high)
    figure.supxlabel("setting, and forwards per image", fontsize=9)
    return figure


def _grid(above: Axes, below: Axes, rows: pd.DataFrame) -> None:
    """One grid's two panels."""
    places = range(len(rows))
    ends = [rows["avg_knn"] - rows["avg_knn_low"], rows["avg_knn_high"] - rows["avg_knn"]]
    above.errorbar(places, rows["avg_knn"], ends, marker="o", capsize=3)
    below.plot(places, rows[TAIL], marker="o", color="tab:red")
    below.set_xticks(places, rows["cell"] + rows["forwards"].map("\n{:.0f}".format), fontsize=8)
    below.set_xlim(-0.5, len(rows) - 0.5)
    for axes in (above, below):
        axes.grid(axis="y", color="0.92", lw=0.8)


if __name__ == "__main__":
    run(main)
