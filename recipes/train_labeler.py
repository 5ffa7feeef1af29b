"""Train a labeler on the rows of a table: the chain's attribute classifier, made by yourself.

    python recipes/train_labeler.py DATA --out FOLDER [--train.architecture resnet34 ...]

Fits on train, picks weights and F1-optimal thresholds on val, and writes `model.safetensors` and
`card.json`, which `--labeler FOLDER` of the other recipes and `labeling.load_labeler` take. The
card of the shipped one for avatars has the command that made it. An interrupted training goes on
with the same command.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from classify import FitConfig, attribute_columns, labelled_attributes, load_table
from labeling import Predictor
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.devices import launch
from recipes.chain.command.loggers import logger_of
from recipes.chain.command.sources import DATA
from recipes.chain.labels.labeler import train_labeler


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Train a labeler on the rows of a table."""

    data: Path = field(metadata=DATA)
    """CelebA's folder, or a folder with metadata.csv."""
    out: Path = Path("runs/train_labeler")
    """Folder of the checkpoint, and of the log."""
    attributes: list[str] | None = None
    """Columns to learn; all by default."""
    seed: int = 0
    """Seed of the initial weights, the order of the images and their augmentation."""
    soft: bool = False
    """Take probabilities as labels of synthetic images."""
    half: bool = False
    """Store the weights in half precision."""
    licence: str = "as the data's"
    """Licence of the weights, for the card."""
    skip_bad: bool = False
    """Leave out images that do not decode."""
    logger: str | None = None
    """A logger besides the CSV file: tensorboard, wandb (offline), mlflow, or the path of a class
    of Lightning's."""
    train: FitConfig = field(default_factory=FitConfig)
    """Network, optimiser, schedule and augmentation."""


def main(arguments: Sequence[str] | None = None) -> Predictor:
    """Train it; see the module's text."""
    settings = parse(Settings, arguments)
    table = load_table(settings.data, settings.attributes, soft=settings.soft)
    names = settings.attributes or attribute_columns(table, soft=settings.soft)
    fabric = launch(1)
    labeler = train_labeler(
        table,
        labelled_attributes(table, names),
        settings.out,
        config=settings.train,
        source=str(settings.data),
        licence=settings.licence,
        command=shlex.join(["python", *sys.argv]),
        fabric=fabric,
        seed=settings.seed,
        skip_bad=settings.skip_bad,
        half=settings.half,
        logger=logger_of(settings.logger),
    )
    scores = (labeler.card.scores or {}).values()
    judged = [row["f1"] for row in scores if row["f1"] is not None]
    mean = f"{sum(judged) / len(judged):.3f}" if judged else "not estimable"
    print(f"{settings.out}: macro F1 {mean} on val over {len(judged)} attributes")
    return labeler


if __name__ == "__main__":
    run(main)
