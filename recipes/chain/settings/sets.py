"""Synthetic sets as data: what makes each, by name.

A set is written as a mapping, in YAML or Python, and says only where it differs from the run:

    strong: {guidance: {scale: 2.0}}              # made here; the rest of the guidance is the run's
    fewer: {guidance: {}, sampler: {steps: 25, solver: ddim}, count: 100}
    bald: {steering: {}, targets: {"Bald=1": 200}}
    edited: {start: {rows: rare, strength: 0.4}, guidance: {}}
    um2024: {minority_class: {}}                  # by a classifier that the run trains first
    large: {start: {boost: {gamma: 2.5}}}         # Boost-and-Skip
    hot: {sampler: {temperature: {score: 1.05}}}
    apart: {particles: {group: 8}, guidance: {}}  # and more, see `untrained_terms.py`
    stylegan: {folder: runs/stylegan}             # made elsewhere, by any generator
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from augment import AttributeGuidanceConfig, Boost, SamplerConfig, SelfGuidanceConfig
from augment.selection import parse_wish
from recipes.chain.command.values import Values, merged, read_mapping, read_values, understood
from recipes.chain.settings.classifier_terms import (
    AttributeBitsConfig,
    LowDensityConfig,
    MinorityClassConfig,
)
from recipes.chain.settings.distances import DistanceName
from recipes.chain.settings.untrained_terms import (
    JacobianSettings,
    ParticleSettings,
    UncertaintySettings,
    through_labeler,
)

__all__ = [
    "DEFAULT_SETS",
    "OFFERED_SETS",
    "GuidanceConfig",
    "StartSettings",
    "SteeringConfig",
    "SyntheticSet",
    "Targets",
    "read_targets",
    "synthetic_set",
]

DEFAULT_SETS: Mapping[str, Values] = {
    "plain": {},
    "minority": {"guidance": {}},
    "targeted": {"guidance": {}, "steering": {}},
}
"""The sets of every run, of the same seeds: the paper's ordinary and self-guided samples, and
self-guided ones that are steered to rare attributes."""

OFFERED_SETS: Mapping[str, Values] = {
    "boost": {"start": {"boost": {}}},
    "temperature": {"sampler": {"temperature": {"score": 1.05}}},
    "rescaled": {"sampler": {"temperature": {"rescale": 0.95}}},
    "jepa": {"jacobian": {"encoder": "activations", "rank": 9}},
    "unsure": {"uncertainty": {}},
    "apart": {"particles": {}},
}
"""Sets that an arm may name without describing them."""

Targets = dict[str, int] | str
"""`auto`, wish -> how many images of it, or a YAML file of the latter."""


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig(SelfGuidanceConfig):
    """Self-guidance towards images of low density."""

    distance: DistanceName = "activations"
    """activations (the generator's own), lpips (the paper's, needs AlexNet's weights), features
    (the labeler's), l1 or l2."""


@dataclass(frozen=True, kw_only=True)
class SteeringConfig(AttributeGuidanceConfig):
    """Guidance towards the attributes that each image is asked for."""

    by: Literal["generator", "labeler"] = "generator"
    """Whose log-odds are climbed: those of a linear head on the generator's own activations, fitted
    on the real train split, so that another labeler has no part in the images that it labels; or
    the labeler's own, which then needs gradients."""
    joint: bool = False
    """With self-guidance: one backward pass for both, their gradients weighed at the estimate,
    instead of one each."""


@dataclass(frozen=True, kw_only=True)
class StartSettings:
    """Where to start instead of ordinary noise: from images (SDEdit), or from boosted noise."""

    images: Path | None = None
    """An image, or a folder of images that are taken in turn."""
    rows: Literal["rare"] | None = None
    """rare: the run's own train images with a rare attribute, rarer attributes more often; each
    edited image inherits the labels that the labeler agrees with, its other cells stay empty."""
    strength: float = 0.5
    """How much of an image is made anew, 0 to 1."""
    boost: Boost | None = None
    """Boost-and-Skip: noise of too large a norm, a few steps late; `{}` is the paper's for
    CelebA."""

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.images, self.rows, self.boost)) != 1:
            raise ValueError(
                f"start has images {self.images}, rows {self.rows} and boost {self.boost}; give "
                "one of them"
            )


