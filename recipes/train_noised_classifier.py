"""Train a classifier of noised images on columns of a table, to guide a generator to a class.

    python recipes/train_noised_classifier.py FOLDER Smiling --out runs/smiling
    python recipes/generate.py avatars-32 --out runs/minority \\
        --classifier.source runs/smiling/classifier --classifier.target 1

FOLDER has images and a metadata.csv, of whose train rows the columns are learned: several by one
network, with a head for each. A table that `recipes/score.py --classes 10` made has the column
minority_class, whose last class is that of minority guidance. The defaults are of a size for a CPU.
The same command again resumes a stopped run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from augment.images import ImageFiles
from augment.train_classifier import (
    ClassifierNetworkConfig,
    ClassifierTrainConfig,
    train_classifier,
)
from classify.datasets import read_image
from classify.names import one_of
from recipes.chain.command.command_line import parse, run
from recipes.chain.training import TrainerDevices, cells_as_names, files_sha256, train_rows

__all__ = ["Settings", "main"]


@dataclass(frozen=True, kw_only=True)
class Settings(TrainerDevices):
    """Train a classifier of noised images on columns of a table."""

    table: Path
    """A folder of images with a `metadata.csv`, or a CSV file among images; train rows without any
    value are left out."""
    attributes: list[str]
    """The columns: each an attribute (classes 0 and 1), or one of classes of any names."""
    out: Path = Path("runs/train_noised_classifier")
    """The folder of the classifier, checkpoints and logs; a stopped run is resumed."""
    network: ClassifierNetworkConfig = field(default_factory=ClassifierNetworkConfig)
    """The network, and the noise: size, channels and schedule are the generator's."""
    training: ClassifierTrainConfig = field(default_factory=ClassifierTrainConfig)
    """How to train it."""


def main(arguments: Sequence[str] | None = None) -> Path:
    """Train, and return the classifier's folder."""
    settings = parse(Settings, arguments)
    rows = train_rows(settings.table)
    if missing := [name for name in settings.attributes if name not in rows]:
        raise ValueError(
            f"{settings.table} has no column {missing[0]}; "
            f"{one_of(missing[0], list(map(str, rows)))}"
        )
    names = rows[settings.attributes].apply(cells_as_names)
    known = (names != "").any(axis=1)
    paths, network = list(rows["path"][known]), settings.network
    return train_classifier(
        ImageFiles(paths, read_image, size=network.size, channels=network.channels),
        {name: list(names[name][known]) for name in settings.attributes},
        settings.out,
        network,
        settings.training,
        sources={"images_sha256": files_sha256(paths)},
        trained_on=settings.table.resolve().name,
        **settings.trainer(settings.out),
    )


if __name__ == "__main__":
    run(main)
