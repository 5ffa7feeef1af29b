"""Score images by how badly a generator restores them from noise: the minority score (Eq. 5).

    python recipes/score.py lsun.pt BEDS --classes 100
    python recipes/score.py avatars-32 AVATARS --distance l2 --out AVATARS/scored.csv

BEDS and AVATARS are folders of images, with or without a metadata.csv, which stays as it is: the
scores go into a copy of it. LPIPS, the default, needs VGG-16's weights (torchvision's); a
class-conditional generator needs the images' classes (--label_column).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from augment import load_denoiser
from augment.minority_score import ScoreConfig, check_classes, minority_classes, score_files
from classify.datasets import load_images, read_image
from classify.files import write_text
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.devices import Devices
from recipes.chain.command.sources import GENERATORS
from recipes.chain.settings.distances import ModelDistance, score_distance
from recipes.chain.training import class_numbers

__all__ = ["Settings", "main"]


@dataclass(frozen=True, kw_only=True)
class Settings(Devices):
    """Score the images of a folder: how badly a generator restores each from noise."""

    generator: str = field(metadata=GENERATORS)
    """Embedded name, diffusers folder, guided-diffusion .pt file or hub id."""
    folder: Path
    """Images, with or without a metadata.csv, which stays as it is."""
    out: Path | None = None
    """The new table, a copy of the folder's with the column minority_score; left out, scored.csv in
    the folder, where its file names hold."""
    classes: int | None = None
    """Also add the column minority_class, of so many classes of equal size; their bounds are the
    train rows' (if there are splits), and the last class is the most minor."""
    distance: ModelDistance = "lpips"
    """How far an image is from its restored one: lpips (VGG-16, the official code's), activations
    (the generator's own), l1 or l2."""
    trunk: Path | None = None
    """A local copy of VGG-16's weights, torchvision's vgg16-397923af.pth."""
    label_column: str | None = None
    """The column of each image's class, needed by a class-conditional generator."""
    score: ScoreConfig = field(default_factory=ScoreConfig)
    """How images are noised and restored."""


def main(arguments: Sequence[str] | None = None) -> Path:
    """Score the images; the path of the new table."""
    settings = parse(Settings, arguments)
    out = settings.out or settings.folder / "scored.csv"
    if out.exists():
        raise ValueError(f"{out} exists, and nothing is overwritten; give another file by --out")
    if not out.parent.is_dir():
        raise ValueError(f"{out.parent}, for the new table, is not a folder; make it")
    rows = load_images(settings.folder)
    fitted = np.array(rows["split"] == "train") if "split" in rows else np.full(len(rows), True)
    if settings.classes is not None:
        check_classes(settings.classes, int(fitted.sum()))
    denoiser = load_denoiser(settings.generator)
    labels = class_numbers(rows, settings.label_column, denoiser, "--label_column")
    distance = score_distance(settings.distance, denoiser, trunk=settings.trunk)
    fabric = settings.launched()
    scores = score_files(
        denoiser,
        list(rows["path"]),
        distance,
        read=read_image,
        config=settings.score,
        labels=labels,
        fabric=fabric,
    )
    # Labels stay 1, 0 or empty, which pandas holds as floats.
    table = rows.drop(columns="path").convert_dtypes().assign(minority_score=scores)
    if settings.classes is not None:
        table["minority_class"] = minority_classes(scores, settings.classes, scores[fitted])
    if fabric.is_global_zero:
        write_text(out, table.to_csv(index=False))
        print(f"{len(rows):,} images scored: {out}")
    fabric.barrier()
    return out


if __name__ == "__main__":
    run(main)
