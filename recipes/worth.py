"""How many more labelled real images are the synthetic ones worth?

    python recipes/worth.py                                    # the embedded avatars
    python recipes/worth.py --data CELEBA --generator SRC --labeler MODEL --sizes 300 1000 3000

Classifiers are fitted on so many labelled real images, alone and with synthetic ones. The synthetic
images have their labels in three ways, since it is the labels that the gain hangs on: from a
labeler from elsewhere, from a linear head on the generator's activations fitted on the same few
images, and from a network trained on these. Real images alone, with and without repeats, give the
learning curve; the exchange rate of an arm is the number of labelled real images at which that
curve reaches the arm's score. What labels also steers, unlike in the study. Validation images come
in proportion; they choose the weights, and which arm of real images alone is the curve. The test
images choose nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import pandas as pd

from classify import run_study, with_rare
from recipes.celeba_augment import PRESETS as STUDY_PRESETS
from recipes.celeba_augment import real_images
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.files import write_csv, write_figure
from recipes.chain.command.loggers import logger_of
from recipes.chain.command.sources import FITTED, GENERATOR, LABELERS, TRAIN
from recipes.chain.command.values import Values
from recipes.chain.images.making import is_independent, make_images
from recipes.chain.images.synthesis import synthesise
from recipes.chain.inputs import prepare
from recipes.chain.results.comparison import train_shares
from recipes.chain.results.learning_curve import ANY, chart, curves, exchanged, sentence
from recipes.chain.run import Run
from recipes.chain.settings.arms import Material, make_arm
from recipes.chain.settings.study import NO_FLAGS, RunConfig
from recipes.chain.study import judge_of, material_of

Knowledge = Literal["elsewhere", "generator", "few"]

SKIPPED = (*NO_FLAGS, "num_real", "judge", "preview")
"""Settings of a study that this command has no use for."""
OF_ONE_STUDY = ("arms", "labeler")
PRESETS = {
    preset: {name: value for name, value in values.items() if name not in OF_ONE_STUDY}
    # The generator's head would steer alike, whatever the labels come from.
    | {"steering.by": "labeler"}
    for preset, values in STUDY_PRESETS.items()
}
"""The studies' own, but for what is compared here, and for the time that so many fits take."""
PRESETS["demo"] |= {"study.seeds": 3}

_LEAST_VAL = 200


@dataclass(frozen=True, kw_only=True)
class WorthConfig(RunConfig):
    """How many more labelled real images are the synthetic ones worth?"""

    out: Path = Path("runs/worth")
    """Everything is written here; the same command again continues one that was stopped."""
    sizes: list[int] | None = None
    """Numbers of labelled real train images, of which each holds the smaller ones; left out, 100,
    300, 1000, 3000 and so on, and all."""
    knowledge: list[Knowledge] | None = None
    """Where labels of synthetic images come from: elsewhere (--labeler), generator (a head on its
    activations) or few (a network), both fitted on the same few images; left out, all three, but
    elsewhere only where there is such a labeler."""
    labeler: list[str] | str = field(default=GENERATOR, metadata=LABELERS)
    """The labeler from elsewhere; left out, avatars for the embedded images, none for others."""
    arms: list[str] | None = field(
        default_factory=lambda: ["real", "oversample", "minority", "targeted"]
    )
    """Arms to train; those of real images alone, `real` among them, make the learning curve."""
    num_val: int | None = None
    """Labelled val images at every size; left out, in proportion to the train images, at least
    200 or all: they judge the labels too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sizes is not None and (len(self.sizes) < 2 or sorted({*self.sizes}) != self.sizes):
            raise ValueError(
                f"sizes are {self.sizes}; give at least two ascending numbers, such as 100 300 1000"
            )
        if self.focus_arm is None:
            raise ValueError(
                f"arms are {', '.join(self.chosen_arms)}; add one with a synthetic set, such as "
                "targeted, whose worth is asked for"
            )
        if self.knowledge is not None and not set(self.knowledge) <= self.labeler_of.keys():
            raise ValueError(
                "knowledge names elsewhere, and no labeler is from there; give --labeler, or "
                "--knowledge generator few"
            )

    @property
    def labeler_of(self) -> dict[Knowledge, list[str] | str]:
        """What is known of the images' labels -> the labeler of a run that knows it."""
        ready = not set(self.labelers) & set(FITTED)
        own = self.labeler if ready else "avatars" if self.data is None else None
        known: dict[Knowledge, list[str] | str] = {} if own is None else {"elsewhere": own}
        known |= {"generator": GENERATOR, "few": TRAIN}
        return {k: v for k, v in known.items() if self.knowledge is None or k in self.knowledge}

    def resolved_sizes(self, n: int) -> list[int]:
        """The sizes, of n labelled train images.

        Raises:
            ValueError: more than there are, or too few for several sizes.
        """
        sizes = self.sizes or [m * 10**k for k in range(2, 8) for m in (1, 3) if m * 10**k <= n / 2]
        sizes = sizes if self.sizes else [*sizes, n]
        if len(sizes) < 2 or sizes[-1] > n:
            raise ValueError(
                f"sizes are {sizes}, and the data have {n} train rows; give at least two ascending "
                "numbers up to that"
            )
        return sizes

    def cell(self, size: int, knowledge: Knowledge, num_val: int) -> RunConfig:
        """The run of one size and knowledge; images that are the same for all it only finds."""
        found = {name: {"folder": self.images(name)} for name in self.shared}
        return self.variant(
            out=self.out / str(size) / knowledge,
            labeler=self.labeler_of[knowledge],
            num_real=size,
            num_val=num_val,
            sets={**cast("Mapping[str, Values]", self.sets), **found},
        )

    @property
    def real_arms(self) -> list[str]:
        """Those of the learning curve, of real images alone."""
        return [name for name, arm in self.chosen_arms.items() if arm.is_real_alone]

    @property
    def shared(self) -> list[str]:
        """Sets whose images are the same at all sizes and for all labelers."""
        return [name for name, made in self.synthetic_sets.items() if is_independent(made)]

    def images(self, name: str) -> Path:
        """Where the images of a shared set are."""
        return self.out / "images" / name


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame:
    """Run it all; writes `worth.csv`, `exchange.csv`, `scores.csv` and `worth.png`, returns the
    table of `exchange.csv`.
    """
    config = parse(WorthConfig, arguments, presets=PRESETS, skip=SKIPPED)
    with Run(config) as whole:
        with whole.doing("reading the data"):
            table = real_images(whole)
        counts = table["split"].value_counts()
        sizes = config.resolved_sizes(int(counts.get("train", 0)))
        if whole.fabric.is_global_zero:
            whole.claim()
        whole.fabric.barrier()
        scores = pd.concat([_scores(whole, config, table, size) for size in sizes])
        focus = config.focus_arm
        worth, exchange = curves(scores), exchanged(scores, config.real_arms)
        if whole.fabric.is_global_zero:
            tables = {"scores": scores, "worth": worth, "exchange": exchange}
            for name, told in tables.items():
                write_csv(config.out / f"{name}.csv", told)
            write_figure(config.out / "worth.png", chart(worth, exchange, focus))
            print(exchange[exchange["metric"] == "f1"].round(3).to_string(index=False))
            print(sentence(exchange, focus))
    return exchange


