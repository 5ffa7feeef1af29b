"""Which sampler is worth its cost: every one that the paper compares with, in one table.

    python recipes/compare_samplers.py                       # embedded avatars
    python recipes/compare_samplers.py --config mine.yaml    # other sets, data, generator

A study (`recipes/celeba_augment.py`) of one set a sampler, from which classifiers are trained; then
every set is placed against the real train images: how rare it is (AvgkNN, LOF, rarity), how like
it is to all of them and to their rare end by several definitions (`--tails`: Frechet distance, and
with `--encoder inception` FID and sFID; precision, recall, density, coverage), what an image costs
in forward passes of the generator and in seconds, and the F1 of the classifiers. Each sampler that
costs more than `--budget` forwards an image runs once more with as few steps as the budget pays
for, as the set `<name>.equal`; self-guidance whose strength is a `budget` then pushes as far.

It writes the study's own files, and in `samplers/` samplers.csv, tails.csv, samplers.html and the
pictures of `recipes/measure.py`. Sets, arms and everything else are set as for the study; which
strengths are right for a generator is for `--preview` and for train and val images to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from augment import L2
from augment.metrics import Encoder, Hardness, Orders, extract, frechet_distance
from augment.metrics.pictures import ImageSet
from augment.metrics.report import Results, check_sizes, likeness, measure_sets
from augment.minority_score import score_files
from classify import load_table, read_predictions
from classify import report as page
from classify.datasets import read_image
from classify.files import claim
from classify.metrics import MACRO
from recipes.celeba_augment import PRESETS, real_images, with_few_labels
from recipes.chain.command_line import parse, run
from recipes.chain.comparison import compare_arms, train_shares
from recipes.chain.cost import Cost, cost_of, steps_at
from recipes.chain.encoders import load_encoder
from recipes.chain.files import write_csv
from recipes.chain.inputs import Inputs, prepare
from recipes.chain.run import Run
from recipes.chain.settings import NO_FLAGS, RunConfig
from recipes.chain.study import study
from recipes.chain.tails import DEFAULT_TAILS, Scores, Tail, read_tails
from recipes.chain.values import Values, merged, plain
from recipes.measure import BESIDE_INCEPTION, add_frechet

__all__ = ["RIVALS", "CompareConfig", "cheapest", "main"]

RIVALS: Mapping[str, Values] = {
    "minority-class": {"minority_class": {}},
    "low-density": {"low_density": {}},
    "attribute-bits": {"attribute_bits": {}},
}
"""The samplers that the paper compares with, beside the ordinary and the self-guided one."""
EQUAL = ".equal"
"""What the name of a set at equal budget ends with."""
_SHOWN = 32
"""Samples of each set in the page."""
_LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class CompareConfig(RunConfig):
    """Compare samplers: rarity, likeness to the real images, cost and what classifiers gain."""

    out: Path = Path("runs/compare_samplers")
    """Everything is written here; the same command again continues a run that was stopped."""
    sets: Mapping[str, Values] | Path = field(default_factory=lambda: dict(RIVALS))
    """The samplers beside plain, minority and targeted, name -> settings, or a YAML file of them;
    left out, those that the paper compares with."""
    budget: float | None = None
    """Forwards an image of the sets at equal budget; left out, an ordinary image's; 0 makes no such
    sets."""
    tails: Mapping[str, Values] = field(default_factory=lambda: dict(DEFAULT_TAILS))
    """The rare ends of the real train images, name -> by, count, lowest, file."""
    encoder: str = "avatars"
    """Network whose features are measured, as for `recipes/measure.py`; inception adds FID and
    sFID."""
    weights: Path | None = None
    """A local file of a published encoder's weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget is not None and self.budget < 0:
            raise ValueError(f"budget is {self.budget}; give forwards an image, or 0 for none")
        _ = self.tails_read  # says what is wrong with one

    @property
    def tails_read(self) -> dict[str, Tail]:
        """The tails as values."""
        return read_tails(self.tails)


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame | None:
    """Run the study, measure its sets, print and write the table of the samplers and return it;
    None for a preview and on other processes than the first.
    """
    config = parse(CompareConfig, arguments, presets=PRESETS, skip=NO_FLAGS)
    if config.data is None:
        config = cast("CompareConfig", with_few_labels(config))
    encoder = load_encoder(config.encoder, weights=config.weights)
    further = BESIDE_INCEPTION if config.encoder == "inception" else {}
    encoders = {c: load_encoder(e, weights=config.weights) for c, e in further.items()}
    name = "the embedded avatars" if config.data is None else config.data.resolve().name
    with Run(config.variant()) as whole:
        inputs = prepare(whole, lambda: real_images(whole), source=name)
        if config.preview:
            return study(whole, inputs, "")
        with whole.stage("Counting what an image costs"):
            costs = _with_equals(whole, inputs, config.budget)
        summary = study(whole, inputs, f"Samplers compared on {name}")
        assert summary is not None  # it is no preview
        with whole.stage("Measuring the sets"):
            measured = _Measuring(whole, inputs, encoder, encoders).measured(config.tails_read)
        if not whole.fabric.is_global_zero:
            return None
        return _tell(whole, inputs, config, costs, summary, measured)


