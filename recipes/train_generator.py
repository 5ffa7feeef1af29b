"""Train a generator on a folder of images.

    python recipes/train_generator.py IMAGES --out runs/generator --network.size 32

It is a U-Net with learned variance, cosine schedule, hybrid loss and a moving average of its
weights, at the defaults of a size for a CPU. `runs/generator/generator` is a diffusers pipeline
folder, which every `--generator` here and `diffusers.DDPMPipeline.from_pretrained` open;
`runs/generator/samples` shows how it gets on. The same command again resumes a stopped run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from augment.images import ImageFiles
from augment.train import NetworkConfig, TrainConfig, train_generator
from classify.datasets import read_image
from recipes.chain.command_line import parse, run
from recipes.chain.training import Devices, files_sha256, train_rows

__all__ = ["Settings", "main"]


@dataclass(frozen=True, kw_only=True)
class Settings(Devices):
    """Train a generator on a folder of images."""

    images: Path
    """A folder of images, or a table of which the train rows are taken."""
    out: Path = Path("runs/train_generator")
    """The folder of the generator, checkpoints, logs and pictures; a stopped run is resumed."""
    start: str | None = None
    """A generator of the same network to start from instead of random weights."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """The U-Net; the widths are multiples of 8."""
    training: TrainConfig = field(default_factory=TrainConfig)
    """How to train it."""


def main(arguments: Sequence[str] | None = None) -> Path:
    """Train, and return the generator's folder."""
    settings = parse(Settings, arguments)
    paths = list(train_rows(settings.images)["path"])
    network = settings.network
    return train_generator(
        ImageFiles(paths, read_image, size=network.size, channels=network.channels),
        settings.out,
        network,
        settings.training,
        start=settings.start,
        sources={"images_sha256": files_sha256(paths)},
        trained_on=settings.images.resolve().name,
        **settings.trainer(),
    )


if __name__ == "__main__":
    run(main)
