"""Synthetic sets as data: what makes each, by name.

A set is written as a mapping, in YAML or Python, and says only where it differs from the run:

    strong: {guidance: {scale: 2.0}}              # made here; the rest of the guidance is the run's
    fewer: {guidance: {}, sampler: {steps: 25, solver: ddim}, count: 100}
    edited: {start: {images: rare/, strength: 0.4}}
    stylegan: {folder: runs/stylegan}             # made elsewhere, by any generator
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from augment import FeatureDistance, SamplerConfig, SelfGuidanceConfig
from augment.distance import NAMED, Distance
from labeling import Labeler, Predictor
from recipes.chain.values import Values, merged, read_values

__all__ = [
    "NO_FEATURES",
    "PAPER_SETS",
    "DistanceName",
    "EditSettings",
    "GuidanceConfig",
    "SyntheticSet",
    "named_distance",
    "synthetic_set",
]

DistanceName = Literal["lpips", "l1", "l2", "features"]

NO_FEATURES = (
    "distance features needs one labeler with a torch network, which an .onnx file and several "
    "labelers are not; give another labeler or distance"
)

PAPER_SETS: Mapping[str, Values] = {"plain": {}, "minority": {"guidance": {}}}
"""The sets of the paper's study: ordinary samples, and self-guided ones of the same seeds."""


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig(SelfGuidanceConfig):
    """Self-guidance towards images of low density."""

    distance: DistanceName = "features"
    """lpips (the paper's, needs AlexNet's weights), features (the labeler's own), l1 or l2."""


@dataclass(frozen=True, kw_only=True)
class EditSettings:
    """Images to start from instead of noise (SDEdit)."""

    images: Path
    """An image, or a folder of images that are taken in turn."""
    strength: float = 0.5
    """How much of an image is made anew, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class SyntheticSet:
    """A set of synthetic images: made here by the run's generator, or a folder made elsewhere."""

    folder: Path | None = None
    """Images that any other generator made; left out, the images are made here."""
    count: int | None = None
    """How many images; left out, the run's number, or all of a folder."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """The reverse process."""
    guidance: GuidanceConfig | None = None
    """Self-guidance; without it, ordinary samples."""
    start: EditSettings | None = None
    """Images to start from; left out, pure noise."""

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError(f"count is {self.count}; give at least 1 image")
        if self.folder is not None and (self.guidance or self.start):
            raise ValueError(
                f"folder {self.folder} is given beside guidance or start; give a folder for images "
                "made elsewhere, the others for images made here"
            )


def synthetic_set(
    name: str, values: Values, *, count: int, sampler: SamplerConfig, guidance: GuidanceConfig
) -> SyntheticSet:
    """A set from its mapping; what the mapping leaves out is the run's.

    Args:
        name: of the set, for refusals.
        values: the mapping; `guidance: {}` is the run's own guidance.
        count: images of a set that is made here.
        sampler: the run's.
        guidance: the run's.

    Raises:
        ValueError: an unknown field or a refused value.
    """
    base: dict[str, Any] = {}
    if isinstance(values, Mapping) and not values.get("folder"):
        base = {"count": count, "sampler": asdict(sampler)}
        if values.get("guidance") is not None:
            base["guidance"] = asdict(guidance)
        values = merged(base, values)
    return read_values(SyntheticSet, values, f"sets.{name}")


def named_distance(name: DistanceName, labeler: Predictor) -> Distance:
    """The distance that a setting names; `features` are the labeler's.

    Raises:
        ValueError: `features` of a labeler that has no gradients.
    """
    if name == "features":
        if not isinstance(labeler, Labeler):
            raise ValueError(NO_FEATURES)
        return FeatureDistance(labeler.network, preprocess=labeler.preprocess)
    return NAMED[name]()
