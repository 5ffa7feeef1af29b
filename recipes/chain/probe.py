"""The generator as a labeler: a linear head on its activations, fitted on the run's few labels.

It is left in a folder as `card.json` and `head.safetensors`; the features are the generator's,
which has to be there to use it again. The same probe is taken as it stands, another is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning.fabric import Fabric
from torch import Tensor

from augment import Denoiser, DenoiserFeatures
from classify import Images, attribute_scores, label_tensor
from classify.files import claim, wait_until
from labeling import Labeler, LabelerCard, ProbeConfig, fit_head, fit_thresholds
from labeling.probe import load_probe, save_probe
from recipes.chain.labeler import described

__all__ = ["generator_labeler"]

_BATCH = 128


def generator_labeler(
    denoiser: Denoiser,
    table: pd.DataFrame,
    images: Images,
    attributes: Sequence[str],
    folder: Path,
    *,
    source: str,
    fabric: Fabric,
    mirror: bool = True,
    config: ProbeConfig | None = None,
) -> Labeler:
    """Fit the probe, or load the one of the same rows and generator that stands in the folder.

    Args:
        denoiser: the generator.
        table: train is fitted, val gives temperatures and thresholds, test is not looked at.
        images: the real images, decoded at the generator's size.
        attributes: what it labels: those with both values in train; the others it does not know.
        folder: of the probe.
        source: what the images are, for the card.
        fabric: a launched Fabric; its first process fits, the others wait.
        mirror: whether a mirrored image has the same attributes, so that it is fitted on too.
        config: of the fit.

    Raises:
        ValueError: the folder holds another labeler, or no attribute has both values.
    """
    config = config or ProbeConfig()
    features = DenoiserFeatures(denoiser.to(fabric.device))
    train, val = (table[table["split"] == split] for split in ("train", "val"))
    known = [name for name in attributes if train[name].nunique() == 2]
    record = {
        "probe": asdict(config),
        "mirror": mirror,
        "generator": denoiser.record(),
        **described(table, known),
    }
    card, claimed = folder / "card.json", folder / "training.json"
    if fabric.is_global_zero:
        claim(claimed, record)
        if not card.is_file():
            pixels = [images.pixels[images.rows(rows)] for rows in (train, val)]
            seen = [pixels[0], pixels[0].flip(-1)] if mirror else [pixels[0]]
            labels, val_labels = (label_tensor(rows, known) for rows in (train, val))
            val_features = _features(features, pixels[1])
            head = fit_head(
                torch.cat([_features(features, one) for one in seen]),
                labels.repeat(len(seen), 1).numpy(),
                images=np.tile(np.arange(len(train)), len(seen)),
                val_features=val_features,
                val_labels=val_labels.numpy(),
                config=config,
            )
            with torch.no_grad():
                p = head(val_features).sigmoid()
            thresholds = fit_thresholds(p.numpy(), val_labels.numpy(), known)
            scores = attribute_scores(p, val_labels, known, split="val", thresholds=thresholds)
            save_probe(folder, head, _card(denoiser, known, source, thresholds, scores))
    wait_until(card.is_file)
    claim(claimed, record)  # what the first process refused, the others refuse too
    return load_probe(folder, features)


@torch.no_grad()
def _features(features: DenoiserFeatures, pixels: Tensor) -> Tensor:
    """Of uint8 images (N, 3, S, S); float32 (N, D) on the CPU."""
    device = features.denoiser.device
    inputs = (features.denoiser.image.from_uint8(part.to(device)) for part in pixels.split(_BATCH))
    return torch.cat([features(part).cpu() for part in inputs])


def _card(
    denoiser: Denoiser,
    attributes: Sequence[str],
    source: str,
    thresholds: dict[str, float],
    scores: pd.DataFrame,
) -> LabelerCard:
    by_name = scores.pivot(index="attribute", columns="metric", values="value").loc[attributes]
    told = by_name.astype(object).where(by_name.notna(), None)
    return LabelerCard(
        architecture="a linear head on the activations of the generator's blocks",
        attributes=attributes,
        image_size=denoiser.image.size,
        mean=[0.5] * 3,
        std=[0.5] * 3,
        thresholds=thresholds,
        source=f"the labelled train rows of {source}, and the generator, which saw no label",
        licence="as the data's and the generator's",
        command="--labeler generator",
        scores=told.to_dict("index"),
    )
