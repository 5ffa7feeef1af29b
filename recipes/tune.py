"""Choose how an arm uses synthetic images, on train and val rows alone.

    pip install ".[tune]"                                      # Optuna
    python recipes/tune.py --trials 30                         # the embedded avatars
    python recipes/celeba_augment.py --config runs/tune/tuned.yaml

A trial draws settings of a set of images (how strongly and how often it is guided and steered, how
many images) and of the arm that trains on it (what of the repeats is replaced, what a synthetic
image counts, how long real images train alone at the end), makes the images, fits the arm with
several seeds, and is given up early if it falls behind the median. Optuna draws the trials. The
best settings become `tuned.yaml`, an arm named `tuned` beside the others of the main job.

Test rows are dropped before anything is done. Of the val rows one half does what val does in a
study (it chooses the weights of a fit, the labeler's thresholds and those of `f1_fitted`), and the
other half, which chose none of that, gives the value of a trial. The best of many values is
too good all the same; what the settings gain, the main job says on the test rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import pandas as pd
import yaml

from classify import attribute_columns, labelled_attributes, run_study
from classify.files import write_text
from classify.metrics import MACRO
from recipes.celeba_augment import PRESETS, real_images, with_few_labels
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.files import write_csv
from recipes.chain.command.loggers import logger_of
from recipes.chain.command.values import Values, difference, merged, nested, plain, read_mapping
from recipes.chain.draw import halved, labelled_draw
from recipes.chain.images.synthesis import synthesise
from recipes.chain.inputs import Inputs, prepare
from recipes.chain.run import Run
from recipes.chain.search import Search, check_space
from recipes.chain.settings.arms import make_arm
from recipes.chain.settings.study import NO_FLAGS, RunConfig
from recipes.chain.study import judge_of, material_of

TUNED = "tuned"
"""Name of the set and the arm."""
SKIPPED = (*NO_FLAGS, "preview", "arms", "controls", "focus", "tuned")
"""Settings of a study that this command has no use for."""
SPACE: Mapping[str, Any] = {
    "set.guidance.scale": [0.5, 1.0, 2.0],
    "set.steering.scale": [1.0, 3.0],
    "set.count": [300, 600],
    "arm.rows": ["once", "replaced"],
    "arm.repeats.replaced": {"low": 0.25, "high": 1.0},
    "arm.train.loss.beta": [0.0, 0.999],
    "arm.train.mixing.weight": {"low": 0.2, "high": 1.0},
    "arm.train.second_stage.share": {"low": 0.0, "high": 0.4},
}
"""What the images depend on has few choices, so that trials share them."""


@dataclass(frozen=True, kw_only=True)
class TuneConfig(RunConfig):
    """Choose how an arm uses synthetic images, on train and val rows alone."""

    may_grow: ClassVar[bool] = False  # its trials were judged by as many seeds

    out: Path = Path("runs/tune")
    """Everything is written here; the same command again continues a search that was stopped."""
    trials: int = 30
    """Settings tried, those that were given up included; a larger number continues a search."""
    objective: Literal["f1", "average_precision", "f1_fitted"] = "f1"
    """Macro score that is maximised, the mean over study.seeds fits: F1 at 0.5, average precision,
    or F1 at thresholds fitted on the other half of val."""
    search_seed: int = 0
    """Seed of the search."""
    base_set: Values = field(default_factory=lambda: {"guidance": {}, "steering": {}})
    """The set that is tuned, as in `sets`; the space changes it."""
    base_arm: Values = field(default_factory=dict)
    """The arm that is tuned, as in `define_arms`; the space changes it."""
    space: Mapping[str, Any] | Path = field(default_factory=lambda: dict(SPACE))
    """What is chosen: a setting of the set (`set.count`) or of the arm (`arm.train.lr`) -> its
    choices, or {low, high}; or a YAML file of that."""

    def __post_init__(self) -> None:
        if isinstance(self.space, Path):
            object.__setattr__(self, "space", read_mapping(self.space))
        super().__post_init__()
        if self.trials < 1:
            raise ValueError(f"trials is {self.trials}; give at least 1, better 20 or more")
        space = cast("Mapping[str, Any]", self.space)
        check_space(space)
        if "set.steering.by" in space:
            raise ValueError(
                "space names set.steering.by, and models are loaded once for all trials; give it "
                "in base_set"
            )
        _ = self.tuned_by(self.start)  # says what is wrong with a name or a value

    @property
    def choices(self) -> dict[str, Any]:
        """The space, the values that the search starts from among the choices."""
        space, start = cast("Mapping[str, Any]", self.space), self.start
        return {
            path: allowed
            if isinstance(allowed, Mapping) or start[path] in allowed
            else [start[path], *allowed]
            for path, allowed in space.items()
        }

    @property
    def start(self) -> dict[str, Any]:
        """The run's own settings of what is chosen, moved into the ranges."""
        made = self.tuned_by({})
        arm = plain(asdict(made.chosen_arms[TUNED]))
        arm["train"] = merged(plain(asdict(self.train)), arm["train"])
        settings = {"set": plain(asdict(made.synthetic_sets[TUNED])), "arm": arm}
        found = {}
        for path, allowed in cast("Mapping[str, Any]", self.space).items():
            value: Any = settings
            for name in path.split("."):
                if not isinstance(value, Mapping) or name not in value:
                    raise ValueError(
                        f"space names {path}, which the tuned set and arm do not have; correct it, "
                        "or give them that part by base_set or base_arm"
                    )
                value = value[name]
            if isinstance(allowed, Mapping):
                low, high = allowed["low"], allowed["high"]
                value = low if value is None else min(max(value, low), high)
            found[path] = value
        return found

    def tuned_by(self, chosen: Mapping[str, Any], **changes: Any) -> RunConfig:
        """A run of real images alone and of the arm with the chosen settings."""
        own = nested(chosen)
        arm = merged({"sets": [TUNED], **self.base_arm}, own.get("arm", {}))
        made = merged(self.base_set, own.get("set", {}))
        return self.variant(
            sets={**cast("Mapping[str, Values]", self.sets), TUNED: made},
            define_arms={**self.define_arms, TUNED: arm},
            **{"arms": ["real", TUNED], "controls": [], "focus": TUNED, **changes},
        )


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame | None:
    """Search; writes `trials.csv` and `tuned.yaml`, returns the trials (None but on the first
    process).
    """
    config = parse(TuneConfig, arguments, presets=PRESETS, skip=SKIPPED)
    if config.data is None:
        config = cast("TuneConfig", with_few_labels(config))
    with Run(config) as whole:
        with whole.doing("reading the data"):
            table = without_test(real_images(whole), config)
        if whole.fabric.is_global_zero:
            whole.claim()
        whole.fabric.barrier()
        of_models = config.tuned_by({}, out=config.out / "models", **_ALL_ROWS)
        with Run(of_models, within=whole) as models:
            source = "the embedded avatars" if config.data is None else config.data.resolve().name
            inputs = prepare(models, lambda: table, source=source)
        search = Search(
            config.out / "trials.log",
            config.choices,
            config.start,
            seed=config.search_seed,
            fabric=whole.fabric,
        )
        while (chosen := search.next(config.trials)) is not None:
            whole.say(f"trial: {', '.join(f'{k} {_short(v)}' for k, v in chosen.items())}")
            with whole.doing("trying settings"):
                _try(whole, config, inputs, search, chosen)
        return _tell(whole, config, search) if whole.fabric.is_global_zero else None


