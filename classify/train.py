"""Fit an attribute classifier on a table; `python -m classify.train TABLE --out DIR` from the
command line.
"""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from classify.callbacks import KeepBest, StepBar
from classify.checkpoint import refuse_checkpoint, save_checkpoint
from classify.config import FitConfig
from classify.data import FitData, Split
from classify.datasets import attribute_columns, load_table
from classify.datasets.images import Images, decode_tables
from classify.labels import check_learnable, label_tensor, labelled_attributes, positive_weights
from classify.metrics import attribute_scores
from classify.model import AttributeClassifier
from classify.trainer import STATE, alone, make_trainer, quiet


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
        images: Tensor | pd.DataFrame,
        *,
        batch_size: int = 512,
        device: str | torch.device = "cpu",
    ) -> Tensor:
        """Probabilities float32 (N, A) of images, uint8 (N, 3 or 1, H, W), or of a table's
        images.
        """
        if isinstance(images, pd.DataFrame):
            decoded = decode_tables([images], self.config.image_size)
            images = decoded.pixels[decoded.rows(images)]
        return predict(self.module, images, batch_size=batch_size, device=device)


@torch.inference_mode()
def predict(
    module: AttributeClassifier,
    images: Tensor,
    *,
    batch_size: int = 512,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Probabilities float32 (N, A) of images, uint8 (N, 3 or 1, H, W)."""
    module = module.to(device).eval()
    parts = [module(part.to(device)).sigmoid().cpu() for part in torch.split(images, batch_size)]
    module.to("cpu")
    return torch.cat(parts) if parts else torch.empty(0, len(module.attributes))


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
            continues
            when it was interrupted; nothing is written without.
        images: The decoded images of both tables, if they were decoded before.
        skip_bad: Leave out images that do not decode.
        device: By default the best there is.
        label: Stands before the progress bar.

    Raises:
        ValueError: Nothing to learn from, or an image that does not decode.
    """
    config = config or FitConfig()
    _check(train, val, attributes)
    images = images or decode_tables([train, val], config.image_size, skip_bad=skip_bad)
    train, val = images.usable(train), images.usable(val)
    steps = steps or config.steps(int((train["source"] == "real").sum()) or len(train))
    data = _data(train, val, attributes, config, images, steps, seed)
    with quiet(), alone(), isolate_rng():
        torch.manual_seed(seed)
        module = _module(attributes, config, steps, data.train.labels)
        best = _trained(module, data, config, folder, StepBar(label, steps, "val/f1"), device)
    module.load_state_dict(best.weights)
    # Trainer, data, optimiser and module refer to each other in circles; left to Python's own time,
    # a study's fits would pile up.
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


def _trained(
    module: AttributeClassifier,
    data: FitData,
    config: FitConfig,
    folder: Path | None,
    bar: StepBar,
    device: torch.device | None,
) -> KeepBest:
    """Train the module, from where the folder's state leaves off; the best validation's weights."""
    best = KeepBest("val/f1")
    trainer = make_trainer(config, data, folder, [best, bar], device)
    last = folder / STATE if folder else None
    trainer.fit(module, data, ckpt_path=last if last and last.exists() else None, weights_only=True)
    return best


def _check(train: pd.DataFrame, val: pd.DataFrame, attributes: Sequence[str]) -> None:
    if not attributes:
        raise ValueError(
            "no attributes to learn: label the images, or name columns with --attributes"
        )
    for name, table in (("train", train), ("val", val)):
        if table.empty:
            raise ValueError(f"no image in split {name}: a fit needs train and val rows")
    check_learnable(pd.concat([train.assign(split="train"), val]), attributes)


def _data(
    train: pd.DataFrame,
    val: pd.DataFrame,
    attributes: Sequence[str],
    config: FitConfig,
    images: Images,
    steps: int,
    seed: int,
) -> FitData:
    splits = [
        Split(pixels=images.pixels, rows=images.rows(table), labels=label_tensor(table, attributes))
        for table in (train, val)
    ]
    return FitData(
        *splits,
        steps=steps,
        rounds=config.rounds,
        batch_size=config.batch_size,
        augmentation=config.augmentation,
        seed=seed,
    )


def _module(
    attributes: Sequence[str], config: FitConfig, steps: int, labels: Tensor
) -> AttributeClassifier:
    return AttributeClassifier(
        attributes,
        architecture=config.architecture,
        image_size=config.image_size,
        lr=config.lr,
        optimizer=config.optimizer,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        steps=steps,
        warmup=config.warmup,
        decay=config.decay,
        final_lr=config.final_lr,
        channels_last=config.channels_last,
        pos_weight=positive_weights(labels, config.balance) if config.balance else None,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: train on a table and write the checkpoint."""
    parser = ArgumentParser(
        prog="python -m classify.train", description="Train an attribute classifier on a table."
    )
    parser.add_argument("--config", action="config", help="YAML file with any of these settings")
    parser.add_argument("table", type=Path, help="folder with metadata.csv or in CelebA's layout")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the checkpoint, and of the log"
    )
    parser.add_argument("--attributes", nargs="+", type=str, help="names to learn; all by default")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation")
    parser.add_argument(
        "--skip_bad", action="store_true", help="leave out images that do not decode"
    )
    parser.add_argument(
        "--soft", action="store_true", help="take probabilities as labels of synthetic images"
    )
    parser.add_argument("--half", action="store_true", help="store the weights in half precision")
    parser.add_argument(
        "--licence", type=str, default="as the data's", help="licence of the weights, for the card"
    )
    parser.add_class_arguments(FitConfig, "train")
    try:
        options = parser.instantiate(parser.parse_args(arguments))
        _train_checkpoint(options)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


def _train_checkpoint(options: Namespace) -> None:
    refuse_checkpoint(options.out)
    table = load_table(options.table, options.attributes, soft=options.soft)
    names = options.attributes or attribute_columns(table, soft=options.soft)
    attributes = labelled_attributes(table, names)
    train, val = (table[table["split"] == split] for split in ("train", "val"))
    images = decode_tables([train, val], options.train.image_size, skip_bad=options.skip_bad)
    result = fit(
        train,
        val,
        attributes,
        options.train,
        seed=options.seed,
        folder=options.out,
        images=images,
        label="train",
    )
    val = images.usable(val)
    probabilities = predict(result.module, images.pixels[images.rows(val)])
    scores = attribute_scores(probabilities, label_tensor(val, attributes), attributes, split="val")
    save_checkpoint(
        options.out,
        result.module,
        source=str(options.table),
        licence=options.licence,
        command=" ".join(["python -m classify.train", *sys.argv[1:]]),
        scores=scores,
        half=options.half,
    )
    (options.out / STATE).unlink()
    print(f"{options.out}: macro F1 {result.val_f1:.3f} on val over {len(attributes)} attributes")


if __name__ == "__main__":
    main()
