"""`upsample`: large versions of the images in a folder that `generate` wrote.

So does ADM's 64-to-256 chain for ImageNet. The small images may be guided; the upsampler samples
plainly, as in the paper's ImageNet-256. Each small image is given to it as it was written, uint8,
so that the chain can be cut between the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.fabric import Fabric
from torch import Tensor

from augment.classifier_free import towards_class
from augment.denoiser import Denoiser
from augment.devices import settled
from augment.files import read_record
from augment.generate import SamplerConfig
from augment.generated_folder import (
    RECORD,
    TABLE,
    checked_seeds,
    make_missing,
    read_png,
    read_table,
)
from augment.images import ImageFiles
from augment.noise import UPSAMPLING, derived_seeds
from augment.optimise import optimised
from augment.pretrained.upsampler import Upsampler
from augment.sampler import Batch, sample_batch
from augment.temperature import Temperature

__all__ = ["upsample"]


def upsample(
    upsampler: Upsampler,
    small: Path,
    folder: Path,
    *,
    sampler: SamplerConfig = SamplerConfig(),
    fabric: Fabric | None = None,
) -> pd.DataFrame:
    """Write `folder/<seed>.png` for each row of the table in `small`, and `folder/metadata.csv`.

    Whole files that stand there already are kept, and so are the rows and columns of a table. An
    image depends on the weights and settings of both runs and on its seed alone, from which its
    noise is drawn anew.

    Args:
        upsampler: from `load_upsampler`.
        small: a folder that `generate` wrote, perhaps labelled since.
        folder: made if absent; one of another run is refused.
        sampler: steps, solver and batch size; its label, if given, goes before the table's.
        fabric: a launched Lightning Fabric, to whose device the upsampler is moved and whose
            processes take blocks as they are free; left out, this process works where the
            upsampler is.

    Returns:
        The table: the small images' rows, with the large ones' file_name and path.

    Raises:
        FileNotFoundError: `small`, its table or an image is missing.
        ValueError: it was not written by `generate` or is damaged, its images are no smaller than
            the upsampler's, the upsampler has classes and they have none, `folder` holds something
            else, or no large image is finite.
    """
    if sampler.temperature != Temperature() or sampler.cads is not None:
        raise ValueError(
            f"sampler.temperature is {sampler.temperature} and sampler.cads {sampler.cads}; an "
            "upsampler has neither: leave them out"
        )
    denoiser = towards_class(upsampler.denoiser, sampler.class_scale)
    upsampler, source = Upsampler(denoiser), _SmallImages.read(small)
    labels = _labels(denoiser, source, sampler)
    denoiser.schedule.respaced(sampler.steps)  # Says which are allowed before a file is written.
    if source.size >= denoiser.image.size:
        raise ValueError(
            f"{small} holds images of {source.size} pixels, and the upsampler makes "
            f"{denoiser.image.size}; give smaller images"
        )
    fabric = settled(denoiser, fabric)
    fast = Upsampler(optimised(denoiser)) if sampler.compile else upsampler

    def make(block: Sequence[int], block_labels: list[int] | None) -> Batch:
        beside = denoiser.image.from_uint8(source.images(block, denoiser.image.channels))
        return sample_batch(
            fast.beside(beside),
            derived_seeds(block, UPSAMPLING),
            steps=sampler.steps,
            solver=sampler.rule,
            labels=block_labels,
        )

    return make_missing(
        folder,
        source.rows,
        source.seeds,
        make,
        batch_size=sampler.batch_size,
        record={
            **denoiser.record(),
            "steps": sampler.steps,
            "small": source.record,
            **sampler.chosen(),
        },
        labels=labels,
        fabric=fabric,
    )


def _labels(
    denoiser: Denoiser, source: _SmallImages, sampler: SamplerConfig
) -> Mapping[int, int] | None:
    """The class of each seed's image, if the upsampler has classes."""
    if denoiser.classes is None and sampler.label is None:
        return None
    given = source.labels() if sampler.label is None else [sampler.label] * len(source.seeds)
    denoiser.check_labels(torch.tensor(given, dtype=torch.int64))
    return dict(zip(source.seeds, given, strict=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class _SmallImages:
    """The images to enlarge, by their seeds."""

    folder: Path
    record: Mapping[str, Any]
    """The settings they were made with."""
    rows: pd.DataFrame
    """Their table; every cell is text, as it stands there."""
    seeds: list[int]
    """One per row."""
    size: int
    """Height and width in pixels."""

    @classmethod
    def read(cls, folder: Path) -> _SmallImages:
        """Read the folder's record and table, and see that its images are there."""
        record = read_record(folder / RECORD)
        rows = read_table(folder / TABLE)
        try:
            seeds = checked_seeds(_integers(rows["seed"]))
            size = int(record["image"][-1])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{folder} has no seed of its own for every image, or not their size ({error}); "
                "give a folder as `generate` wrote it"
            ) from error
        for name, seed in zip(rows["file_name"], seeds, strict=True):
            if name != f"{seed}.png":
                raise ValueError(
                    f"{folder / TABLE} names {name} beside seed {seed}; give a folder as "
                    f"`generate` wrote it, where that is {seed}.png"
                )
        missing = [name for name in rows["file_name"] if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} images of {folder / TABLE} are missing, the first "
                f"{folder / missing[0]}; copy them there or take their rows out"
            )
        return cls(folder=folder, record=record, rows=rows, seeds=seeds, size=size)

    def images(self, seeds: Sequence[int], channels: int) -> Tensor:
        """Those of some seeds, uint8 (B, channels, size, size)."""
        paths = [self.folder / f"{seed}.png" for seed in seeds]
        return ImageFiles(paths, read_png, size=self.size, channels=channels).stack()

    def labels(self) -> list[int]:
        """The class of each row's image."""
        if "class_label" not in self.rows:
            raise ValueError(
                f"the upsampler has classes, and {self.folder / TABLE} has no column class_label; "
                "give sampler.label, one class for all"
            )
        try:
            return _integers(self.rows["class_label"])
        except ValueError as error:
            raise ValueError(
                f"class_label in {self.folder / TABLE} is not a class for every image ({error}); "
                "repair it, or give sampler.label, one class for all"
            ) from error


def _integers(cells: pd.Series) -> list[int]:
    """Numbers as they were written, or as pandas or a spreadsheet may have: 3.0 is 3."""
    plain = [cell.removesuffix(".0") for cell in cells]
    if bad := [cell for cell in plain if not cell.removeprefix("-").isdecimal()]:
        raise ValueError(f"{bad[0]!r} is not a whole number")
    return [int(cell) for cell in plain]
