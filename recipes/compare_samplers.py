"""Which sampler is worth its cost: every one that the paper compares with, in one table.

    python recipes/compare_samplers.py                       # embedded avatars
    python recipes/compare_samplers.py --config mine.yaml    # other sets, data, generator

A study (`recipes/celeba_augment.py`) of one set a sampler, from which classifiers are trained; then
every set is placed against the real train images: how rare it is (AvgkNN, LOF, rarity), how like
it is to all of them and to their rare end by several definitions (`--tails`: Frechet distance, and
with `--encoder inception` FID and sFID; precision, recall, density, coverage), what an image costs
in forward passes of the generator and in seconds, and the F1 of the classifiers. Each sampler that
costs more than `--budget` forwards per image runs once more with as few steps as the budget pays
for, as the set `<name>.equal`, unless that were less than a quarter of its own; self-guidance whose
strength is a `budget` then pushes as far.

It writes the study's own files, and in `samplers/` samplers.csv, tails.csv, samplers.html and the
pictures of `recipes/measure.py` (density.png is the paper's Fig. 5). Sets, arms and everything else
are set as for the study; which strengths are right for a generator is for generated images against
real train images to say, as `recipes/ablations.py` measures them.

256 images per set (low-density and jepa 128), 25 steps, 3 seeds of short fits; 300 labelled avatars
(29 minutes of one core), and 1,000 labelled images of long-tailed Fashion-MNIST (40 minutes).
Forwards are the avatars'. Commands, strengths and all columns: RESULTS.md.

                               avatars                            clothes
    set             forwards   AvgkNN   precision   macro F1      AvgkNN   precision   macro F1
    real                         24.6                   .688         9.9                   .556
    plain                 25     22.9         .97       .687         9.7         .87       .572
    minority              37     24.5         .95       .694        10.0         .84       .569
    targeted              52     25.0         .96       .706        10.8         .85       .596
    boost                 24     24.0         .95       .697        10.3         .88       .578
    temperature           25     24.6         .95       .699        10.5         .86       .561
    rescaled              25     23.4         .96       .688        11.6         .87       .558
    unsure                40     25.2         .92       .699        10.7         .82       .589
    apart                 25     25.7         .88       .705        11.2         .83       .572
    minority-class        53     24.9         .95       .685        11.5         .83       .584
    attribute-bits        53     23.7         .95       .682        13.2         .74       .605
    low-density           46     26.6         .83       .710        10.4         .82       .576
    jepa                 211     23.6         .98       .695         8.9         .88       .574

By three seeds of such short fits no sampler can be told in F1 from the real images alone, but on
the clothes targeted (+.039 [.032, .047]) and attribute-bits.equal (+.036 [.006, .065]). By likeness
to the rare real images the ranking depends on what is called rare: by AvgkNN targeted and apart are
near in both, by JEPA score jepa.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy import stats

from augment.metrics.report import Results
from classify import read_predictions
from classify import report as page
from classify.datasets import read_image
from classify.files import claim
from classify.metrics import MACRO
from recipes.celeba_augment import PRESETS, real_images, with_few_labels
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.files import write_csv
from recipes.chain.command.values import Values, merged, plain
from recipes.chain.inputs import Inputs, prepare
from recipes.chain.measures.cost import Cost, steps_at
from recipes.chain.measures.measuring import (
    Measuring,
    MeasuringConfig,
    SetMeasures,
    costs_of,
    with_costs,
)
from recipes.chain.results.comparison import REAL, compare_arms, train_shares
from recipes.chain.run import Run
from recipes.chain.settings.sets import OFFERED_SETS
from recipes.chain.settings.study import NO_FLAGS, RunConfig
from recipes.chain.study import study

__all__ = ["RIVALS", "CompareConfig", "cheapest", "main"]

RIVALS: Mapping[str, Values] = {
    "minority-class": {"minority_class": {}},
    "low-density": {"low_density": {}},
    "attribute-bits": {"attribute_bits": {}},
    **OFFERED_SETS,
}
"""The samplers that the paper and its successors compare with, beside the ordinary and the
self-guided one."""
EQUAL = ".equal"
"""What the name of a set at equal budget ends with."""
_SHOWN = 32
"""Samples of each set in the page."""
_LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class CompareConfig(MeasuringConfig):
    """Compare samplers: rarity, likeness to the real images, cost and what classifiers gain."""

    out: Path = Path("runs/compare_samplers")
    """Everything is written here; the same command again continues a run that was stopped."""
    sets: Mapping[str, Values] | Path = field(default_factory=lambda: dict(RIVALS))
    """The samplers beside plain, minority and targeted, name -> settings, or a YAML file of them;
    left out, those that the paper and its successors compare with."""
    budget: float | None = None
    """Forwards per image of the sets at equal budget; left out, an ordinary image's; 0 makes no
    such sets."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget is not None and self.budget < 0:
            raise ValueError(f"budget is {self.budget}; give forwards per image, or 0 for none")


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame | None:
    """Run the study, measure its sets, print and write the table of the samplers and return it;
    None for a preview and on other processes than the first.
    """
    config = parse(CompareConfig, arguments, presets=PRESETS, skip=NO_FLAGS)
    if config.data is None:
        config = cast("CompareConfig", with_few_labels(config))
    measuring = Measuring(config)
    with Run(config.variant()) as whole:
        inputs = prepare(whole, lambda: real_images(whole), source=config.source)
        if config.preview:
            return study(inputs, "")
        out = whole.out / "samplers"
        if whole.fabric.is_global_zero:
            own = {f.name for f in fields(CompareConfig)} - {f.name for f in fields(RunConfig)}
            claim(out / "settings.json", {n: plain(getattr(config, n)) for n in sorted(own)})
        with whole.stage("Counting what an image costs"):
            costs = _with_equals(inputs, config.budget, out / "costs.csv")
        summary = study(inputs, f"Samplers compared on {config.source}")
        assert summary is not None  # it is no preview
        with whole.stage("Measuring the sets"):
            folders = {n: whole.out / "synthetic" / n for n in whole.config.synthetic_sets}
            made = [n for n, folder in folders.items() if folder.is_dir()]
            measured = measuring(inputs, made, out)
        if not whole.fabric.is_global_zero:
            return None
        return _tell(inputs, costs, summary, measured)


