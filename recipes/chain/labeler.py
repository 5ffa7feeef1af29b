"""Train a labeler on real rows: fit on train, thresholds on val, a checkpoint beside its card.

Beside them stands `training.json`, what it was trained with: the same training is taken as it
stands or continued, another one is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from lightning.fabric import Fabric

from classify import (
    FitConfig,
    attribute_scores,
    decode_tables,
    fit,
    label_tensor,
    predict,
    save_checkpoint,
)
from classify.files import claim
from classify.trainer import forget_state
from labeling import Predictor, fit_thresholds, load_labeler

__all__ = ["train_labeler"]

_RECORD = "training.json"


def train_labeler(
    table: pd.DataFrame,
    attributes: Sequence[str],
    folder: Path,
    *,
    config: FitConfig,
    source: str,
    licence: str,
    command: str,
    fabric: Fabric,
    skip_bad: bool = False,
    half: bool = False,
) -> Predictor:
    """Train a labeler, or load the one of the same training that stands in the folder.

    Args:
        table: real rows; train is fitted, val picks weights and thresholds, test is not looked at.
        attributes: what it labels.
        folder: of the checkpoint.
        config: network and training.
        source: the data, for the card.
        licence: of the weights, for the card.
        command: what makes it again, for the card.
        fabric: a launched Fabric; its first process trains, the others wait.
        skip_bad: leave out images that do not decode.
        half: store the weights in half precision.

    Raises:
        ValueError: the folder holds a labeler of another training, or one that was not made here.
    """
    with fabric.rank_zero_first():
        claim(folder / _RECORD, {"config": asdict(config), "half": half, **_described(table, attributes)})
    if fabric.is_global_zero and not (folder / "card.json").is_file():
        train, val = (table[table["split"] == split] for split in ("train", "val"))
        images = decode_tables([train, val], config.image_size, skip_bad=skip_bad)
        train, val = images.usable(train), images.usable(val)
        result = fit(
            train,
            val,
            attributes,
            config,
            images=images,
            folder=folder,
            device=fabric.device,
            label="labeler",
        )
        probabilities = predict(
            result.module, images.pixels[images.rows(val)], device=fabric.device
        )
        labels = label_tensor(val, attributes)
        thresholds = fit_thresholds(probabilities.numpy(), labels.numpy(), attributes)
        scores = attribute_scores(
            probabilities, labels, attributes, split="val", thresholds=thresholds
        )
        save_checkpoint(
            folder,
            result.module,
            source=source,
            licence=licence,
            command=command,
            thresholds=thresholds,
            scores=scores,
            half=half,
        )
        forget_state(folder)
    fabric.barrier()
    return load_labeler(folder)


def _described(table: pd.DataFrame, attributes: Sequence[str]) -> dict[str, object]:
    """What a labeler learns from: names, labels and sizes of the files, wherever they lie."""
    rows = table.loc[table["split"] != "test", ["file_name", "split", "path", *attributes]]
    sizes = [Path(path).stat().st_size for path in rows["path"]]
    text = rows.drop(columns="path").assign(size=sizes).to_csv(index=False)
    return {
        "attributes": list(attributes),
        "images": len(rows),
        "data": hashlib.sha256(text.encode()).hexdigest(),
    }
