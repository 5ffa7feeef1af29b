"""Train a labeler on real rows: fit on train, thresholds on val, a checkpoint beside its card.

Beside them stands `training.json`, what it was trained with: the same training is taken as it
stands or continued, another one is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
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
from classify.files import claim, done_once
from classify.trainer import MakeLogger, forget_state
from labeling import Predictor, fit_thresholds, load_labeler

__all__ = ["described", "fit_once", "train_labeler"]


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
    seed: int = 0,
    skip_bad: bool = False,
    half: bool = False,
    logger: MakeLogger | None = None,
    cache: Path | None = None,
) -> Predictor:
    """Train a labeler, or load the one of the same training that stands in the folder.

    Args:
        table: train is fitted, val picks weights and thresholds, test is not looked at.
        attributes: what it labels.
        folder: of the checkpoint.
        config: network and training.
        source: the data, for the card.
        licence: of the weights, for the card.
        command: what makes it again, for the card.
        fabric: a launched Fabric; one of its processes trains, the others wait.
        seed: of weights, order and augmentation.
        skip_bad: leave out images that do not decode.
        half: store the weights in half precision.
        logger: makes a further logger, from the folder.
        cache: folder for the decoded images; left out, they are held in memory.

    Raises:
        ValueError: the folder holds a labeler of another training, or one that was not made here.
    """
    record = {
        "config": config.record(),
        "half": half,
        "seed": seed,
        **described(table, attributes),
    }

    def train_it() -> None:
        train, val = (table[table["split"] == split] for split in ("train", "val"))
        # A run has decoded its whole table already.
        used = [train, val] if cache is None else [table]
        images = decode_tables(used, config.image_size, skip_bad=skip_bad, cache=cache)
        train, val = images.usable(train), images.usable(val)
        device = fabric.device
        result = fit(
            train,
            val,
            attributes,
            config,
            seed=seed,
            folder=folder,
            images=images,
            device=device,
            label="labeler",
            logger=logger,
        )
        probabilities = predict(result.module, images.of(val), device=device)
        labels = label_tensor(val, attributes)
        thresholds = fit_thresholds(probabilities.numpy(), labels.numpy(), attributes)
        save_checkpoint(
            folder,
            result.module,
            source=source,
            licence=licence,
            command=command,
            thresholds=thresholds,
            scores=attribute_scores(
                probabilities, labels, attributes, split="val", thresholds=thresholds
            ),
            half=half,
        )

    fit_once(folder, record, train_it)
    return load_labeler(folder)


def fit_once(folder: Path, record: Mapping[str, object], fit_it: Callable[[], None]) -> None:
    """Have one process leave a labeler in the folder; one of the same record is taken as is.

    Args:
        folder: of the labeler, whose `card.json` is written last.
        record: what the labeler follows from, kept as `training.json`.
        fit_it: fits the labeler and writes it.

    Raises:
        ValueError: the folder holds another labeler; in every process.
    """
    claim(folder / "training.json", record)
    done_once(folder / ".lock", (folder / "card.json").is_file, fit_it)
    forget_state(folder)


def described(table: pd.DataFrame, attributes: Sequence[str]) -> dict[str, object]:
    """What a labeler learns from: names, labels and sizes of the files, wherever they lie."""
    rows = table.loc[table["split"] != "test", ["file_name", "split", "path", *attributes]]
    sizes = [Path(path).stat().st_size for path in rows["path"]]
    text = rows.drop(columns="path").assign(size=sizes).to_csv(index=False)
    return {
        "attributes": list(attributes),
        "images": len(rows),
        "data": hashlib.sha256(text.encode()).hexdigest(),
    }