def without_test(table: pd.DataFrame, config: RunConfig) -> pd.DataFrame:
    """The train rows and the val rows that a study would use; half of the latter stand in for the
    test rows, which are dropped.
    """
    table = table[table["split"] != "test"].reset_index(drop=True)
    attributes = labelled_attributes(table, config.attributes or attribute_columns(table))
    table = labelled_draw(table, attributes, config.num_real, config.num_val)
    return halved(table, attributes)


_RUNG = 2
"""Fits after which a trial may be given up; two processes make them at once."""
_ALL_ROWS: Mapping[str, Any] = {
    "num_real": None,
    "num_val": None,
    "judge": None,
    "allow_unlike": True,
}
"""Settings for a table whose rows are drawn already, and images that nobody is shown; what unlike
ones are worth, a trial's score says."""


def _try(
    whole: Run, config: TuneConfig, inputs: Inputs, search: Search, chosen: Mapping[str, Any]
) -> None:
    """Make the images, where no earlier trial made them, and fit until the trial is given up."""
    settings = config.tuned_by(chosen, **_ALL_ROWS)
    look = plain(asdict(settings.synthetic_sets[TUNED]))
    del look["count"]  # a smaller number is the first of a larger one
    folder = config.out / "sets" / _name(look)
    with Run(replace(settings, out=folder), within=whole) as trial:
        own = replace(inputs, run=trial)
        try:
            sets = synthesise(own, judge_of(own))
        except ValueError as error:  # such as no image that admission takes
            search.give_up()
            return whole.say(f"given up: {error}")
        arm = make_arm(settings.chosen_arms[TUNED], material_of(own, sets))
    n_real = int((inputs.table["split"] == "train").sum())
    for seeds in (*range(_RUNG, config.study.seeds, _RUNG), config.study.seeds):
        scores = run_study(
            {TUNED: arm},
            inputs.attributes,
            inputs.fit,
            seeds=seeds,
            out=config.out / "trials" / _name(chosen),
            fabric=whole.fabric,
            steps=inputs.fit.steps(n_real),
            cache=whole.cache,
            skip_bad=config.skip_bad,
            logger=logger_of(config.logger),
        )
        is_value = (scores["attribute"] == MACRO) & (scores["metric"] == config.objective)
        value = float(scores.loc[is_value & (scores["split"] == "test"), "value"].mean())
        if seeds < config.study.seeds and search.hopeless(seeds, value):
            return whole.say(f"given up at {value:.3f}")
    search.finish(value)
    return whole.say(f"{config.objective} {value:.3f} on the val rows that chose nothing")


