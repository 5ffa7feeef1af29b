"""From seeds to a folder of PNG files with its table: the only writer of images.

Seeds are generated in blocks of `batch_size`, always the same ones together, so that a run that was
killed and started again writes byte for byte what an uninterrupted one writes. A file is named by
its seed and carries it, with the settings, in its text chunks. Images are those of the seeds asked
for and no others: nothing is made only to fill a batch and thrown away.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from lightning.fabric import Fabric
from torch import Tensor
from tqdm.auto import tqdm

from augment.denoiser import Denoiser
from augment.generated_folder import claim, is_whole, save_image, write_table
from augment.guidance import Guidance
from augment.optimise import optimised
from augment.sampler import Batch, class_labels, sample_batch, warn_unguided
from augment.solvers import DDIM, Ancestral, DPMSolver2M, Solver

__all__ = ["SamplerConfig", "generate"]


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """The reverse process."""

    steps: int = 250
    """Reverse steps an image; at most the length of the model's schedule."""
    batch_size: int = 64
    """Images at a time on each device; fewer need less memory and change only the rounding."""
    solver: Literal["ancestral", "ddim", "dpm"] = "ancestral"
    """The update rule: ancestral (the paper's), ddim, or dpm (DPM-Solver++ of second order)."""
    eta: float = 0.0
    """Share of the noise that ddim adds, 0 to 1."""
    label: int | None = None
    """The class of every image, for a model with classes; left out, each image's own, uniform."""
    compile: bool = False
    """Compile the network first: takes minutes, pays on long runs, changes only the rounding."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"sampler.{name} is {getattr(self, name)}; give at least 1")
        if self.solver not in ("ancestral", "ddim", "dpm"):
            raise ValueError(
                f"sampler.solver is {self.solver!r}; allowed are ancestral, ddim and dpm; "
                "ancestral is the paper's"
            )
        if not 0 <= self.eta <= 1 or (self.eta and self.solver != "ddim"):
            raise ValueError(
                f"sampler.eta is {self.eta} with the solver {self.solver}; "
                "allowed is 0 to 1 with ddim, and 0 with the others"
            )

    @property
    def rule(self) -> Solver:
        """The solver that the settings name."""
        if self.solver == "ddim":
            return DDIM(eta=self.eta)
        return DPMSolver2M() if self.solver == "dpm" else Ancestral()


def generate(
    denoiser: Denoiser,
    seeds: Sequence[int],
    folder: Path,
    *,
    sampler: SamplerConfig = SamplerConfig(),
    guidance: Guidance | None = None,
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
        settings: what identifies the guidance in the folder's record and in each file; left out,
            its `repr`, which has to be the same in every process.
        fabric: a launched Lightning Fabric; its processes take blocks in turn.

    Returns:
        The table: file_name, split (train), source (synthetic), seed, sampler, path; for a model
        with classes also class_label.

    Raises:
        ValueError: a repeated or negative seed, steps or a class that the model does not have, or a
            folder that holds something else.

    Warns:
        UserWarning: the guidance had no usable gradient on some of this session's steps; how many
            they were stands in the image's own text chunk, `unguided_steps`.
    """
    seeds = _checked(seeds)
    labels = _labels(denoiser, seeds, sampler)
    denoiser.schedule.respaced(sampler.steps)  # says which are allowed before a file is written
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    record = _record(denoiser, sampler, guidance, settings)
    with fabric.rank_zero_first():
        folder.mkdir(parents=True, exist_ok=True)
        claim(folder, record, seeds)
    denoiser.to(fabric.device)
    unguided = _generate_files(denoiser, seeds, folder, record, sampler, guidance, fabric)
    fabric.barrier()
    table = _table(folder, seeds, labels, "self-guided" if guidance else sampler.solver)
    if fabric.is_global_zero:
        warn_unguided(unguided)
        write_table(folder / "metadata.csv", table.drop(columns="path"))
    fabric.barrier()
    return table


