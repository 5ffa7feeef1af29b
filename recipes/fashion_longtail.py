"""Do minority samples help on real photographs? Fashion-MNIST, long-tailed, an attribute a class.

    python recipes/fashion_longtail.py --data /usr/share/datasets/fashion-mnist
    python recipes/fashion_longtail.py                        # torchvision downloads the four files

12,408 training images, 5,000 of the most common class down to 50 of the rarest; a generator trained
on these alone (shipped), a labeler fitted on these alone. Validation and test are real and
balanced.

Where 1,000 of these images are labelled (`--num_real 1000 --num_val 500`), minority samples beside
repeats of the rare images reach a macro F1 of .745, and the repeats alone .707 (+.038 [.020, .056],
3 seeds; 23 minutes of one core; arms and flags: RESULTS.md). Where all are, they gain nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from classify.datasets.fashion import CLASSES, fashion_longtail_table
from recipes.chain.checks import check_attributes
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.sources import GENERATORS
from recipes.chain.drawing import own_data
from recipes.chain.inputs import prepare
from recipes.chain.run import Run
from recipes.chain.settings.study import NO_FLAGS, RunConfig
from recipes.chain.study import study

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "demo": {
        "num_synthetic": 1000,
        "sampler.steps": 50,
        "guidance.perturb_alpha_bar": 0.0792,  # 0.8 of these 50 steps
        "train.epochs": 2,
    },
    "paper": {
        "num_synthetic": 10_000,
        "sampler.steps": 250,
        "guidance.perturb": 0.8,
        "guidance.distance": "lpips",
        "arms": ["real", "plain", "minority"],
        "labeler": "train",
        "study.seeds": 5,
        "train.epochs": 10,
    },
}
"""Where the presets differ from the dataclasses' defaults."""


@dataclass(frozen=True, kw_only=True)
class FashionConfig(RunConfig):
    """The whole chain, on Fashion-MNIST."""

    out: Path = Path("runs/fashion_longtail")
    """Everything is written here; the same command again continues a run that was stopped."""
    data: Path | None = None
    """Holds Fashion-MNIST's four original files; left out, torchvision downloads them."""
    generator: str = field(default="fashion-longtail-28", metadata=GENERATORS)
    """Embedded name, diffusers folder (UNet2DModel and scheduler) or hub id of the model."""


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame | None:
    """Run the study; its summary (`arm, metric, mean, low, high, n_seeds`), None for a preview."""
    config = parse(FashionConfig, arguments, presets=PRESETS, skip=NO_FLAGS)
    title = "Long-tailed Fashion-MNIST with and without synthetic samples"
    with Run(config) as this_run:
        inputs = prepare(this_run, lambda: _read(this_run), source="long-tailed Fashion-MNIST")
        return study(inputs, title)


def _read(this_run: Run) -> pd.DataFrame:
    """The long-tailed set, written at the first run."""
    check_attributes(this_run.config.attributes, CLASSES)
    return own_data(this_run, partial(fashion_longtail_table, source=this_run.config.data))


if __name__ == "__main__":
    run(main)
