"""Train a classifier of noised images on a table, to guide a generator to a class.

    python -m augment.train_classifier FOLDER --out runs/smiling --attribute Smiling
    python -m augment.generate avatars-32 --out runs/minority --seeds 64 \\
        --classifier.source runs/smiling/classifier --classifier.target 1

FOLDER has images and a metadata.csv, of whose train rows a column is learned. The same command
again resumes a run that was stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from lightning import seed_everything

from augment.classifier_training import (
    ClassifierNetworkConfig,
    ClassifierTrainConfig,
    ClassifierTraining,
)
from augment.command import run
from augment.fitting import Precision, fit, images_sha256
from augment.labelled_files import LabelledFiles, find_labelled
from augment.pretrained import save_noised_classifier

__all__ = ["main", "train_classifier"]


def train_classifier(
    table: Path,
    *,
    out: Path,
    attribute: str,
    network: ClassifierNetworkConfig = ClassifierNetworkConfig(),
    training: ClassifierTrainConfig = ClassifierTrainConfig(),
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
    precision: Precision = "32-true",
) -> Path:
    """Train a classifier of noised images on a column of a table.

    Args:
        table: a folder of images with a `metadata.csv`; train rows without a value are left out.
        out: where the classifier, checkpoints and logs go; a stopped run found here is resumed.
        attribute: the column: an attribute (classes 0 and 1), or one of classes of any names.
        network: the network, and the noise: size, channels and schedule are the generator's.
        training: how to train it.
        accelerator: Lightning's.
        devices: Lightning's.
        num_nodes: Lightning's.
        precision: Lightning's.

    Returns:
        The folder of the classifier, `out/classifier`, for `load_noised_classifier`.
    """
    seed_everything(training.seed, verbose=False)
    found = find_labelled(table, attribute)
    module = ClassifierTraining(network, training, attribute=attribute, classes=found.classes)
    files = LabelledFiles(found, size=network.size, channels=network.channels)
    first = fit(
        module,
        files,
        out,
        sources={
            "images_sha256": images_sha256(found.paths),
            "labels_sha256": hashlib.sha256(bytes(str(found.labels), "ascii")).hexdigest(),
        },
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        precision=precision,
    )
    folder = out / "classifier"
    if first:
        card = {"trained_on": str(table), "images": len(files), **module.hparams}
        save_noised_classifier(module.network, folder, card=card)
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; bad input ends it with one line instead of a traceback."""
    run(train_classifier, arguments)


if __name__ == "__main__":
    main()
