"""The control arms of a run: real images alone, to tell why another arm gains."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from classify import Arm, duplicate, oversample, rand_augment, relabel, reweight
from recipes._labels import as_trained
from recipes._prepare import Chain
from recipes._settings import Control

__all__ = ["MEANINGS", "control"]

MEANINGS: Mapping[Control, str] = {
    "duplicate": "as many real images again: does more of anything help?",
    "relabel": "the same images again, with the labeler's labels: does its knowledge help?",
    "reweight": "rare values count more in the loss",
    "oversample": "images with rare attributes come up more often",
    "rand_augment": "stronger augmentation",
}
"""What each control is, for a reader."""


def control(chain: Chain, name: Control, count: int) -> pd.DataFrame | Arm:
    """Make one.

    Args:
        chain: the run.
        name: which; see `classify.arms`.
        count: real images that `duplicate` and `relabel` add.
    """
    real = chain.table
    if name == "duplicate":
        return duplicate(real, count)
    if name == "relabel":
        train = real[real["split"] == "train"]
        labelled = as_trained(chain.config, chain.label(train), chain.attributes)
        return relabel(real, labelled, count)
    if name == "oversample":
        return oversample(real, chain.attributes)
    if name == "reweight":
        return reweight(real)
    return rand_augment(real, chain.fit_config)
