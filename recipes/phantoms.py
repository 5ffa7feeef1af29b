"""Do minority samples help where the true density is known? Chests drawn by code, rare findings.

    python recipes/phantoms.py

Grey cross-sections of 32 pixels with six findings, the rarest in 2 of 100 subjects, split by
subject; 300 train and 200 val images count as labelled. The embedded generator, phantoms-32, was
trained on 20,000 images of other subjects, without labels; its card.json has the commands. Beside
the study's table it prints how the measures of rarity rank real test images against the density
that these were drawn from, and which density the images of each set have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from augment.metrics import avg_knn, lof
from augment.minority_score import score_files
from classify import read_image
from classify.datasets.phantoms import FINDINGS, log_density, phantom_table
from recipes.chain.checks import check_attributes
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.files import write_csv
from recipes.chain.command.sources import GENERATORS
from recipes.chain.drawing import own_data
from recipes.chain.finished import synthetic_table
from recipes.chain.images.realism import generator_view, seen
from recipes.chain.inputs import Inputs, prepare
from recipes.chain.run import Run
from recipes.chain.settings.distances import ModelDistance, score_distance
from recipes.chain.settings.study import NO_FLAGS, RunConfig
from recipes.chain.study import study
from recipes.sample_quality import rank_agreement

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "demo": {
        "num_synthetic": 300,
        "sampler.steps": 100,  # with 50, pixels are noisier than the real ones'
        "sampler.batch_size": 50,
        "guidance.scale": 1.0,
        "labels.soft": True,
        "train.loss.beta": 0.999,  # class-balanced, in every arm
        "train.min_steps": 160,
        "train.augmentation.flip": False,  # the heart is on one side
    },
    "paper": {
        "num_synthetic": 10_000,
        "sampler.steps": 250,
        "guidance.distance": "lpips",
        "arms": ["real", "plain", "minority"],
        "study.seeds": 5,
        "train.epochs": 10,
        "train.augmentation.flip": False,
    },
}
"""Where the presets differ from the dataclasses' defaults."""
_SPARSE = 0.1
"""Share of the real test images that counts as the sparsest."""


@dataclass(frozen=True, kw_only=True)
class PhantomsConfig(RunConfig):
    """The whole chain, on phantoms of known density."""

    out: Path = Path("runs/phantoms")
    """Everything is written here; the same command again continues a run that was stopped."""
    generator: str = field(default="phantoms-32", metadata=GENERATORS)
    """Embedded name, diffusers folder or hub id of a grey model."""
    num_real: int | None = 300
    """Labelled train images used, drawn so that rare findings are among them."""
    num_val: int | None = 200
    """Labelled val images used, drawn likewise."""
    score: ModelDistance = "l2"
    """Distance of the minority score that is compared with the density: activations (the
    generator's own), lpips, l1 or l2."""


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame | None:
    """Run the study; its summary (`arm, metric, mean, low, high, n_seeds`), None for a preview."""
    config = parse(PhantomsConfig, arguments, presets=PRESETS, skip=(*NO_FLAGS, "data"))
    title = "Phantoms with and without synthetic samples"
    with Run(config) as this_run:
        inputs = prepare(
            this_run,
            lambda: _read(this_run),
            source="phantoms",
            log_probability=lambda table: log_density(_pixels(table)),
        )
        summary = study(inputs, title)
        if summary is not None:
            with this_run.stage("Comparing with the true density"):
                _compare(inputs, config.score)
        return summary


def _read(this_run: Run) -> pd.DataFrame:
    """The phantoms, drawn at the first run."""
    check_attributes(this_run.config.attributes, tuple(FINDINGS))
    return own_data(this_run, phantom_table)


def _compare(inputs: Inputs, distance: ModelDistance) -> None:
    """Write and print `ranks.csv` and `density.csv`."""
    this_run = inputs.run
    ranks = rank_agreement({"real test": _measured(inputs, distance)})
    ranks = ranks[ranks["against"] == "log_probability"].drop(columns="against")
    density = _densities(inputs)
    if this_run.fabric.is_global_zero:
        write_csv(this_run.out / "ranks.csv", ranks)
        write_csv(this_run.out / "density.csv", density)
        print("\nSpearman's rank correlation with minus the true log-density")
        print(ranks.to_string(index=False, float_format="{:+.2f}".format))
        print("\nTrue log-density (nats) of each set's images, labelled or not")
        print(density.to_string(index=False, float_format="{:.2f}".format))


def _measured(inputs: Inputs, distance: ModelDistance) -> pd.DataFrame:
    """The measures of rarity of each real test image, and its log-density."""
    denoiser, fabric = inputs.denoiser, inputs.run.fabric
    test = inputs.table[inputs.table["split"] == "test"]
    views = {"generator": generator_view(denoiser, fabric)}
    known, found = (
        seen(list(rows["path"]), views, denoiser.image.size, fabric)["generator"]
        for rows in (inputs.train, test)
    )
    return pd.DataFrame(
        {
            "avg_knn": avg_knn(found, known),
            "lof": lof(found, known, k=min(20, len(known) - 1)),
            "minority_score": score_files(
                denoiser,
                list(test["path"]),
                score_distance(distance, denoiser),
                read=read_image,
                fabric=fabric,
            ),
            "log_probability": log_density(_pixels(test)),
        }
    )


def _densities(inputs: Inputs) -> pd.DataFrame:
    """A row for the real test images and for each set: columns `set, images, log_density,
    sparsest`, the mean, and the share among the tenth of the real images of the lowest density.
    """
    out, names = inputs.run.out, inputs.run.config.synthetic_sets
    real = log_density(_pixels(inputs.table[inputs.table["split"] == "test"]))
    sets = {"real test": real} | {
        name: log_density(_pixels(synthetic_table(out, name))) for name in names
    }
    bound = np.quantile(real, _SPARSE)
    return pd.DataFrame(
        [(name, len(d), d.mean(), (d <= bound).mean()) for name, d in sets.items()],
        columns=["set", "images", "log_density", "sparsest"],
    )


def _pixels(table: pd.DataFrame) -> NDArray[np.uint8]:
    """Grey (N, S, S)."""
    return np.stack([np.asarray(read_image(path).convert("L")) for path in table["path"]])


if __name__ == "__main__":
    run(main)
