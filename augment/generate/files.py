"""`generate`: images of a pretrained model, written to a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.fabric import Fabric

from augment.denoiser import Denoiser
from augment.edit import Edit
from augment.generate.blocks import checked_seeds, fill
from augment.generate.config import SamplerConfig
from augment.generated_folder import write_table
from augment.guidance import Guidance, SelfGuidance, Sum
from augment.guidance.contract import check
from augment.optimise import optimised
from augment.sampler import Batch, class_labels, sample_batch, warn_unguided

__all__ = ["generate"]


def generate(
    denoiser: Denoiser,
    seeds: Sequence[int],
    folder: Path,
    *,
    sampler: SamplerConfig = SamplerConfig(),
    guidance: Guidance | None = None,
    edit: Edit | None = None,
    settings: Mapping[str, Any] | None = None,
    fabric: Fabric | None = None,
) -> pd.DataFrame:
    """Generate `folder/<seed>.png` for each seed and `folder/metadata.csv`.

    Whole files that stand there already are kept, and so are the rows and columns of a table.

    Args:
        denoiser: the pretrained model.
        seeds: distinct non-negative integers.
        folder: made if absent; one of another run (other weights or settings) is refused.
        sampler: steps and batch size.
        guidance: None for ordinary samples.
        edit: images to start from (SDEdit); None starts from pure noise.
        settings: what identifies the guidance in the folder's record and in each file; left out,
            its `repr`, which has to be the same in every process.
        fabric: a launched Lightning Fabric; its processes take blocks in turn.

    Returns:
        The table: file_name, split (train), source (synthetic), seed, sampler, path; for a model
        with classes also class_label.

    Raises:
        ValueError: a repeated or negative seed, steps or a class that the model does not have,
            references that are not of its format, a guidance that does not suit it, or a folder
            that holds something else.

    Warns:
        UserWarning: the guidance had no usable gradient on some of this session's steps; how many
            they were stands in the image's own text chunk, `unguided_steps`.
    """
    seeds = checked_seeds(seeds)
    labels = _labels(denoiser, seeds, sampler)
    # What the model does not have is said before a file is written.
    denoiser.schedule.respaced(sampler.steps)
    check(guidance, denoiser)
    if edit is not None:
        edit.check(denoiser)
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    denoiser.to(fabric.device)
    fast = optimised(denoiser) if sampler.compile else denoiser
    unguided = fill(
        folder,
        seeds,
        partial(_batch, fast, sampler=sampler, guidance=guidance, edit=edit, labels=labels),
        batch_size=sampler.batch_size,
        record=_record(denoiser, sampler, guidance, edit, settings),
        labels=labels,
        fabric=fabric,
    )
    table = _table(folder, seeds, labels, _method(guidance, sampler))
    if fabric.is_global_zero:
        warn_unguided(unguided)
        write_table(folder / "metadata.csv", table.drop(columns="path"))
    fabric.barrier()
    return table


def _batch(
    denoiser: Denoiser,
    seeds: Sequence[int],
    *,
    sampler: SamplerConfig,
    guidance: Guidance | None,
    edit: Edit | None,
    labels: Mapping[int, int] | None,
) -> Batch:
    return sample_batch(
        denoiser,
        seeds,
        steps=sampler.steps,
        guidance=guidance,
        solver=sampler.rule,
        labels=None if labels is None else [labels[seed] for seed in seeds],
        edit=edit,
    )


def _method(guidance: Guidance | None, sampler: SamplerConfig) -> str:
    """The table's name of how an image was made."""
    if guidance is None:
        return sampler.solver
    parts = guidance.parts if isinstance(guidance, Sum) else (guidance,)
    return "self-guided" if any(isinstance(p, SelfGuidance) for p in parts) else "guided"


def _labels(
    denoiser: Denoiser, seeds: Sequence[int], sampler: SamplerConfig
) -> Mapping[int, int] | None:
    """The class of each seed's image; None if the model has none."""
    asked = None if sampler.label is None else [sampler.label] * len(seeds)
    labels = class_labels(denoiser, seeds, asked)
    return None if labels is None else dict(zip(seeds, labels.tolist(), strict=True))


def _record(
    denoiser: Denoiser,
    sampler: SamplerConfig,
    guidance: Guidance | None,
    edit: Edit | None,
    settings: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What makes the images what they are, as JSON gives it back (a tuple as a list)."""
    described: object = dict(settings) if settings is not None else None
    if settings is None and guidance:
        described = repr(guidance)  # reads all weights of a distance by features
    record = {
        **denoiser.record(),
        "steps": sampler.steps,
        "guidance": described,
        **sampler.chosen(),
    }
    if edit is not None:
        record["edit"] = repr(edit)
    plain: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return plain


def _table(
    folder: Path, seeds: Sequence[int], labels: Mapping[int, int] | None, sampler: str
) -> pd.DataFrame:
    names = [f"{seed}.png" for seed in seeds]
    columns: dict[str, Any] = {
        "file_name": names,
        "split": "train",
        "source": "synthetic",
        "seed": seeds,
        "sampler": sampler,
    }
    if labels is not None:
        columns["class_label"] = list(labels.values())
    return pd.DataFrame(columns).assign(path=[str((folder / name).resolve()) for name in names])