def _with_equals(inputs: Inputs, budget: float | None, file: Path) -> dict[str, Cost]:
    """The cost of every set; sets at equal budget join the run."""
    this_run = inputs.run
    made = this_run.config.synthetic_sets
    costs = costs_of(inputs, made, file)
    affordable = this_run.config.sampler.steps if budget is None else budget
    described = this_run.config.described_sets
    equals = {
        f"{name}{EQUAL}": merged(described[name], {"sampler": {"steps": steps}})
        for name, settings in made.items()
        if (steps := steps_at(settings, costs[name], affordable))
    }
    config = this_run.config
    arms = config.arms and [*config.arms, *equals]
    sets = {**cast("Mapping[str, Values]", config.sets), **equals}
    this_run.config = replace(config, sets=sets, arms=arms)
    return costs_of(inputs, this_run.config.synthetic_sets, file)


def _tell(
    inputs: Inputs,
    costs: Mapping[str, Cost],
    summary: pd.DataFrame,
    measured: SetMeasures,
) -> pd.DataFrame:
    """Write and print the tables, and write the page."""
    this_run = inputs.run
    out = this_run.out / "samplers"
    table = table_of(measured.results, costs, summary)
    verdict = [
        _rarest(measured.results, table),
        _most_helpful(inputs, table),
    ]
    measured.results.write(out, read_image)
    write_csv(out / "samplers.csv", table)
    write_csv(out / "tails.csv", measured.tails)
    files = {s.name: list(s.paths[:_SHOWN]) for s in measured.results.sets}
    colours = page.colours_of(table["set"])
    sections = [
        page.samplers_section(table, measured.tails, verdict, colours),
        page.samples_section(files, {}, colours),
        page.notes_section(this_run.notes),
        page.record_section(this_run.config.record(), {}, ()),
    ]
    page.write_page(out / "samplers.html", "Samplers compared", sections)
    shown = ["set", "forwards", "seconds", "avg_knn", "lof", "rarity", "precision", "recall", "f1"]
    this_run.say(table[shown].to_string(index=False, float_format="{:.3f}".format))
    for sentence in verdict:
        this_run.say(sentence)
    this_run.say(f"Page: {out / 'samplers.html'}")
    return table


