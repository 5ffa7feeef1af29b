"""Fit an attribute classifier on a table, and predict with it."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from classify.config import FitConfig
from classify.data import FitData, Split, at_a_time
from classify.datasets.images import Images, decode_tables
from classify.datasets.pixels import Pixels
from classify.labels import check_learnable, label_tensor
from classify.model import AttributeClassifier
from classify.trainer import (
    KeepBest,
    MakeLogger,
    StepBar,
    alone,
    check_whole,
    make_trainer,
    quiet,
    saved_state,
)

_SCORE = "val/f1"
"""The logged score that chooses the weights."""


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """A trained classifier and how it came about."""

    module: AttributeClassifier
    """Carries the weights of the best validation; in eval mode, on the CPU."""
    config: FitConfig
    seed: int
    steps: int
    """Optimiser steps taken."""
    best_step: int
    """Steps after which the validation was best."""
    val_f1: float
    """Macro F1 of that validation."""

    def predict(
        self,
        images: Pixels | pd.DataFrame,
        *,
        batch_size: int = 512,
        device: str | torch.device | None = None,
    ) -> Tensor:
        """Probabilities float32 (N, A) of images, uint8 (N, 3 or 1, H, W), or of a table's
        images; see `predict`.
        """
        if isinstance(images, pd.DataFrame):
            images = decode_tables([images], self.config.image_size).of(images)
        return predict(self.module, images, batch_size=batch_size, device=device)


def predict(
    module: AttributeClassifier,
    images: Pixels,
    *,
    batch_size: int = 512,
    device: str | torch.device | None = None,
) -> Tensor:
    """Probabilities float32 (N, A), on the CPU, of images, uint8 (N, 3 or 1, H, W).

    Args:
        module: The classifier; it is left in eval mode, on the device where it was.
        images: On any device, or decoded when they are asked for.
        batch_size: Images at a time; fewer of more than 128 pixels.
        device: Where to compute; by default where the module is.
    """
    if not len(images):
        return torch.empty(0, len(module.attributes))
    home, size = module.mean.device, max(images.shape[-2:])
    device = torch.device(device) if device is not None else home
    module.to(device).eval()
    try:
        with torch.inference_mode():
            batches = torch.split(torch.arange(len(images)), at_a_time(batch_size, size))
            parts = [module(images[rows].to(device)).sigmoid().cpu() for rows in batches]
    finally:
        module.to(home)
    return torch.cat(parts)


def fit(
    train: pd.DataFrame,
    val: pd.DataFrame,
    attributes: Sequence[str],
    config: FitConfig | None = None,
    *,
    steps: int | None = None,
    seed: int = 0,
    folder: Path | None = None,
    images: Images | None = None,
    skip_bad: bool = False,
    device: torch.device | None = None,
    label: str = "fit",
    logger: MakeLogger | None = None,
) -> FitResult:
    """Train a classifier; keep the weights of the best validation.

    Args:
        train: Training rows, real and synthetic (`split` is not looked at).
        val: Real rows that choose the weights.
        attributes: Names of the outputs.
        config: Settings; the defaults are those of the demo.
        steps: Optimiser steps; by default the config's epochs over the real rows of `train`.
        seed: Of the initial weights, the order of the images and their augmentation.
        folder: For the log (CSV) and the state after every round, from which the same call
            continues when it was interrupted; nothing is written without.
        images: The decoded images of both tables, if they were decoded before.
        skip_bad: Leave out images that do not decode.
        device: By default the best there is.
        label: Stands before the progress bar.
        logger: Makes a further logger of Lightning's, from the folder, where there is one.

    Raises:
        ValueError: Nothing to learn from, or an image that does not decode.
    """
    config = config or FitConfig()
    _check(train, val, attributes)
    images = images or decode_tables([train, val], config.image_size, skip_bad=skip_bad)
    train, val = images.usable(train), images.usable(val)
    steps = steps or config.steps(int((train["source"] == "real").sum()) or len(train))
    splits = [
        Split(
            pixels=images.pixels,
            rows=images.rows(table),
            labels=label_tensor(table, attributes),
            synthetic=torch.tensor((table["source"] == "synthetic").to_numpy()),
        )
        for table in (train, val)
    ]
    data = FitData(*splits, config=config, steps=steps, seed=seed)
    with quiet(), alone(), isolate_rng():
        torch.manual_seed(seed)
        module = AttributeClassifier(attributes, config, steps=steps, labels=data.train.labels)
        best, bar = KeepBest(_SCORE), StepBar(label, steps, _SCORE)
        trainer = make_trainer(config, data, folder, [best, bar], device, logger)
        trainer.fit(module, data, ckpt_path=saved_state(folder), weights_only=True)
        check_whole(trainer, steps)
    module.load_state_dict(best.weights)
    # Trainer, data, optimiser and module refer to each other in circles; left to Python's own time,
    # a study's fits would pile up.
    del trainer
    module.trainer = data.trainer = None
    module.zero_grad()
    gc.collect()
    return FitResult(
        module=module.cpu().eval(),
        config=config,
        seed=seed,
        steps=steps,
        best_step=best.step,
        val_f1=best.score if math.isfinite(best.score) else math.nan,
    )


def _check(train: pd.DataFrame, val: pd.DataFrame, attributes: Sequence[str]) -> None:
    if not attributes:
        raise ValueError(
            "no attribute is given; label the images, or name columns with --attributes"
        )
    for name, table in (("train", train), ("val", val)):
        if table.empty:
            raise ValueError(
                f"split {name} has no image; a fit needs train and val rows; add some, or change "
                "the column split"
            )
    check_learnable(pd.concat([train.assign(split="train"), val]), attributes)