@dataclass(frozen=True, kw_only=True)
class SyntheticSet:
    """A set of synthetic images: made here by the run's generator, or a folder made elsewhere."""

    folder: Path | None = None
    """Images that any other generator made; left out, the images are made here."""
    count: int | None = None
    """How many images; left out, as many as its wishes ask for, the run's number without wishes, or
    all of a folder."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """The reverse process."""
    guidance: GuidanceConfig | None = None
    """Self-guidance; without it, ordinary samples."""
    steering: SteeringConfig | None = None
    """Guidance towards wished attributes; without it, none is asked for."""
    minority_class: MinorityClassConfig | None = None
    """Guidance towards the highest class of minority scores, by a classifier trained here."""
    low_density: LowDensityConfig | None = None
    """Guidance out of the dense and towards the real."""
    attribute_bits: AttributeBitsConfig | None = None
    """Guidance to a random value of each of some attributes, by a classifier trained here."""
    targets: Targets = "auto"
    """What the images of a steered set are asked to be."""
    jacobian: JacobianSettings | None = None
    """JEPA guidance, to images that an encoder knows little of."""
    uncertainty: UncertaintySettings | None = None
    """Guidance to images that the labeler is unsure of."""
    particles: ParticleSettings | None = None
    """Particle guidance: images of a group repel one another."""
    start: StartSettings | None = None
    """Where to start; left out, from ordinary noise."""

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError(f"count is {self.count}; give at least 1 image")
        if self.folder is not None and (self.is_guided or self.start):
            raise ValueError(
                f"folder {self.folder} is given beside guidance, steering or start; give a folder "
                "for images made elsewhere, the others for images made here"
            )
        if self.steering is not None and self.attribute_bits is not None:
            raise ValueError(
                "steering is given beside attribute_bits; both say what an image is asked to be: "
                "give one of them"
            )
        if self.steering is not None and self.start is not None and self.start.rows is not None:
            raise ValueError(
                "steering is given beside start.rows; edited images inherit the labels of real "
                "ones, which steering would change: give one of them"
            )
        object.__setattr__(self, "targets", read_targets(self.targets))
        for wish, count in (self.wishes or {}).items():
            parse_wish(wish)
            if not isinstance(count, int) or count < 1:
                raise ValueError(
                    f"targets ask for {count} images of {wish}; give a whole number from 1 on"
                )

    @property
    def has_trained_terms(self) -> bool:
        """Whether a guidance needs something that is made of the run's rows first."""
        terms = (self.minority_class, self.low_density, self.attribute_bits)
        return any(term is not None for term in terms)

    @property
    def is_guided(self) -> bool:
        """Whether it is not of ordinary samples."""
        own = (self.guidance, self.steering, self.jacobian, self.uncertainty, self.particles)
        return self.has_trained_terms or any(term is not None for term in own)

    @property
    def asks(self) -> bool:
        """Whether each image is asked to be something."""
        return self.steering is not None or self.attribute_bits is not None

    @property
    def needs_gradients(self) -> bool:
        """Whether a guidance asks for the labeler's gradients, whichever labeler it is."""
        return self.is_steered_by("labeler") or through_labeler(self)

    def is_steered_by(self, by: Literal["generator", "labeler"]) -> bool:
        """Whether this is whose log-odds it climbs."""
        return self.steering is not None and self.steering.by == by

    @property
    def is_edited(self) -> bool:
        """Whether its images start from others, whose contents they inherit."""
        return self.start is not None and self.start.boost is None

    @property
    def draws_freely(self) -> bool:
        """Whether its images may be anything that the generator knows, but for their targets."""
        return self.folder is None and not self.is_edited and self.sampler.label is None

    @property
    def wishes(self) -> Mapping[str, int] | None:
        """The targets as wish -> how many images of it; None for `auto`."""
        return None if isinstance(self.targets, str) else self.targets


def read_targets(targets: Targets) -> Targets:
    """Targets, those of a file read.

    Raises:
        FileNotFoundError, ValueError: no file of a mapping; one line.
    """
    if not isinstance(targets, str) or targets == "auto":
        return targets
    if "=" in targets and not Path(targets).exists():
        raise ValueError(
            f"targets is {targets}; give a wish and how many images of it, such as Bald=1:200, a "
            "YAML file of that, or auto"
        )
    return read_mapping(Path(targets))


def synthetic_set(
    name: str,
    values: Values,
    *,
    count: int,
    sampler: SamplerConfig,
    guidance: GuidanceConfig,
    steering: SteeringConfig,
    targets: Targets,
) -> SyntheticSet:
    """A set from its mapping; what the mapping leaves out is the run's.

    Args:
        name: of the set, for refusals.
        values: the mapping; `guidance: {}` is the run's own guidance.
        count: images of a set that is made here and gives neither a count nor wishes.
        sampler: the run's.
        guidance: the run's.
        steering: the run's.
        targets: the run's.

    Raises:
        ValueError: an unknown field or a refused value.
    """
    base: dict[str, Any] = {}
    values = understood(SyntheticSet, values, f"sets.{name}")
    if not values.get("folder"):
        base = {"sampler": asdict(sampler)}
        if values.get("guidance") is not None:
            base["guidance"] = asdict(guidance)
        if values.get("steering") is not None:
            # Its own targets replace the run's: wishes do not add up.
            base |= {"steering": asdict(steering), "targets": values.get("targets", targets)}
        values = merged(base, values)
    made = read_values(SyntheticSet, values, f"sets.{name}")
    if made.folder is not None or made.count is not None:
        return made
    return replace(made, count=sum(made.wishes.values()) if made.wishes else count)
