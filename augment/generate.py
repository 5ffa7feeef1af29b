"""`generate`: images of a pretrained model from seeds, in a folder that a stopped run continues."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from lightning.fabric import Fabric

from augment.cads import CADS
from augment.classifier_free import towards_class
from augment.denoiser import Denoiser
from augment.devices import settled
from augment.generated_folder import checked_seeds, make_missing
from augment.guidance import Guidance, SelfGuidance, Sum
from augment.optimise import optimised
from augment.sampler import Batch, class_labels, sample_batch
from augment.solvers import DDIM, Ancestral, DPMSolver2M, Solver
from augment.start import Start
from augment.step import check, group_of
from augment.temperature import Temperature

__all__ = ["SamplerConfig", "generate"]


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """The reverse process."""

    steps: int = 250
    """Reverse steps per image; at most the length of the model's schedule."""
    batch_size: int = 64
    """Images at a time on each device; fewer need less memory and change only the rounding."""
    solver: Literal["ancestral", "ddim", "dpm"] = "ancestral"
    """The update rule: ancestral (the paper's), ddim, or dpm (DPM-Solver++ of second order)."""
    eta: float = 0.0
    """Share of the noise that ddim adds, 0 to 1."""
    label: int | None = None
    """The class of every image, for a model with classes; left out, each image's own, uniform."""
    class_scale: float = 1.0
    """Classifier-free guidance towards the class, for a model with a null class; 1 is none."""
    temperature: Temperature = field(default_factory=Temperature)
    """Sampling of a flatter or sharper density, a control of guidance."""
    cads: CADS | None = None
    """Noise on the class (CADS), for more diverse images of a class; left out, none."""
    compile: bool = False
    """Compile the network first: takes minutes, pays on long runs, changes only the rounding."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"sampler.{name} is {getattr(self, name)}; give at least 1")
        if not 0 <= self.class_scale < math.inf:
            raise ValueError(
                f"sampler.class_scale is {self.class_scale}; give 0 or more, 1 for no guidance"
            )
        if self.solver not in ("ancestral", "ddim", "dpm"):
            raise ValueError(
                f"sampler.solver is {self.solver!r}; give ancestral (the paper's), ddim or dpm"
            )
        if not 0 <= self.eta <= 1 or (self.eta and self.solver != "ddim"):
            raise ValueError(
                f"sampler.eta is {self.eta} with the solver {self.solver}; "
                "give 0 to 1 with ddim, and 0 with the others"
            )
        if self.cads is not None and self.compile:
            raise ValueError("sampler.cads is given with sampler.compile; give one of them")
        if self.temperature.noise != 1 and self.solver != "ancestral":
            raise ValueError(
                f"sampler.temperature.noise is {self.temperature.noise} with the solver "
                f"{self.solver}; give the solver ancestral, or temperature.score"
            )

    @property
    def rule(self) -> Solver:
        """The solver that the settings name."""
        if self.solver == "ddim":
            return DDIM(eta=self.eta)
        if self.solver == "dpm":
            return DPMSolver2M()
        return Ancestral(temperature=self.temperature.noise)

    def prepared(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser as class guidance, temperature and CADS change it.

        Raises:
            ValueError: class guidance of one without a null class, or CADS of one without classes.
        """
        denoiser = self.temperature.applied(towards_class(denoiser, self.class_scale))
        return denoiser if self.cads is None else self.cads.applied(denoiser)

    def chosen(self) -> dict[str, Any]:
        """What of it a folder's record tells where it is not the default."""
        chosen: dict[str, Any] = {}
        if self.solver != "ancestral":
            chosen["solver"] = repr(self.rule)
        if self.label is not None:
            chosen["label"] = self.label
        if self.class_scale != 1:
            chosen["class_scale"] = self.class_scale
        if self.temperature != Temperature():
            chosen["temperature"] = asdict(self.temperature)
        if self.cads is not None:
            chosen["cads"] = asdict(self.cads)
        return chosen


