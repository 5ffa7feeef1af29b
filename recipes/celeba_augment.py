"""Does it help a classifier of faces to train on generated minority samples?

    python recipes/celeba_augment.py                       # embedded avatars, minutes on 2 cores
    python recipes/celeba_augment.py --data CELEBA --preset paper --generator SRC
    python recipes/celeba_augment.py --data FOLDER --generator SRC --labeler train

Images are generated with a pretrained diffusion model: ordinary ones (`plain`), ones of low density
(`minority`, the self-guided sampler of Um & Ye, ECCV 2024), and such that are steered to rare
attributes too (`targeted`). A labeler labels them, by default a linear head on the generator's own
activations; each set is added to the real training images, a ResNet-18 is trained with several
seeds, and judged on real test images. Of the embedded images 300 count as labelled, which
`--num_real` changes. The paper reports for CelebA F1 .746 / .742 / .757 (real / plain / minority),
precision .815 / .808 / .822, recall .710 / .711 / .724.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from augment import embedded_generators
from classify import FitConfig, load_table
from classify.datasets.avatars import ATTRIBUTES, avatar_table, log_probability
from classify.datasets.medmnist import medmnist_table
from recipes.chain.checks import check_attributes
from recipes.chain.command.command_line import parse, run
from recipes.chain.drawing import own_data
from recipes.chain.inputs import prepare
from recipes.chain.run import Run
from recipes.chain.settings.study import NO_FLAGS, RunConfig, fit_settings
from recipes.chain.study import study

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "demo": {
        "num_synthetic": 300,
        "sampler.steps": 50,
        "sampler.batch_size": 50,  # so that two processes have equally much to do
        "guidance.scale": 1.0,  # at 0.4 the embedded generator's images are hardly rarer
        "guidance.perturb_alpha_bar": 0.0792,  # 0.8 of these 50 steps
        "labels.soft": True,
        "train.loss.beta": 0.999,  # class-balanced, in every arm: the best of the usual remedies
        "train.min_steps": 160,
        "precision": "auto",
        "study.seeds": 5,
    },
    "paper": {
        "num_synthetic": 50_000,
        "sampler.steps": 250,
        "sampler.batch_size": 256,
        "guidance.scale": 0.4,
        "guidance.every": 5,
        "guidance.perturb": 0.8,
        "guidance.distance": "lpips",
        "labeler": "train",
        "arms": ["real", "plain", "minority"],
        "study.seeds": 5,
        **fit_settings(FitConfig.paper()),
    },
}
"""Where the presets differ from the dataclasses' defaults."""


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame | None:
    """Run the study; its summary (`arm, metric, mean, low, high, n_seeds`), None for a preview."""
    config = parse(RunConfig, arguments, presets=PRESETS, skip=NO_FLAGS)
    if config.data is None:
        config = with_few_labels(config)
    name = "Avatars" if config.data is None else config.data.resolve().name
    with Run(config) as this_run:
        inputs = prepare(
            this_run,
            lambda: real_images(this_run),
            source="the embedded avatars" if config.data is None else name,
            # of whole attribute vectors only
            log_probability=None if config.data or config.attributes else _avatar_log_probability,
        )
        if config.data is not None and config.generator in embedded_generators():
            this_run.caution(
                f"The images added are {config.generator}'s, not of the kind of {name}: "
                "for a real study give --generator one trained on such images, and --labeler."
            )
        celebas = set(ATTRIBUTES) - {"Attractive"} <= set(inputs.attributes)
        title = f"{name} with and without synthetic samples"
        return study(inputs, title, reference=celebas)


def with_few_labels(config: RunConfig) -> RunConfig:
    """Of the embedded images few count as labelled, as where labels are dear; the embedded labeler,
    which has seen others, checks what the generator's own head steered, and labels nothing.
    """
    return replace(
        config,
        num_real=config.num_real or 300,
        num_val=config.num_val or 200,
        judge=config.judge or (None if "avatars" in config.labelers else "avatars"),
    )


def real_images(this_run: Run) -> pd.DataFrame:
    """The user's images, or the embedded ones; at the first run MedMNIST's file is unpacked, and
    these are drawn.
    """
    data, attributes = this_run.config.data, this_run.config.attributes
    if data is None:
        check_attributes(attributes, ATTRIBUTES)
        return own_data(this_run, avatar_table)
    if data.suffix == ".npz":
        return own_data(this_run, partial(medmnist_table, source=data))
    return load_table(data, attributes)


def _avatar_log_probability(table: pd.DataFrame) -> Any:
    # `Attractive`, unlabelled, is ignored
    vectors = table.reindex(columns=list(ATTRIBUTES)).fillna(0)
    return log_probability(vectors.to_numpy(int))


if __name__ == "__main__":
    run(main)
