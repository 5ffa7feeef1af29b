"""Place sets of images against real ones: how rare, how faithful, how diverse.

    python -m augment.metrics AVATARS runs/plain runs/minority --out runs/measured
    python -m augment.metrics CELEBA runs/minority --out runs/measured \\
        --encoder resnet50 --reference tail:10000

Sets are folders of images, or metadata.csv files. Of the real one's table, the real train rows are
taken. The features of every image are kept, so that another run extracts none of them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from augment.command import fabric_of, run
from augment.metrics.encoder import Encoder
from augment.metrics.encoders import load_encoder
from augment.metrics.features import extract
from augment.metrics.fidelity import frechet_distance
from augment.metrics.reference import Orders
from augment.metrics.report import Results, check_sizes, claim, measure_sets, text_table
from augment.metrics.sets import ImageSet, generated_sets, real_set
from augment.metrics.tail import tail_count

__all__ = ["command", "main"]

_HELP = "the sets to measure: folders of images, or metadata.csv files"

_BESIDE_INCEPTION = {
    "fid_pytorch_fid": "inception-pytorch-fid",
    "sfid": "inception-pytorch-fid-6d",
}
"""Columns added with the encoder inception, whose own Frechet distance is clean-fid's FID."""


def command(
    real: Path,
    generated: list[Path],
    *,
    out: Path,
    encoder: str = "avatars",
    weights: Path | None = None,
    reference: str = "all",
    split: Literal["train", "val", "test", "all"] = "train",
    neighbours: Orders = Orders(),
    batch_size: int = 64,
    cache: Path | None = None,
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
) -> Path:
    """Place sets of images against real ones: how rare, how faithful, how diverse.

    Args:
        real: the real images: a folder, or a metadata.csv.
        generated: the sets to measure.
        out: the folder of the results: metrics.csv, per_image.csv, density.png, rarest.png,
            commonest.png.
        encoder: avatars (shipped), resnet50, vgg16, inception (adds FID and sFID), any other
            model of torchvision, timm:NAME, a folder with card.json and model.safetensors, or a
            TorchScript file, which is executed by being loaded.
        weights: a local file of a published encoder's weights.
        reference: what Frechet distance, precision, recall, density and coverage compare with:
            all, or tail:N, the N real images of the highest AvgkNN.
        split: the real table's rows to take.
        neighbours: how many of them each measure looks at.
        batch_size: images at a time on each device.
        cache: the folder where features are kept; left out, minority-augment/features in the
            user's cache folder.
        accelerator: Lightning's.
        devices: Lightning's.
        num_nodes: Lightning's.

    Returns:
        The folder of the results.
    """
    count = tail_count(reference)
    sets = _sets(real, generated, split)
    check_sizes(sets[0], sets[1:], tail_count=count, orders=neighbours)
    loaded = load_encoder(encoder, weights=weights)
    beside = _beside(encoder, weights)
    fabric = fabric_of(accelerator, devices, num_nodes)
    fabric.launch()
    if fabric.is_global_zero:
        record = {"split": split, "reference": reference, "neighbours": asdict(neighbours)}
        claim(out, {**record, "encoder": asdict(loaded.card), "sets": _origins(sets)})
    features = partial(_features, sets, cache=cache, batch_size=batch_size, fabric=fabric)
    found, others = features(loaded), {name: features(other) for name, other in beside.items()}
    if fabric.is_global_zero:
        measured = measure_sets(sets[0], sets[1:], found, tail_count=count, orders=neighbours)
        _add_frechet(measured, others)
        measured.write(out)
        print(f"features: {loaded.card.name}, {loaded.card.source}")
        print(text_table(measured.table))
    fabric.barrier()
    return out


def _sets(real: Path, generated: Sequence[Path], split: str) -> list[ImageSet]:
    """The real set, its name said to be that, and the others."""
    first = real_set(real, None if split == "all" else split)
    name = first.name if first.name == "real" else f"{first.name} (real)"
    return [first.named(name), *generated_sets(generated, taken=name)]


def _origins(sets: Sequence[ImageSet]) -> dict[str, str]:
    return {s.name: str(s.folder.resolve()) for s in sets}


def _features(
    sets: Sequence[ImageSet],
    encoder: Encoder,
    *,
    cache: Path | None,
    batch_size: int,
    fabric: Fabric,
) -> list[Tensor]:
    """Of each set, float32 (N, D), where they are to be measured."""
    # Not on Apple's GPUs, which have no float64.
    device = fabric.device if fabric.device.type == "cuda" else torch.device("cpu")
    kept = (
        extract(s.paths, encoder, cache=cache, batch_size=batch_size, name=s.name, fabric=fabric)
        for s in sets
    )
    return [torch.from_numpy(features).to(device) for features in kept]


def _beside(encoder: str, weights: Path | None) -> dict[str, Encoder]:
    """The encoders of further columns."""
    if encoder != "inception":
        return {}
    return {c: load_encoder(name, weights=weights) for c, name in _BESIDE_INCEPTION.items()}


def _add_frechet(measured: Results, others: dict[str, list[Tensor]]) -> None:
    """Frechet distances under further encoders, in place; NaN in the real set's own row."""
    rows = torch.tensor(measured.reference["row"].tolist())
    for column, (real, *generated) in others.items():
        distances = [np.nan, *(frechet_distance(real[rows], g) for g in generated)]
        measured.table.insert(3, column, distances)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; bad input ends it with one line instead of a traceback."""
    run(command, arguments, paths=("generated", _HELP))


if __name__ == "__main__":
    main()
