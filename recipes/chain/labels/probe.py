"""The generator as a labeler: a linear head on its activations, fitted on the run's few labels.

It is left in a folder as `card.json` and `head.safetensors`; the features are the generator's,
which has to be there to use it again. The same probe is taken as it stands, another is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from lightning.fabric import Fabric

from augment import Denoiser, DenoiserFeatures
from classify import Images, label_tensor
from labeling import Labeler, ProbeConfig, fit_probe, load_probe, save_probe
from recipes.chain.draw import labelled_draw
from recipes.chain.labels.labeler import described, fit_once

__all__ = ["generator_labeler", "load_generator_labeler"]


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
        denoiser: the generator, moved to the fabric's device.
        table: train is fitted, val gives temperatures and thresholds, test is not looked at.
        images: the real images, decoded at the generator's size.
        attributes: what it labels, as far as train has both values.
        folder: of the probe.
        source: what the images are, for the card.
        fabric: a launched Fabric; one of its processes fits, the others wait.
        mirror: whether a mirrored image has the same attributes, so that it is fitted on too.
        config: of the fit.

    Raises:
        ValueError: the folder holds another labeler, or no attribute has both values.
    """
    config = config or ProbeConfig()
    table = _at_most(table, attributes, config.rows)
    features = DenoiserFeatures(denoiser.to(fabric.device))
    record = {
        "probe": asdict(config),
        "mirror": mirror,
        **_of_generator(features),
        **described(table, attributes),
    }

    def fit_it() -> None:
        splits = (table[table["split"] == split] for split in ("train", "val"))
        train, val = ((images.of(rows), label_tensor(rows, attributes)) for rows in splits)
        labeler = fit_probe(
            features,
            train,
            val,
            attributes,
            mirror=mirror,
            source=f"labelled train rows of {source}, and the generator, which saw no label",
            licence="as the data's and the generator's",
            command="--labeler generator",
            config=config,
        )
        save_probe(folder, labeler)

    fit_once(folder, record, fit_it)
    return load_probe(folder, features)


def _at_most(table: pd.DataFrame, attributes: Sequence[str], rows: int) -> pd.DataFrame:
    """So many train rows, what is rare among them; a uniform draw would lose rare attributes."""
    n_train = int((table["split"] == "train").sum())
    return labelled_draw(table, attributes, min(rows, n_train), None)


def load_generator_labeler(folder: Path, denoiser: Denoiser) -> Labeler:
    """A probe that a run left, as a labeler for other images.

    Args:
        folder: such as `runs/celeba_augment/labeler`.
        denoiser: the generator of that run.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it was fitted on another generator, or a file is damaged.
    """
    features, record = DenoiserFeatures(denoiser), folder / "training.json"
    if not record.is_file():
        raise FileNotFoundError(f"{record} is missing; give the folder of a run's labeler")
    found = json.loads(record.read_text(encoding="utf-8"))
    own = json.loads(json.dumps(_of_generator(features)))
    if {name: found.get(name) for name in own} != own:
        raise ValueError(
            f"{folder} was fitted on the features of another generator; give the one of its run"
        )
    return load_probe(folder, features)


def _of_generator(features: DenoiserFeatures) -> dict[str, object]:
    """What the head's inputs depend on."""
    return {"generator": features.denoiser.record(), "features": features.record()}