def _generate_files(
    denoiser: Denoiser,
    seeds: Sequence[int],
    folder: Path,
    record: Mapping[str, Any],
    sampler: SamplerConfig,
    guidance: Guidance | None,
    fabric: Fabric,
) -> int:
    """Write what is missing; on how many steps of its images, in all processes, guidance failed."""
    denoiser = optimised(denoiser) if sampler.compile else denoiser
    total = torch.zeros((), dtype=torch.int64)
    for block in _unfinished_blocks(folder, seeds, sampler.batch_size, fabric):
        labels = _labels(denoiser, block, sampler)
        with fabric.autocast():
            batch = sample_batch(
                denoiser,
                block,
                steps=sampler.steps,
                guidance=guidance,
                solver=sampler.rule,
                labels=labels,
            )
        total += batch.unguided.sum()
        _save_block(batch, block, labels, folder, record)
    summed: Tensor = fabric.all_reduce(total, reduce_op="sum")  # type: ignore[assignment]
    return int(summed)


def _save_block(
    batch: Batch,
    seeds: Sequence[int],
    labels: Sequence[int] | None,
    folder: Path,
    record: Mapping[str, Any],
) -> None:
    """Write the images that are not there yet."""
    for row, seed in enumerate(seeds):
        if is_whole(folder / f"{seed}.png"):
            continue
        text = {"seed": seed, **record}
        if labels is not None:
            text["class_label"] = labels[row]
        if failed := int(batch.unguided[row]):
            text["unguided_steps"] = failed
        save_image(batch.images[row], folder / f"{seed}.png", text)


def _labels(
    denoiser: Denoiser, seeds: Sequence[int], sampler: SamplerConfig
) -> Sequence[int] | None:
    """The class of each image; None if the model has none."""
    asked = None if sampler.label is None else [sampler.label] * len(seeds)
    labels = class_labels(denoiser, seeds, asked)
    return None if labels is None else labels.tolist()


def _checked(seeds: Sequence[int]) -> list[int]:
    plain = [int(seed) for seed in seeds]
    if plain and min(plain) < 0:
        raise ValueError(f"seed {min(plain)} is negative; give integers from 0 up")
    if twice := [seed for seed, count in Counter(plain).items() if count > 1]:
        raise ValueError(f"seed {twice[0]} is given twice; give distinct seeds, one an image")
    return plain


def _record(
    denoiser: Denoiser,
    sampler: SamplerConfig,
    guidance: Guidance | None,
    settings: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What makes the images what they are, as JSON gives it back (a tuple as a list)."""
    described = repr(guidance) if guidance else None
    record = {
        "weights": denoiser.card.get("sha256", ""),
        "image": denoiser.image.shape,
        "steps": sampler.steps,
        "guidance": described if settings is None else dict(settings),
    }
    if sampler.solver != "ancestral":
        record["solver"] = repr(sampler.rule)
    if sampler.label is not None:
        record["label"] = sampler.label
    plain: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return plain


def _unfinished_blocks(
    folder: Path, seeds: Sequence[int], batch_size: int, fabric: Fabric
) -> Iterable[Sequence[int]]:
    """Blocks of seeds that lack a file, of this process alone; a progress bar on the first one."""
    blocks = [seeds[first : first + batch_size] for first in range(0, len(seeds), batch_size)]
    mine = [
        block
        for block in blocks[fabric.global_rank :: fabric.world_size]
        if not all(is_whole(folder / f"{seed}.png") for seed in block)
    ]
    silent = not (mine and fabric.is_global_zero)
    bar: Iterable[Sequence[int]] = tqdm(
        mine, desc=f"generate {folder.name}", unit="batch", disable=silent
    )
    return bar


def _table(
    folder: Path, seeds: Sequence[int], labels: Sequence[int] | None, sampler: str
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
        columns["class_label"] = labels
    return pd.DataFrame(columns).assign(path=[str((folder / name).resolve()) for name in names])