def table_of(results: Results, costs: Mapping[str, Cost], summary: pd.DataFrame) -> pd.DataFrame:
    """One row per set: cost, rarity, likeness to all real images, and the scores of its classifier.

    Args:
        results: of `measure_sets`.
        costs: of each set.
        summary: of the study, `arm, metric, mean, low, high`; the arm of a set has its name.

    Returns:
        Columns set, forwards, seconds, those of `results.table`, and f1, f1_rare and
        average_precision with their intervals; NaN where there is nothing. The first row is real.
    """
    table = with_costs(results.table, costs)
    for metric in ("f1", "f1_rare", "average_precision"):
        rows = summary[summary["metric"] == metric].set_index("arm").reindex(table["set"])
        for column, ending in (("mean", ""), ("low", "_low"), ("high", "_high")):
            table[f"{metric}{ending}"] = rows[column].to_numpy()
    return table


def cheapest(table: pd.DataFrame, equal: Sequence[str]) -> str:
    """Of the sets that cannot be told from the best, the one whose image costs the least; sets
    made elsewhere, whose cost is not known, come last.
    """
    costs = table.set_index("set")["forwards"].reindex(list(equal)).fillna(np.inf)
    return str(costs.idxmin())


def _rarest(results: Results, table: pd.DataFrame) -> str:
    """The verdict of rarity: by AvgkNN, a Welch test of each set against the best. Broken images
    are far from all that is real, so that only those in the manifold of the real ones are judged.
    """
    scores = {}
    for one in results.sets[1:]:
        images = results.images[one.name]
        inside = images["avg_knn"][images["rarity"].notna()]
        if len(inside) > 1:
            scores[one.name] = inside
    if not scores:
        return "No set has images in the manifold of the real ones, so none is called the rarest."
    best = max(scores, key=lambda name: scores[name].mean())
    equal = [
        name
        for name, own in scores.items()
        if name == best or not stats.ttest_ind(scores[best], own, equal_var=False).pvalue < _LEVEL
    ]
    what = "By AvgkNN of the images in the manifold of the real ones, the rarest are those of"
    return _sentence(what, table, best, equal)


def _most_helpful(inputs: Inputs, table: pd.DataFrame) -> str:
    """The verdict of the classifiers: macro F1, paired by seed and test image."""
    this_run = inputs.run
    trained = table.dropna(subset="f1")
    trained = trained[trained["set"].isin(list(this_run.config.chosen_arms))]
    names = [name for name in trained["set"] if name != REAL]
    if not names:
        return "No classifier was trained on one set alone, so nothing is said of what they gain."
    best = max(names, key=trained.set_index("set")["f1"].__getitem__)
    others = [REAL, *(name for name in names if name != best)]
    seeds, arms = this_run.config.study.seeds, list(this_run.config.chosen_arms)
    found = compare_arms(
        read_predictions(this_run.out, arms, seeds),
        read_predictions(this_run.out, arms, seeds, "val"),
        [(best, name) for name in others],
        train_shares(inputs.table, inputs.attributes),
    )
    is_f1 = (found["attribute"] == MACRO) & (found["metric"] == "f1")
    behind = set(found.loc[is_f1 & (found["verdict"] == "gain"), "baseline"])
    equal = [best, *(name for name in others if name not in behind)]
    what = "Of the samplers, the classifier of the highest macro F1 is that of"
    return _sentence(what, table, best, equal)


def _sentence(what: str, table: pd.DataFrame, best: str, equal: Sequence[str]) -> str:
    """What is best, what cannot be told from it, and the cheapest of these."""
    others = [name for name in equal if name != best]
    if REAL in equal:
        return (
            f"{what} {best}; not distinguishable from it: {', '.join(others)}. The cheapest is to "
            "add no images, so no sampler is shown to be worth its cost."
        )
    chosen = cheapest(table, equal)
    cost: Any = table.set_index("set").at[chosen, "forwards"]
    forwards = "an unknown number of" if np.isnan(cost) else f"{cost:.0f}"
    if not others:
        return f"{what} {best}, distinguishable from all others, at {forwards} forwards per image."
    return (
        f"{what} {best}; not distinguishable from it: {', '.join(others)}. The cheapest of these "
        f"is {chosen}, at {forwards} forwards per image."
    )


if __name__ == "__main__":
    run(main)