def _with_equals(whole: Run, inputs: Inputs, budget: float | None) -> dict[str, Cost]:
    """The cost of every set; sets at equal budget join the run."""
    made = whole.config.synthetic_sets
    costs = {name: cost_of(whole, inputs, settings) for name, settings in made.items()}
    affordable = whole.config.sampler.steps if budget is None else budget
    described = whole.config.described_sets
    equals = {
        f"{name}{EQUAL}": merged(described[name], {"sampler": {"steps": steps}})
        for name, settings in made.items()
        if (steps := steps_at(settings, costs[name], affordable))
    }
    config = whole.config
    arms = config.arms and [*config.arms, *equals]
    sets = {**cast("Mapping[str, Values]", config.sets), **equals}
    whole.config = replace(config, sets=sets, arms=arms)
    made = whole.config.synthetic_sets
    return costs | {name: cost_of(whole, inputs, made[name]) for name in equals}


@dataclass(frozen=True)
class _Measured:
    """What was measured of the sets."""

    results: Results
    """Against all real train images."""
    tails: pd.DataFrame
    """A row a tail and set: columns tail, set, real, and those of `likeness`."""


@dataclass(frozen=True)
class _Measuring:
    """Measures the sets of a run that has made them."""

    whole: Run
    inputs: Inputs
    encoder: Encoder
    further: Mapping[str, Encoder]
    """Column -> encoder of one more Frechet distance."""

    def measured(self, tails: Mapping[str, Tail]) -> _Measured:
        real = self.inputs.train.reset_index(drop=True)
        names = [n for n in self.whole.config.synthetic_sets if self._folder(n).is_dir()]
        tables = {"real": real, **{name: load_table(self._folder(name)) for name in names}}
        sets = [
            ImageSet(name=name, paths=list(map(str, t["path"])), file_names=list(t["file_name"]))
            for name, t in tables.items()
        ]
        check_sizes(sets[0], sets[1:], tail_count=None, orders=Orders())
        features = self._features(self.encoder, sets)
        beside = {column: self._features(one, sets) for column, one in self.further.items()}
        results = measure_sets(sets[0], sets[1:], features)
        add_frechet(results, beside)
        known = self._scores(real, features[0], results)
        rows = []
        for tail, one in tails.items():
            chosen = torch.from_numpy(one.rows(real["file_name"], known))
            for i, name in enumerate(names, start=1):
                row = likeness(features[i], features[0][chosen])
                row |= {c: frechet_distance(f[0][chosen], f[i]) for c, f in beside.items()}
                rows.append({"tail": tail, "set": name, "real": len(chosen), **row})
        return _Measured(results, pd.DataFrame(rows))

    def _folder(self, name: str) -> Path:
        return self.whole.out / "synthetic" / name

    def _features(self, encoder: Encoder, sets: Sequence[ImageSet]) -> list[Tensor]:
        see = partial(extract, encoder=encoder, read=read_image, cache=self.whole.out / "features")
        fabric = self.whole.fabric
        return [torch.from_numpy(see(s.paths, name=s.name, fabric=fabric)) for s in sets]

    def _scores(self, real: pd.DataFrame, features: Tensor, results: Results) -> Scores:
        """What the real train images can be ranked by."""
        score = partial(
            score_files,
            self.inputs.denoiser,
            list(real["path"]),
            L2(),
            read=read_image,
            fabric=self.whole.fabric,
        )
        return {
            "avg_knn": lambda: results.images["real"]["avg_knn"].to_numpy(),
            "minority_score": score,
            "hardness": lambda: Hardness.fitted(features)(features).numpy(),
        }


