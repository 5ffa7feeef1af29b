"""`upsample`: large versions of the images in a folder that `generate` wrote.

The small images may be guided; the upsampler samples plainly, as in the paper's ImageNet-256. Each
is given as it was written, uint8, so that the chain can be cut between the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from lightning.fabric import Fabric

from augment.denoiser import Denoiser
from augment.generate.blocks import fill
from augment.generate.config import SamplerConfig
from augment.generated_folder import write_table
from augment.noise import UPSAMPLING, derived_seeds
from augment.optimise import optimised
from augment.pretrained.upsampler import Upsampler
from augment.sampler import Batch, sample_batch
from augment.upsample.small_images import SmallImages

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
        fabric: a launched Lightning Fabric; its processes take blocks in turn.

    Returns:
        The table: the small images' rows, with the large ones' file_name and path.

    Raises:
        FileNotFoundError: `small`, its table or an image is missing.
        ValueError: it was not written by `generate`, its images are no smaller than the
            upsampler's, the upsampler has classes and they have none, or `folder` holds something
            else.
    """
    denoiser, source = upsampler.denoiser, SmallImages.read(small)
    labels = _labels(denoiser, source, sampler)
    denoiser.schedule.respaced(sampler.steps)  # Says which are allowed before a file is written.
    if source.size >= denoiser.image.size:
        raise ValueError(
            f"{small} holds images of {source.size} pixels, and the upsampler makes "
            f"{denoiser.image.size}; give smaller images"
        )
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    denoiser.to(fabric.device)
    fill(
        folder,
        source.seeds,
        partial(
            _batch,
            Upsampler(optimised(denoiser)) if sampler.compile else upsampler,
            source=source,
            labels=labels,
            sampler=sampler,
        ),
        batch_size=sampler.batch_size,
        # The small images' own record is part of it.
        record={
            **denoiser.record(),
            "steps": sampler.steps,
            "small": dict(source.record),
            **sampler.chosen(),
        },
        labels=labels,
        fabric=fabric,
    )
    table = source.rows.assign(file_name=[f"{seed}.png" for seed in source.seeds])
    if fabric.is_global_zero:
        write_table(folder / "metadata.csv", table)
    fabric.barrier()
    return table.assign(path=[str((folder / name).resolve()) for name in table["file_name"]])


def _batch(
    upsampler: Upsampler,
    seeds: Sequence[int],
    *,
    source: SmallImages,
    labels: Mapping[int, int] | None,
    sampler: SamplerConfig,
) -> Batch:
    image = upsampler.denoiser.image
    small = image.from_uint8(source.images(seeds, image.channels))
    return sample_batch(
        upsampler.beside(small),
        derived_seeds(seeds, UPSAMPLING),
        steps=sampler.steps,
        solver=sampler.rule,
        labels=None if labels is None else [labels[seed] for seed in seeds],
    )


def _labels(
    denoiser: Denoiser, source: SmallImages, sampler: SamplerConfig
) -> Mapping[int, int] | None:
    """The class of each seed's image, if the upsampler has classes."""
    if denoiser.classes is None and sampler.label is None:
        return None
    given = source.labels() if sampler.label is None else [sampler.label] * len(source.seeds)
    denoiser.check_labels(torch.tensor(given, dtype=torch.int64))
    return dict(zip(source.seeds, given, strict=True))