def generate(
    denoiser: Denoiser,
    seeds: Sequence[int],
    folder: Path,
    *,
    sampler: SamplerConfig = SamplerConfig(),
    guidance: Guidance | None = None,
    start: Start | None = None,
    settings: Mapping[str, Any] | None = None,
    fabric: Fabric | None = None,
) -> pd.DataFrame:
    """Generate `folder/<seed>.png` for each seed and `folder/metadata.csv`.

    Whole files that stand there already are kept, and so are the rows and columns of a table. An
    image that comes out not finite is left out.

    Args:
        denoiser: the pretrained model.
        seeds: distinct non-negative integers.
        folder: made if absent; one of another run (other weights or settings) is refused.
        sampler: steps and batch size.
        guidance: None for ordinary samples.
        start: where to start, `Edit(...)` (SDEdit) or `Boost()`; None starts from pure noise.
        settings: what identifies the guidance in the folder's record and in each file; left out,
            its `repr`, which has to be the same in every process.
        fabric: a launched Lightning Fabric, to whose device the denoiser is moved and whose
            processes take blocks as they are free; left out, this process works where the
            denoiser is.

    Returns:
        The table: file_name, split (train), source (synthetic), seed, sampler, path; for a model
        with classes also class_label; where images depend on one another, seed_group, the number
        of those that do.

    Raises:
        ValueError: a repeated or negative seed, steps or a class that the model does not have,
            references that are not of its format, a guidance that does not suit it, a folder that
            holds something else, or no image that is finite.

    Warns:
        UserWarning: images are left out, or the guidance had no usable gradient on some of this
            session's steps; how many stands in the image's own text chunk, `unguided_steps`.
    """
    seeds = checked_seeds(seeds)
    denoiser = sampler.prepared(denoiser)
    asked = None if sampler.label is None else [sampler.label] * len(seeds)
    classes = class_labels(denoiser, seeds, asked)
    labels = None if classes is None else dict(zip(seeds, classes.tolist(), strict=True))
    # What the model does not have is said before a file is written.
    denoiser.schedule.respaced(sampler.steps)
    check(guidance, denoiser)
    if start is not None:
        start.check(denoiser)
    fabric = settled(denoiser, fabric)
    fast = optimised(denoiser) if sampler.compile else denoiser

    def make(block: Sequence[int], block_labels: list[int] | None) -> Batch:
        return sample_batch(
            fast,
            block,
            steps=sampler.steps,
            guidance=guidance,
            solver=sampler.rule,
            labels=block_labels,
            start=start,
        )

    return make_missing(
        folder,
        _table(seeds, labels, _method(guidance, sampler), group_of(guidance)),
        seeds,
        make,
        batch_size=sampler.batch_size,
        record=_record(denoiser, sampler, guidance, start, settings),
        labels=labels,
        fabric=fabric,
    )


def _record(
    denoiser: Denoiser,
    sampler: SamplerConfig,
    guidance: Guidance | None,
    start: Start | None,
    settings: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What makes the images what they are."""
    described: object = settings
    if settings is None and guidance:
        described = repr(guidance)  # reads all weights of a distance by features
    record = {
        **denoiser.record(),
        "steps": sampler.steps,
        "guidance": described,
        **sampler.chosen(),
    }
    return record if start is None else {**record, start.name: repr(start)}


def _table(
    seeds: Sequence[int], labels: Mapping[int, int] | None, sampler: str, group: int
) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "file_name": [f"{seed}.png" for seed in seeds],
        "split": "train",
        "source": "synthetic",
        "seed": seeds,
        "sampler": sampler,
    }
    if group > 1:
        columns["seed_group"] = [seed // group for seed in seeds]
    if labels is not None:
        columns["class_label"] = list(labels.values())
    return pd.DataFrame(columns)


def _method(guidance: Guidance | None, sampler: SamplerConfig) -> str:
    """The table's name of how an image was made."""
    if guidance is None:
        return sampler.solver
    parts = guidance.parts if isinstance(guidance, Sum) else (guidance,)
    return "self-guided" if any(isinstance(p, SelfGuidance) for p in parts) else "guided"
