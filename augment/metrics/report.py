"""The result of measuring sets: one table with a row per set, one with a row per image, and
pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from augment.files import write_bytes
from augment.images import Read
from augment.metrics.fidelity import frechet_distance, kid, mean_interval
from augment.metrics.pictures import ImageSet, contact_sheet, density_plot
from augment.metrics.scores import Measured, Orders, Reference, measure
from augment.metrics.vectors import Vectors, check_count

__all__ = [
    "Results",
    "add_frechet",
    "check_sizes",
    "distances",
    "likeness",
    "measure_sets",
    "rarest",
    "set_row",
    "tail_count",
    "text_table",
]

_SUBSET = 1000
"""Images of a KID subset, as in the literature."""

_TITLES = {
    "set": "set",
    "images": "images",
    "verdict": "verdict",
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
    """One row per set; what is not defined for the real one is NaN."""
    images: Mapping[str, pd.DataFrame]
    """The table of each set, by name, one row per image: avg_knn, lof and, but for the real one,
    rarity."""
    reference: pd.DataFrame
    """The real images that the sets were compared with: columns row and file_name, and of a tail
    also avg_knn, the rarest first."""

    def write(self, folder: Path, read: Read) -> None:
        """Write metrics.csv, per_image.csv, density.png, rarest.png and commonest.png.

        If the reference is a tail, also reference.csv.

        Args:
            folder: where; it exists.
            read: decodes an image file, for the pictures.
        """
        rows = [self.images[s.name].assign(set=s.name, file=list(s.file_names)) for s in self.sets]
        images = pd.concat(rows, ignore_index=True)
        images = images[["set", "file", *(c for c in images if c not in ("set", "file"))]]
        tables = {"per_image.csv": images, "metrics.csv": self.table}
        if "avg_knn" in self.reference:
            tables["reference.csv"] = self.reference.drop(columns="row")
        for name, table in tables.items():
            write_bytes(folder / name, table.to_csv(index=False).encode())
        write_bytes(folder / "density.png", density_plot(self.images))
        for name in ("rarest", "commonest"):
            sheet = contact_sheet(self.sets, self.images, read, rarest=name == "rarest")
            write_bytes(folder / f"{name}.png", sheet)


def tail_count(reference: str) -> int | None:
    """N of the words `tail:N`; None for `all`.

    Raises:
        ValueError: it is neither.
    """
    kind, _, count = reference.partition(":")
    if reference == "all":
        return None
    if kind != "tail" or not count.isdigit() or int(count) < 1:
        raise ValueError(
            f"reference is {reference!r}; give all, or tail:N for the N real images of the highest "
            "AvgkNN, such as tail:10000, the paper's for CelebA"
        )
    return int(count)


def check_sizes(
    real: ImageSet, sets: Sequence[ImageSet], *, tail_count: int | None, orders: Orders
) -> None:
    """Refuse what is too small for the neighbours; worth asking before features are extracted.

    Raises:
        ValueError: too few images of a set, or in the tail.
    """
    count, given = len(real.paths), f"{len(real.paths)} images of {real.name}"
    for name, k in vars(orders).items():
        check_count(f"neighbours.{name}", k, count - 1, given)
    if tail_count is not None:
        check_count("tail", tail_count, count, given)
        given = f"{tail_count} images in the tail"
        check_count("neighbours.precision", orders.precision, tail_count - 1, given)
        check_count("neighbours.density", orders.density, tail_count - 1, given)
    for made in sets:
        given = f"{len(made.paths)} images of {made.name}"
        check_count("neighbours.precision", orders.precision, len(made.paths) - 1, given)


def measure_sets(
    real: ImageSet,
    sets: Sequence[ImageSet],
    features: Sequence[Tensor],
    *,
    tail_count: int | None = None,
    orders: Orders | None = None,
) -> Results:
    """Measure sets against real images.

    Args:
        real: the real images.
        sets: the others.
        features: of the real set and of each other, floating (N, D), on one device.
        tail_count: compare with so many real images of the highest AvgkNN; left out, with all. How
            rare an image is, is measured against all of them all the same.
        orders: numbers of neighbours; left out, those of the literature.

    Raises:
        ValueError: too few images for the neighbours or the tail.
    """
    orders = orders or Orders()
    check_sizes(real, sets, tail_count=tail_count, orders=orders)
    of_real, *others = features
    everything = Reference(of_real, orders)
    # The rarity score is not defined for real images: each is the centre of one of the balls.
    own = pd.DataFrame({"avg_knn": everything.avg_knn, "lof": everything.lof})
    reference = pd.DataFrame({"row": np.arange(len(own)), "file_name": list(real.file_names)})
    compared = everything
    if tail_count is not None:
        reference["avg_knn"] = own["avg_knn"]
        reference = reference.iloc[rarest(own["avg_knn"], tail_count)]
        fewest = replace(orders, avg_knn=1, lof=1, rarity=1)  # nobody reads these of the tail
        compared = Reference(of_real[torch.tensor(reference["row"].tolist())], fewest)
    images = {real.name: own}
    rows: list[dict[str, Any]] = [{"set": real.name, "images": len(own), **_means(own)}]
    for made, generated in zip(sets, others, strict=True):
        measured = measure(generated, everything)
        against = measured if compared is everything else measure(generated, compared)
        images[made.name] = pd.DataFrame(
            {k: getattr(measured, k) for k in ("avg_knn", "lof", "rarity")}
        )
        apart = distances(generated, compared.features)
        rows.append(
            {"set": made.name, "images": len(generated), **apart, **set_row(measured, against)}
        )
    # The last row has every column, in order.
    frame = pd.DataFrame(rows)[list(rows[-1])]
    return Results(sets=[real, *sets], table=frame, images=images, reference=reference)


def add_frechet(results: Results, others: Mapping[str, Sequence[Tensor]]) -> None:
    """Frechet distances under further encoders, in place; NaN in the real set's own row.

    Args:
        results: of the same sets.
        others: column -> the features of the real set and of each other, floating (N, D).
    """
    rows = torch.tensor(results.reference["row"].tolist())
    for column, (real, *generated) in others.items():
        distances = [np.nan, *(frechet_distance(real[rows], g) for g in generated)]
        results.table.insert(3, column, distances)


def rarest(scores: npt.ArrayLike, count: int) -> npt.NDArray[np.intp]:
    """Positions of the highest `count` scores (N,), the highest first, equal ones in order.

    Of AvgkNN they are the paper's reference sets: of CelebA's training images the 10,000 highest
    (ResNet-50, k = 5), elsewhere 50,000.
    """
    order: npt.NDArray[np.intp] = np.argsort(-np.asarray(scores), kind="stable")
    return order[:count]


def distances(generated: Vectors, real: Vectors) -> dict[str, float]:
    """How far a set's distribution is from the real one's.

    Args:
        generated: floating (N, D), N >= 2.
        real: floating (M, D), M >= 2.

    Returns:
        frechet; kid and kid_std, mean and standard deviation over 100 subsets, which are of half
        the smaller set where that is less than the usual 1000: its own subsets then still differ.
        KID is unbiased, so that their size changes its noise alone.
    """
    size = max(2, min(_SUBSET, len(generated) // 2, len(real) // 2))
    mean, deviation = kid(real, generated, subset_size=size)
    return {"frechet": frechet_distance(real, generated), "kid": mean, "kid_std": deviation}


def likeness(generated: Tensor, real: Tensor, *, orders: Orders | None = None) -> dict[str, float]:
    """How like a set is to some real images, such as a tail.

    Args:
        generated: floating (N, D).
        real: floating (M, D), on the same device.
        orders: numbers of neighbours; left out, those of the literature.

    Returns:
        `distances`, precision and recall with their intervals, density and coverage.
    """
    fewest = replace(orders or Orders(), avg_knn=1, lof=1, rarity=1)  # nobody reads these
    return {**distances(generated, real), **_overlap(measure(generated, Reference(real, fewest)))}


def set_row(measured: Measured, against: Measured) -> dict[str, float]:
    """A set's means over its images, each with `_low` and `_high`, the ends of `mean_interval`.

    Args:
        measured: the set against all real images: how rare its images are. The mean of rarity is
            over the images in the manifold, whose share is in_manifold.
        against: the set against the images that it is compared with: precision, recall, density and
            coverage (the latter two have no interval).
    """
    scores = {k: getattr(measured, k) for k in ("avg_knn", "lof", "rarity")}
    rarities = _means({**scores, "in_manifold": ~np.isnan(measured.rarity)})
    return {**_overlap(against), **rarities}


def _overlap(measured: Measured) -> dict[str, float]:
    """Precision and recall with their intervals, density and coverage."""
    return {
        **_means({"precision": measured.inside, "recall": measured.recalled}),
        "density": measured.density,
        "coverage": measured.coverage,
    }


def text_table(table: pd.DataFrame) -> str:
    """The table for a terminal, each mean with its interval, KID with its standard deviation."""
    cells = {
        title: [_cell(row, name) for _, row in table.iterrows()]
        for name, title in _TITLES.items()
        if name in table
    }
    return pd.DataFrame(cells).to_string(index=False)


def _means(columns: Mapping[str, npt.ArrayLike] | pd.DataFrame) -> dict[str, float]:
    """The mean of each column with the ends of its interval."""
    row: dict[str, float] = {}
    for name, values in columns.items():
        row[str(name)], row[f"{name}_low"], row[f"{name}_high"] = mean_interval(values)
    return row


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