def _scores(whole: Run, config: WorthConfig, table: pd.DataFrame, size: int) -> pd.DataFrame:
    """Scores of all arms at one size; columns `size, knowledge` before those of `run_study`."""
    n_train, n_val = (int((table["split"] == split).sum()) for split in ("train", "val"))
    num_val = config.num_val or min(n_val, max(_LEAST_VAL, round(size * n_val / n_train)))
    cells = {}
    for knowledge in config.labeler_of:
        whole.say(f"{size} labelled images, labels by: {knowledge}")
        with whole.doing(f"making the images for {size} labelled ones, labels by {knowledge}"):
            cells[knowledge] = _cell(whole, config, table, config.cell(size, knowledge, num_val))
    arms, knows = {}, {}
    for name, settings in config.chosen_arms.items():
        for knowledge, material in cells.items():
            known = ANY if settings.is_real_alone else knowledge
            arm = name if settings.is_real_alone else f"{name}.{knowledge}"
            if arm not in arms:
                arms[arm], knows[arm] = make_arm(settings, material), (name, known)
    material = next(iter(cells.values()))
    with whole.stage(f"Training the classifiers on {size} labelled images"):
        scores = run_study(
            arms,
            material.attributes,
            material.fit,
            seeds=config.study.seeds,
            out=config.out / str(size),
            fabric=whole.fabric,
            cache=whole.cache,
            skip_bad=config.skip_bad,
            logger=logger_of(config.logger),
        )
    scores = with_rare(scores, train_shares(table, material.attributes))
    whose, whence = zip(*scores["arm"].map(knows), strict=True)
    return scores.assign(arm=whose, size=size, knowledge=whence)[["size", "knowledge", *scores]]


def _cell(whole: Run, config: WorthConfig, table: pd.DataFrame, of_cell: RunConfig) -> Material:
    """What the arms of one size and knowledge are made of."""
    for name in config.shared:
        config.images(name).mkdir(parents=True, exist_ok=True)
    with Run(of_cell, within=whole) as cell:
        source = "the embedded avatars" if config.data is None else str(config.data)
        inputs = prepare(cell, lambda: table, source=source)
        for name in config.shared:
            made = config.synthetic_sets[name]
            count = max(made.count or 0, config.limit or 0)
            make_images(inputs, made, range(count), config.images(name))
        return material_of(inputs, synthesise(inputs, judge_of(inputs)))


if __name__ == "__main__":
    run(main)
