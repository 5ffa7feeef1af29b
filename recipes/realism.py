"""Measure how often the realism gate is wrong, on sets whose badness is known.

    python recipes/realism.py AVATARS --generated runs/plain --generator avatars-32
    python recipes/realism.py AVATARS --generated '[runs/plain, runs/minority]'

Of the real images one draw is the reference and another one is judged by it: as it is (halves of
the real set must not be refused), and spoiled in ways from slight to hopeless (those should be).
Folders given beside them are judged likewise. `realism.csv` has one row per set and size: how often
each verdict came, the mean share outside and the mean accuracy of the view that tells best. The
gate's thresholds, in `augment/metrics/realism.py`, were read off this table. What the gate says of
one set, `recipes/measure.py` tells; this tells how far that can be believed on images like yours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur
from tqdm.auto import tqdm

from augment import load_denoiser
from augment.metrics.realism import LEAST, LIKE, SYNTHETIC, UNLIKE, RealismGate
from augment.metrics.views import look, plain_views
from classify.datasets import decode
from classify.files import claim
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.files import write_csv
from recipes.chain.command.sources import GENERATORS
from recipes.chain.images.realism import generator_view, side_of
from recipes.measure import image_sets

__all__ = ["Settings", "main", "spoiled"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Measure how often the realism gate is wrong, on sets whose badness is known."""

    real: Path
    """The real images: a folder, or a CSV file among images. Of a table, real rows are taken."""
    generated: list[Path] = field(default_factory=list)
    """Further sets, likewise. Of a table, the synthetic rows are taken if it has any."""
    generator: str | None = field(default=None, metadata=GENERATORS)
    """A generator whose activations are one more view, as in a study."""
    split: Literal["train", "val", "test", "all"] = "train"
    """The rows to take of a real table that has splits."""
    sizes: tuple[int, ...] = (32, 100, 300)
    """Images of the reference and of the set that is judged."""
    draws: int = 10
    """How often both are drawn anew at each size."""
    out: Path = Path("runs/realism")
    """Folder of realism.csv."""

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < LEAST or self.draws < 1:
            raise ValueError(
                f"sizes and draws are {self.sizes} and {self.draws}; give sizes of at least "
                f"{LEAST} images, below which nothing is judged, and at least 1 draw"
            )


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame:
    """Measure, print and write the table; it."""
    settings = parse(Settings, arguments)
    split = None if settings.split == "all" else settings.split
    real, *others = image_sets(settings.real, settings.generated, split=split)
    if 2 * max(settings.sizes) > len(real.paths):
        raise ValueError(
            f"sizes are {settings.sizes}; {len(real.paths)} real images make no two sets of "
            f"{max(settings.sizes)}; give smaller sizes, or more images"
        )
    record: dict[str, Any] = {k: v for k, v in asdict(settings).items() if k != "out"}
    claim(settings.out / "settings.json", {k: str(v) for k, v in record.items()})
    views = plain_views()
    if settings.generator is not None:
        views["generator"] = generator_view(load_denoiser(settings.generator))
    size = side_of([path for one in (real, *others) for path in one.paths[:1]])
    pixels, _ = decode(_few(real.paths, 4 * max(settings.sizes)), size)
    held, whole = pixels[::2], look(pixels[1::2], views)
    sets = {"real halves": held, **spoiled(held)}
    sets |= {one.name: decode(_few(one.paths, 1000), size)[0] for one in others}
    rows = []
    for name, images in tqdm(sets.items(), "judging", unit="set"):
        features = look(images, views)
        rows += [_row(name, whole, features, n, settings.draws) for n in settings.sizes]
    table = pd.DataFrame(rows)
    write_csv(settings.out / "realism.csv", table)
    print(table.round(2).to_string(index=False))
    return table


def spoiled(images: Tensor, *, seed: int = 0) -> dict[str, Tensor]:
    """Sets of as many bad images, uint8 as the real ones (N, 3, S, S) that most are made of."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 256, images.shape, generator=random, dtype=torch.uint8)
    gaussian = torch.randn(images.shape, generator=random)
    side = images.shape[-1]

    def blurred(sigma: float) -> Tensor:
        soft: Tensor = gaussian_blur(images, [2 * round(3 * sigma) + 1] * 2, [sigma] * 2)
        return soft

    def coarse(tiles: Tensor) -> Tensor:
        return F.interpolate(tiles.float(), (side, side)).byte()

    return {
        "uniform noise": noise,
        "Gaussian noise": (127.5 + 60 * gaussian).clamp(0, 255).byte(),
        "mosaic": coarse(noise[..., : side // 4, : side // 4]),
        "one colour": coarse(noise[..., :1, :1]),
        "16 parts shuffled": _shuffled(images, random),
        "inverted": 255 - images,
        "blurred by S/8": blurred(side / 8),
        "blurred by S/32": blurred(side / 32),
        "seen at S/4": coarse(F.adaptive_avg_pool2d(images.float(), side // 4)),
        "half of it noise": torch.cat([noise[::2], images[1::2]]),
        "noise added, sd 40": (images + 40 * gaussian).clamp(0, 255).byte(),
        "one image again and again": (images[:1] + 3 * gaussian).clamp(0, 255).byte(),
    }


def _shuffled(images: Tensor, random: torch.Generator) -> Tensor:
    """Each image cut into 4 x 4 parts, which change places."""
    part = images.shape[-1] // 4
    cut = images[..., : 4 * part, : 4 * part].unfold(2, part, part).unfold(3, part, part)
    orders = torch.rand(len(images), 16, generator=random).argsort(dim=1)
    parts = torch.stack(
        [one[:, order] for one, order in zip(cut.flatten(2, 3), orders, strict=True)]
    )
    rows = parts.reshape(*images.shape[:2], 4, 4, part, part).transpose(3, 4)
    whole = rows.reshape(*images.shape[:2], 4 * part, 4 * part)
    return F.interpolate(whole, images.shape[-2:])


def _few(paths: Sequence[str | Path], most: int) -> list[str]:
    chosen = np.random.default_rng(0).permutation(len(paths))[:most]
    return [str(paths[i]) for i in chosen]


def _row(
    name: str, real: Mapping[str, Tensor], features: Mapping[str, Tensor], size: int, draws: int
) -> dict[str, Any]:
    found = [
        RealismGate(_drawn(real, size, seed))(_drawn(features, size, seed)) for seed in range(draws)
    ]
    verdicts = pd.Series([one.verdict for one in found])
    return {
        "set": name,
        "images": size,
        **{verdict: float((verdicts == verdict).mean()) for verdict in (LIKE, SYNTHETIC, UNLIKE)},
        "outside": float(np.mean([one.outside for one in found])),
        "accuracy": float(
            np.mean([one.telling["accuracy"] if len(one.views) else np.nan for one in found])
        ),
    }


def _drawn(features: Mapping[str, Tensor], size: int, seed: int) -> dict[str, Tensor]:
    count = len(next(iter(features.values())))
    rows = torch.from_numpy(np.random.default_rng(seed).permutation(count)[:size])
    return {name: values[rows] for name, values in features.items()}


if __name__ == "__main__":
    run(main)
