"""Place sets of images against real ones: how rare, how faithful, how diverse.

    python recipes/measure.py AVATARS runs/plain runs/minority --out runs/measured
    python recipes/measure.py CELEBA runs/minority --encoder resnet50 --reference tail:10000

Sets are folders of images, or CSV files among images. It writes metrics.csv (one row per set, means
with 95 % intervals over images, and the verdict whether it is like the real ones, of which
`recipes/realism.py` measures how often it is wrong), per_image.csv, density.png, rarest.png and
commonest.png; and, where images were steered to attributes that the real table knows,
diversity.csv: the spread of the images of each target over that of the real ones that have it. On
one core, the embedded encoder takes a second for 1,000 small images; features are kept, so that
another run extracts none of them again. Distances among 16,000 real images take 12 seconds, and
grow with the square of the number.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from torch import Tensor

from augment.metrics import Encoder, Orders
from augment.metrics.pictures import ImageSet
from augment.metrics.realism import MOST, RealismGate
from augment.metrics.report import (
    Results,
    check_sizes,
    tail_count,
    text_table,
)
from augment.metrics.views import View, few_pixels, plain_views
from classify.datasets import load_images, read_image
from classify.files import claim
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.devices import Devices
from recipes.chain.command.files import write_csv
from recipes.chain.encoders import Encoders
from recipes.chain.images.realism import seen, side_of
from recipes.chain.measures.diversity import Seen, diversity

__all__ = ["Settings", "image_sets", "main"]


@dataclass(frozen=True, kw_only=True)
class Settings(Devices):
    """Place sets of images against real ones: how rare, how faithful, how diverse."""

    real: Path
    """The real images: a folder, or a CSV file among images. Of a table, real rows are taken."""
    generated: list[Path]
    """The sets to measure, likewise. Of a table, the synthetic rows are taken if it has any."""
    out: Path = Path("runs/measure")
    """Folder of the tables and pictures."""
    encoder: str = "avatars"
    """avatars (embedded), resnet50, vgg16, inception (adds FID and sFID), any other model of
    torchvision, timm:NAME, a folder with card.json and model.safetensors, or a TorchScript file,
    which is executed by being loaded."""
    weights: Path | None = None
    """A local file of a published encoder's weights."""
    reference: str = "all"
    """What Frechet distance, KID, precision, recall, density and coverage compare with: all, or
    tail:N, the N real images of the highest AvgkNN."""
    split: Literal["train", "val", "test", "all"] = "train"
    """The rows to take of a real table that has splits."""
    batch_size: int = 64
    """Images at a time on each device."""
    cache: Path | None = None
    """Folder where features are kept; left out, minority-augment/features in the user's cache."""
    neighbours: Orders = field(default_factory=Orders)
    """How many neighbours each measure looks at."""


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measure, print the table, write everything; the folder of the results."""
    settings = parse(Settings, arguments)
    count, orders = tail_count(settings.reference), settings.neighbours
    split = None if settings.split == "all" else settings.split
    sets = image_sets(settings.real, settings.generated, split=split)
    real, *others = sets
    check_sizes(real, others, tail_count=count, orders=orders)
    encoders = Encoders(settings.encoder, weights=settings.weights)
    card = encoders.own.card
    fabric = settings.launched()
    if fabric.is_global_zero:
        record = {
            "real": str(settings.real.resolve()),
            "generated": {
                s.name: str(p.resolve()) for s, p in zip(others, settings.generated, strict=True)
            },
            "split": settings.split,
            "reference": settings.reference,
            "neighbours": asdict(orders),
            "encoder": asdict(card),
        }
        _claim(settings.out, record)
    features = encoders.features(
        sets, fabric=fabric, cache=settings.cache, batch_size=settings.batch_size
    )
    if fabric.is_global_zero:
        results = features.measured(tail_count=count, orders=orders)
        _add_realism(results, encoders.own)
        results.write(settings.out, read_image)
        _write_diversity(settings, sets, features.own)
        print(f"features: {card.name}, {card.source}")
        print(text_table(results.table))
    fabric.barrier()
    return settings.out


def _claim(out: Path, record: Mapping[str, Any]) -> None:
    """Take the folder, also from another measuring that failed before it had a result."""
    path = out / "settings.json"
    try:
        claim(path, record)
    except ValueError:
        if not _is_claim_alone(path, record):
            raise
        path.unlink()
        claim(path, record)


def _is_claim_alone(path: Path, record: Mapping[str, Any]) -> bool:
    """Whether the folder holds nothing but the settings of another measuring."""
    if not path.is_file() or len(list(path.parent.iterdir())) > 1:
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(found, dict) and found.keys() == record.keys()


def image_sets(
    real: Path, generated: Sequence[Path], *, split: str | None = "train"
) -> list[ImageSet]:
    """The real set and the others, with distinct names.

    Args:
        real: a folder of images, or a CSV file among images. Of a table, rows of the source
            `synthetic` are left out.
        generated: likewise. Of a table, the rows of the source `synthetic` are taken, or all if it
            has none.
        split: the rows to take of a real table that has splits; None takes all.

    Raises:
        FileNotFoundError: no such folder or table, or a row's image is missing.
        ValueError: no image, no table, or a set given twice.
    """
    resolved = [path.expanduser().resolve() for path in generated]
    if twice := [path for path, count in Counter(resolved).items() if count > 1]:
        raise ValueError(f"{twice[0]} is given twice; give every set once")
    name = _name(real) if _name(real) == "real" else f"{_name(real)} (real)"
    names = Counter([name, *map(_name, generated)])
    sets = [_image_set(name, real, _real_rows(real, split))]
    for path in generated:
        # Of two that are called the same, the path as given, or all of it, tells which is which.
        told = _name(path) if names[_name(path)] == 1 else str(path)
        sets.append(
            _image_set(str(path.resolve()) if told == name else told, path, _generated_rows(path))
        )
    return sets


def _name(path: Path) -> str:
    path = path.expanduser().resolve()
    path = path.parent if path.name == "metadata.csv" else path
    return path.stem if path.is_file() else path.name


def _real_rows(path: Path, split: str | None) -> pd.DataFrame:
    rows = load_images(path)
    if "split" in rows and split is not None:
        rows = rows[rows["split"] == split]
    if "source" in rows:
        rows = rows[rows["source"] != "synthetic"]
    if rows.empty:
        kind = "real rows" if split is None else f"real rows of the split {split}"
        raise ValueError(f"{path} has no {kind}; give another table or --split")
    return rows


def _generated_rows(path: Path) -> pd.DataFrame:
    rows = load_images(path)
    synthetic = rows[rows["source"] == "synthetic"] if "source" in rows else rows[:0]
    if rows.empty:
        raise ValueError(f"{path} has no rows; give another table")
    return synthetic if len(synthetic) else rows


def _image_set(name: str, path: Path, rows: pd.DataFrame) -> ImageSet:
    missing = [file for file in rows["path"] if not Path(file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} images of {path} are missing, the first {missing[0]}; copy them "
            "there, or take their rows out"
        )
    return ImageSet.of(name, rows)


def _add_realism(results: Results, encoder: Encoder) -> None:
    """Whether each set is like the real one (`augment.metrics.realism`), in place: by the views
    that need no weights and by the encoder.
    """
    views: dict[str, View] = {**plain_views(), encoder.card.name: encoder}
    real, *others = results.sets
    size = side_of([one.paths[0] for one in results.sets])
    drawn = np.random.default_rng(0).permutation(len(real.paths))[:MOST]
    gate = RealismGate(seen([str(real.paths[i]) for i in drawn], views, size))
    for made in others:
        found = gate(seen([str(path) for path in made.paths], views, size))
        results.images[made.name]["realism"] = found.scores
        row = results.table["set"] == made.name
        results.table.loc[row, ["verdict", "outside"]] = [found.verdict, found.outside]
        print(f"{made.name} is {found.sentence()}")


def _write_diversity(
    settings: Settings, sets: Sequence[ImageSet], features: Sequence[Tensor]
) -> None:
    """diversity.csv, where anything was asked for of images."""
    folders = (settings.real, *settings.generated)
    tables = [
        load_images(folder).set_index("path").loc[list(one.paths)]
        for folder, one in zip(folders, sets, strict=True)
    ]
    if not any(table.columns.str.startswith("target_").any() for table in tables[1:]):
        return
    real, *others = (
        Seen(table=table, features=found.cpu(), few_pixels=_few_pixels(one))
        for one, table, found in zip(sets, tables, features, strict=True)
    )
    names = [one.name for one in sets[1:]]
    table = diversity(real, dict(zip(names, others, strict=True)))
    if len(table):
        write_csv(settings.out / "diversity.csv", table)
        means = table.groupby("set", sort=False)[["features", "colours", "layout"]].mean()
        print("Spread of a target's images over that of real ones, means over the targets:")
        print(means.round(2).to_string())


def _few_pixels(one: ImageSet) -> Tensor:
    paths = [str(path) for path in one.paths]
    return seen(paths, {"pixels": few_pixels}, side_of(paths[:1]))["pixels"]


if __name__ == "__main__":
    run(main)