def _tell(whole: Run, config: TuneConfig, search: Search) -> pd.DataFrame:
    trials = search.table()
    done = trials[trials["state"] == "complete"]
    if done.empty:
        raise ValueError(
            f"none of {len(trials)} trials could be finished, as told above; give another --space "
            "and another --out"
        )
    note = (
        f"The arm {TUNED} was chosen by {len(trials)} trials of recipes/tune.py "
        f"({len(trials) - len(done)} given up early) for {config.objective} on half of the "
        f"validation images: {done['value'].max():.3f}, and {trials['value'].iloc[0]:.3f} with the "
        "settings that it started from."
    )
    write_csv(config.out / "trials.csv", trials)
    plain_run = parse(RunConfig, [f"--preset={config.preset}"], presets=PRESETS, skip=NO_FLAGS)
    arms = None if plain_run.arms is None else [*plain_run.arms, TUNED]
    final = config.tuned_by(search.best(), arms=arms, controls=plain_run.controls, tuned=note)
    given = difference(plain_run.record(), final.record())
    kept = {name: value for name, value in given.items() if name not in _OWN}
    comment = f"# {note}\n# python recipes/celeba_augment.py --config {config.out}/tuned.yaml\n"
    text = yaml.safe_dump(kept | {"preset": config.preset}, sort_keys=False)
    write_text(config.out / "tuned.yaml", comment + text)
    whole.say(f"{note}\nSettings: {config.out / 'tuned.yaml'}")
    return trials


_OWN = ("out", "devices", "num_nodes", "study")
"""Settings that are the search's, and not the main job's."""


def _name(settings: Mapping[str, Any]) -> str:
    """Name of a folder, by what is in it."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    run(main)
