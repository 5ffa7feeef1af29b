"""Does it help a classifier of faces to train on generated minority samples?

    python recipes/celeba_augment.py                                   # embedded avatars, minutes on 2 cores
    python recipes/celeba_augment.py --data CELEBA --preset paper --generator SRC --labeler train
    python recipes/celeba_augment.py --data FOLDER_WITH_METADATA_CSV --generator SRC --labeler train

Two sets of images are generated with a pretrained diffusion model, ordinary ones (`plain`) and ones of low density (`minority`, the
self-guided sampler of Um & Ye, ECCV 2024), labelled by an attribute classifier, and added to the real training images. A ResNet-18
is trained on the three sets with several seeds and judged on real test images. The paper reports for CelebA F1 .746 / .742 / .757
(real / plain / minority), precision .815 / .808 / .822, recall .710 / .711 / .724.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from classify import FitConfig, load_table
from classify.datasets.avatars import ATTRIBUTES, avatar_table, log_probability
from recipes import _chain as chain_of
from recipes._preview import preview
from recipes._results import tell
from recipes._settings import RunConfig, fit_settings, parse, run

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "demo": {
        "num_synthetic": 400,
        "sampler.steps": 50,
        "guidance.distance": "features",
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
        "study.seeds": 5,
        **fit_settings(FitConfig.paper()),
    },
}
"""Where the presets differ from the dataclasses' defaults; the paper's are those of its README and of its Sec. 5."""


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame | None:
    """Run the chain and return its summary (`arm, metric, mean, low, high, n_seeds`); None for a preview."""
    config = parse(RunConfig, PRESETS, arguments)
    fabric = chain_of.launch(config)
    embedded = config.data is None
    if embedded:
        with fabric.rank_zero_first():
            avatar_table(config.out / "data")
    table = load_table(config.data or config.out / "data", config.attributes)
    chain = chain_of.prepare(
        config,
        table,
        fabric,
        source="the embedded avatars" if embedded else str(config.data),
        log_probability=_avatar_log_probability if embedded else None,
    )
    if not embedded and config.generator == RunConfig.generator:
        chain.notes.append("The images added are the embedded avatars, not of your data's kind: give --generator.")
        chain.say(chain.notes[-1])
    if config.preview:
        return preview(chain)
    with chain.stage("Generating and labelling"):
        synthetic = {arm: chain_of.generate(chain, arm) for arm in chain_of.ARMS}
    with chain.stage("Training"):
        scores = chain_of.train(chain, chain_of.merge(chain, synthetic))
    title = "Avatars with and without minority samples" if embedded else f"{config.data.name} with and without minority samples"
    return tell(chain, title, synthetic, scores, reference=True)


def _avatar_log_probability(table: pd.DataFrame) -> Any:
    vectors = table.reindex(columns=list(ATTRIBUTES)).fillna(0)  # `Attractive`, unlabelled, is ignored
    return log_probability(vectors.to_numpy(int))


if __name__ == "__main__":
    run(main)
