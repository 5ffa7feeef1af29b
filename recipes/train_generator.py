"""Train a generator on a folder of images.

    python recipes/train_generator.py IMAGES --out runs/generator --start avatars-32
    python recipes/train_generator.py IMAGES --out runs/generator --network.size 64

It is a U-Net with learned variance, hybrid loss and a moving average of its weights, of random
weights or of those of another generator, which needs far fewer images and steps: after 2,000 steps
of 32 (13 minutes on one core) on 154 pictures of objects, a classifier told 64 samples from as many
pictures with an accuracy of .77 from random weights and .72 from avatars-32 (by chance .50), and
only the latter's showed whole objects: see OWN_DATA.md. With `--classes` it learns what the images
of each class are, and `generate.py` then takes `--sampler.label` and `--sampler.class_scale`.
`runs/generator/generator` is a diffusers pipeline folder, which every `--generator` here and
`diffusers.DDPMPipeline.from_pretrained` open; `runs/generator/samples` shows how it gets on. The
same command again resumes a stopped run; with more `--training.steps` it continues one that has
ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pandas as pd

from augment import Denoiser, load_denoiser
from augment.images import ImageFiles
from augment.initial import NetworkConfig, recommended_network
from augment.train import TrainConfig, train_generator
from classify.datasets import read_image
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.sources import GENERATORS
from recipes.chain.training import TrainerDevices, cells_as_names, files_sha256, train_rows

__all__ = ["NetworkSettings", "Settings", "main"]

_SIZE = 32
_FEW_IMAGES = 3_000
"""Fewer than this are better learned from another generator than from nothing."""


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """What of the U-Net is not left to the start or to the size; the widths are multiples of 8."""

    size: int | None = None
    """Image height and width in pixels; left out, the start's, or 32."""
    channels: int | None = None
    """1 (grey) or 3 (RGB); left out, the start's, or 3."""
    widths: tuple[int, ...] | None = None
    """Channels of each resolution level, from the image's own downwards; left out, by the size."""
    attention_levels: tuple[int, ...] | None = None
    """Levels that have self-attention, 0 being the image's own size; left out, by the size."""
    blocks: int | None = None
    """Residual blocks per level; left out, 1."""

    def network(self) -> NetworkConfig:
        """The network, where it is to have random weights."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(recommended_network(self.size or _SIZE), **given)

    def check(self, start: Denoiser, name: str) -> None:
        """Refuse what a generator to start from decides; only the size may be another."""
        theirs = asdict(self) | {"size": None}
        if self.channels == start.image.channels:
            theirs["channels"] = None
        if given := [f"network.{key}" for key, value in theirs.items() if value is not None]:
            raise ValueError(
                f"{given[0]} is {theirs[given[0].partition('.')[2]]}, but {name} brings its own "
                f"network, of {start.image.channels} channels; leave it out, or leave out --start"
            )


@dataclass(frozen=True, kw_only=True)
class Settings(TrainerDevices):
    """Train a generator on a folder of images."""

    images: Path
    """A folder of images, or a table of which the train rows are taken."""
    out: Path = Path("runs/train_generator")
    """The folder of the generator, checkpoints, logs and pictures; a stopped run is resumed."""
    start: str | None = field(default=None, metadata=GENERATORS)
    """A generator to start from instead of random weights, such as avatars-32: the first choice for
    few images. The network is its own."""
    classes: list[str] | None = None
    """Columns of the table to condition on, such as Bald; of several, each combination is a
    class. Images without a value have none."""
    network: NetworkSettings = field(default_factory=NetworkSettings)
    """The U-Net, where another one is wanted than the recommended."""
    training: TrainConfig = field(default_factory=TrainConfig)
    """How to train it."""


def main(arguments: Sequence[str] | None = None) -> Path:
    """Train, and return the generator's folder."""
    settings = parse(Settings, arguments)
    rows = train_rows(settings.images)
    paths = list(rows["path"])
    start = _start(settings)
    if settings.start is None and len(paths) < _FEW_IMAGES:
        print(
            f"{len(paths):,} images are few to start from random weights: stop this, and give "
            "--start avatars-32, or better a generator of images like yours, and another --out",
            flush=True,
        )
    image = start.image
    size = settings.network.size or image.size
    folder = train_generator(
        ImageFiles(paths, read_image, size=size, channels=image.channels),
        settings.out,
        start,
        settings.training,
        labels=_labels(rows, settings.classes, settings.images) if settings.classes else None,
        sources={"images_sha256": files_sha256(paths)},
        trained_on=settings.images.resolve().name,
        **settings.trainer(settings.out),
    )
    print(_next(rows, settings.images, folder))
    return folder


def _next(rows: pd.DataFrame, images: Path, folder: Path) -> str:
    """The command that the generator was made for: a study where there are labels."""
    if {*rows} <= {"file_name", "path"}:
        return f"python recipes/generate.py {folder} --out {folder.parent / 'images'}"
    return f"python recipes/celeba_augment.py --data {images} --generator {folder}"


def _start(settings: Settings) -> NetworkConfig | Denoiser:
    if settings.start is None:
        return settings.network.network()
    start = load_denoiser(settings.start)
    settings.network.check(start, settings.start)
    return start


def _labels(rows: pd.DataFrame, columns: Sequence[str], source: Path) -> list[str]:
    """The class of each row, `Bald=1,Male=0` of several columns; empty where a cell is."""
    if missing := [name for name in columns if name not in rows]:
        raise ValueError(
            f"{source} has no column {missing[0]}; it has {', '.join(map(str, rows))}; "
            "name one of them"
        )
    cells = pd.DataFrame({name: cells_as_names(rows[name]) for name in columns})
    if len(columns) == 1:
        return list(cells[columns[0]])
    named = [",".join(f"{k}={v}" for k, v in row.items()) for row in cells.to_dict("records")]
    return [n if whole else "" for n, whole in zip(named, (cells != "").all(axis=1), strict=True)]


if __name__ == "__main__":
    run(main)
