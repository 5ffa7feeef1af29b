"""The result of measuring sets: a table a row a set, a table a row an image, and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from augment.atomic import write_bytes
from augment.metrics.pictures import contact_sheet, density_plot
from augment.metrics.reference import Orders, Reference, measure
from augment.metrics.rows import distances, fidelity, image_rows, rareness, real_image_rows
from augment.metrics.sets import ImageSet
from augment.metrics.tail import rarest
from augment.metrics.vectors import check_count

__all__ = ["Results", "check_sizes", "claim", "measure_sets", "text_table"]

_RECORD, _TABLE, _IMAGES = "settings.json", "metrics.csv", "per_image.csv"

_TITLES = {
    "set": "set",
    "images": "images",
    "frechet": "Frechet",
    "fid_pytorch_fid": "FID (pytorch-fid)",
    "sfid": "sFID",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "avg_knn": "AvgkNN",
    "lof": "LOF",
    "rarity": "rarity",
    "in_manifold": "in manifold",
}


@dataclass(frozen=True, kw_only=True)
class Results:
    """Sets with what was measured of them; the first one is real."""

    sets: Sequence[ImageSet]
    """The real set, then the others; their names are distinct."""
    table: pd.DataFrame
    """A row a set; what is not defined for the real one is NaN."""
    images: Mapping[str, pd.DataFrame]
    """Of each set, by name, a row an image."""
    reference: pd.DataFrame
    """The real images that the sets were compared with: columns row and file_name, and of a tail
    also avg_knn, the rarest first."""

    def write(self, folder: Path) -> None:
        """Write metrics.csv, per_image.csv, density.png, rarest.png and commonest.png.

        If the reference is a tail, also reference.csv.
        """
        files = [self.images[s.name].assign(file=list(s.file_names)) for s in self.sets]
        names = [s.name for s in self.sets]
        images = pd.concat(files, keys=names, names=["set"]).reset_index("set")
        first = ["set", "file"]
        images = images[first + [name for name in images if name not in first]]
        write_bytes(folder / _IMAGES, images.to_csv(index=False).encode())
        if "avg_knn" in self.reference:
            tail_table = self.reference.drop(columns="row")
            write_bytes(folder / "reference.csv", tail_table.to_csv(index=False).encode())
        write_bytes(folder / "density.png", density_plot(self.images))
        for name in ("rarest", "commonest"):
            sheet = contact_sheet(self.sets, self.images, rarest=name == "rarest")
            write_bytes(folder / f"{name}.png", sheet)
        write_bytes(folder / _TABLE, self.table.to_csv(index=False).encode())


def check_sizes(
    real: ImageSet, sets: Sequence[ImageSet], *, tail_count: int | None, orders: Orders
) -> None:
    """Refuse what is too small for the neighbours; worth asking before features are extracted.

    Raises:
        ValueError: too few images of a set, or in the tail.
    """
    count = len(real.file_names)
    for name, k in vars(orders).items():
        check_count(f"the k of {name}", k, count - 1, f"{count} images of {real.name}")
    if tail_count is not None:
        check_count("tail", tail_count, count, f"{count} images of {real.name}")
        for name in ("precision", "density"):
            k = getattr(orders, name)
            check_count(f"the k of {name}", k, tail_count - 1, f"{tail_count} images in the tail")
    for made in sets:
        count = len(made.file_names)
        k = orders.precision
        check_count("the k of precision", k, count - 1, f"{count} images of {made.name}")


def measure_sets(
    real: ImageSet,
    sets: Sequence[ImageSet],
    features: Sequence[Tensor],
    *,
    tail_count: int | None = None,
    orders: Orders = Orders(),
) -> Results:
    """Measure sets against real images.

    Args:
        real: the real images.
        sets: the others.
        features: of the real set and of each other, floating (N, D), on one device.
        tail_count: compare with so many real images of the highest AvgkNN; left out, with all. How
            rare an image is, is measured against all of them all the same.
        orders: numbers of neighbours.

    Raises:
        ValueError: too few images for the neighbours or the tail.
    """
    check_sizes(real, sets, tail_count=tail_count, orders=orders)
    of_real, *others = features
    everything = Reference(of_real, orders)
    # The search among all the real images, which takes longest, is done once, and here.
    own = real_image_rows(everything)
    table = _reference_table(real, own, tail_count)
    compared = everything
    if tail_count is not None:
        fewest = replace(orders, avg_knn=1, lof=1, rarity=1)  # nobody reads these of the tail
        compared = Reference(of_real[torch.tensor(table["row"].tolist())], fewest)
    images = {real.name: own}
    rows: list[dict[str, Any]] = [{"set": real.name, "images": len(own), **rareness(own)}]
    for made, generated in zip(sets, others, strict=True):
        images[made.name], measures = _measure(generated, everything, compared)
        rows.append({"set": made.name, "images": len(generated), **measures})
    # The last row has every column, in order.
    frame = pd.DataFrame(rows)[list(rows[-1])]
    return Results(sets=[real, *sets], table=frame, images=images, reference=table)


def text_table(table: pd.DataFrame) -> str:
    """The table for a terminal, each mean with its interval, KID with its standard deviation."""
    cells = {
        title: [_cell(row, name) for _, row in table.iterrows()]
        for name, title in _TITLES.items()
        if name in table
    }
    return pd.DataFrame(cells).to_string(index=False)


def claim(folder: Path, record: Mapping[str, Any]) -> None:
    """Make the folder and record what its results are of, or check that it holds the same.

    Raises:
        ValueError: it holds results of something else, or that are not ours.
    """
    path = folder / _RECORD
    written = json.loads(json.dumps(record, default=str))
    found = _read_record(path) if path.is_file() else {}
    if found == written:
        return
    ours = (_TABLE, _IMAGES, "density.png", "rarest.png", "commonest.png", "reference.csv")
    results = [name for name in ours if (folder / name).exists()]
    # What a run that failed has claimed, another one may have.
    if path.is_file() and (results or found.keys() != written.keys()):
        raise ValueError(f"{folder} holds other results ({path.name}); give another --out")
    if results:
        raise ValueError(
            f"{folder} holds {results[0]} but no {_RECORD}, so no results of ours; "
            "give another --out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(path, (json.dumps(written, indent=2) + "\n").encode())


def _read_record(path: Path) -> dict[str, Any]:
    """What `claim` wrote; empty if it is not that."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _measure(
    generated: Tensor, everything: Reference, compared: Reference
) -> tuple[pd.DataFrame, dict[str, float]]:
    """A set's rows of images, and its own row's measures."""
    measured = measure(generated, everything)
    against = measured if compared is everything else measure(generated, compared)
    images = image_rows(measured)
    apart = distances(generated, compared.features)
    return images, {**apart, **fidelity(against), **rareness(images)}


def _reference_table(real: ImageSet, own: pd.DataFrame, count: int | None) -> pd.DataFrame:
    """The real images that sets are compared with."""
    table = pd.DataFrame({"row": np.arange(len(own)), "file_name": list(real.file_names)})
    if count is None:
        return table
    scored = table.assign(avg_knn=own["avg_knn"])
    return scored.iloc[rarest(scored["avg_knn"].to_numpy(), count)]


def _cell(row: pd.Series[Any], name: str) -> str:
    value = row[name]
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return "-"
    if (deviation := row.get(f"{name}_std")) is not None:
        return f"{value:.4g} (sd {deviation:.2g})"
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return f"{value:.4g}" if low is None else f"{value:.4g} ({low:.4g}-{high:.4g})"