def _tell(
    whole: Run,
    inputs: Inputs,
    config: CompareConfig,
    costs: Mapping[str, Cost],
    summary: pd.DataFrame,
    measured: _Measured,
) -> pd.DataFrame:
    """Write and print the tables, and write the page."""
    out = whole.out / "samplers"
    own = {f.name for f in fields(CompareConfig)} - {f.name for f in fields(RunConfig)}
    claim(out / "settings.json", {name: plain(getattr(config, name)) for name in sorted(own)})
    table = table_of(measured.results, costs, summary)
    verdict = [
        _rarest(measured.results, table),
        _most_helpful(whole, inputs, table),
    ]
    measured.results.write(out, read_image)
    write_csv(out / "samplers.csv", table)
    write_csv(out / "tails.csv", measured.tails)
    files = {s.name: list(s.paths[:_SHOWN]) for s in measured.results.sets}
    colours = page.colours_of(table["set"])
    sections = [
        page.samplers_section(table, measured.tails, verdict, colours),
        page.samples_section(files, {}, colours),
        page.notes_section(whole.notes),
        page.record_section(whole.config.record(), {}, ()),
    ]
    page.write_page(out / "samplers.html", "Samplers compared", sections)
    shown = ["set", "forwards", "seconds", "avg_knn", "lof", "rarity", "precision", "recall", "f1"]
    whole.say(table[shown].to_string(index=False, float_format="{:.3f}".format))
    for sentence in verdict:
        whole.say(sentence)
    whole.say(f"Page: {out / 'samplers.html'}")
    return table


def table_of(results: Results, costs: Mapping[str, Cost], summary: pd.DataFrame) -> pd.DataFrame:
    """A row a set: cost, rarity, likeness to all real images, and the scores of its classifier.

    Args:
        results: of `measure_sets`.
        costs: of each set.
        summary: of the study, `arm, metric, mean, low, high`; the arm of a set has its name.

    Returns:
        Columns set, forwards, seconds, those of `results.table`, and f1, f1_rare and
        average_precision with their intervals; NaN where there is nothing. The first row is real.
    """
    table = results.table.copy()
    costs = {"real": Cost(), **costs}
    for place, column in enumerate(("forwards", "seconds"), start=1):
        values = [getattr(costs.get(name, Cost()), column) for name in table["set"]]
        table.insert(place, column, values)
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
    """The verdict of rarity: by AvgkNN, a Welch test of each set against the best."""
    scores = {s.name: results.images[s.name]["avg_knn"] for s in results.sets[1:]}
    best = max(scores, key=lambda name: scores[name].mean())
    equal = [
        name
        for name, own in scores.items()
        if name == best or stats.ttest_ind(scores[best], own, equal_var=False).pvalue >= _LEVEL
    ]
    return _sentence("By AvgkNN the rarest images are those of", table, best, equal)


def _most_helpful(whole: Run, inputs: Inputs, table: pd.DataFrame) -> str:
    """The verdict of the classifiers: macro F1, paired by seed and test image."""
    trained = table.dropna(subset="f1")
    trained = trained[trained["set"].isin(list(whole.config.chosen_arms))]
    names = [name for name in trained["set"] if name != "real"]
    if not names:
        return "No classifier was trained on one set alone, so nothing is said of what they gain."
    best = max(names, key=trained.set_index("set")["f1"].__getitem__)
    others = [name for name in names if name != best]
    seeds, arms = whole.config.study.seeds, list(whole.config.chosen_arms)
    found = compare_arms(
        read_predictions(whole.out, arms, seeds),
        read_predictions(whole.out, arms, seeds, "val"),
        [(best, name) for name in others],
        train_shares(inputs.table, inputs.attributes),
    )
    is_f1 = (found["attribute"] == MACRO) & (found["metric"] == "f1")
    behind = set(found.loc[is_f1 & (found["verdict"] == "gain"), "baseline"])
    equal = [best, *(name for name in others if name not in behind)]
    return _sentence("The classifier of the highest macro F1 is that of", table, best, equal)


def _sentence(what: str, table: pd.DataFrame, best: str, equal: Sequence[str]) -> str:
    chosen = cheapest(table, equal)
    cost: Any = table.set_index("set").at[chosen, "forwards"]
    forwards = "an unknown number of" if np.isnan(cost) else f"{cost:.0f}"
    others = [name for name in equal if name != best]
    if not others:
        return f"{what} {best}, distinguishable from all others, at {forwards} forwards an image."
    return (
        f"{what} {best}; not distinguishable from it: {', '.join(others)}. The cheapest of these "
        f"is {chosen}, at {forwards} forwards an image."
    )


if __name__ == "__main__":
    run(main)
