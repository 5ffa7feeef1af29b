"""Guidances of a set by classifiers of noised images that the run trains first, as settings.

They are the methods that the paper compares with. What each needs is made of the run's own train
rows and generator (`images/noised.py`), once for all sets whose classifier is the same:

    um2024: {minority_class: {}}                  # towards the highest class of minority scores
    sehwag: {low_density: {beta: 0.3}}            # out of the dense, towards the real
    adm_ml: {attribute_bits: {attributes: [Bald, Eyeglasses, Mustache, Wearing_Hat]}}
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from augment.minority_score import ScoreConfig
from augment.train_classifier import ClassifierTrainConfig
from recipes.chain.settings.distances import ModelDistance

__all__ = [
    "AttributeBitsConfig",
    "LowDensityConfig",
    "LowDensityStrength",
    "MinorityClassConfig",
    "TrainedConfig",
]


@dataclass(frozen=True, kw_only=True)
class TrainedConfig:
    """The classifier that a guidance needs; its image size and noise are the generator's."""

    widths: tuple[int, ...] = (32, 64, 64)
    """Channels of each resolution level of the classifier; multiples of 32. The last level has
    self-attention."""
    training: ClassifierTrainConfig = field(
        default_factory=lambda: ClassifierTrainConfig(steps=1_000)
    )
    """How it is trained; 1,000 steps are for some hundred images, and the paper's are 60,000 for
    LSUN."""


@dataclass(frozen=True, kw_only=True)
class MinorityClassConfig(TrainedConfig):
    """Minority guidance (Um, Lee & Ye 2024): towards the highest class of minority scores."""

    scale: float = 3.5
    """Strength; 1 is Bayes' rule, 3.5 the official code's for LSUN."""
    classes: int = 10
    """How many, of equal size, by quantiles of the scores; about 300 train images per class are
    good, and the paper has 100."""
    class_column: str = "class_label"
    """For a class-conditional generator, the table's column of its class numbers: scores are cut
    into classes within each of them."""
    distance: ModelDistance = "l2"
    """Distance of the minority score: activations (the generator's own), lpips (VGG-16, the
    official code's), l1 or l2."""
    score: ScoreConfig = field(default_factory=ScoreConfig)
    """How images are noised and restored for their score."""

    def __post_init__(self) -> None:
        _check_strengths("minority_class", scale=self.scale)
        if self.classes < 2:
            raise ValueError(f"minority_class.classes is {self.classes}; give at least 2")


@dataclass(frozen=True, kw_only=True)
class LowDensityStrength:
    """How strongly and how often low-density guidance (Sehwag et al. 2022) moves an image."""

    alpha: float = 0.3
    """Strength of the way out, in the sampler's variances; up to 1 is usual."""
    beta: float = 0.3
    """Strength of the way to what a discriminator of real and ordinary samples takes for real."""
    every: int = 1
    """Guide the steps whose index is a multiple of this; the paper's is every step."""

    def __post_init__(self) -> None:
        _check_strengths("low_density", alpha=self.alpha, beta=self.beta)
        if self.every < 1:
            raise ValueError(f"low_density.every is {self.every}; give 1 to guide every step")


@dataclass(frozen=True, kw_only=True)
class LowDensityConfig(LowDensityStrength, TrainedConfig):
    """Low-density guidance (Sehwag et al. 2022): out of the dense, towards the real."""

    others: Path | None = None
    """A folder of other images, such as photographs of anything beside faces: the way out is away
    from the data, by a classifier of them against these (Um & Ye 2024). Left out, it is up the
    hardness score in the generator's own activations, which needs no classifier."""
    samples: int | None = None
    """Ordinary samples that the discriminator learns; left out, as many as there are train images.
    What its training cost in the paper fits about 100,000."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples is not None and self.samples < 2:
            raise ValueError(f"low_density.samples is {self.samples}; give at least 2")


@dataclass(frozen=True, kw_only=True)
class AttributeBitsConfig(TrainedConfig):
    """ADM-ML (Um & Ye 2024): each image is asked for values of attributes, drawn by its seed."""

    scale: float = 1.0
    """Strength; the gradients of all attributes add up, so that one class's does not transfer."""
    attributes: list[str] | None = None
    """Which; left out, the four rarest of the train rows. The paper's are Bald, Eyeglasses,
    Mustache and Wearing_Hat."""

    def __post_init__(self) -> None:
        _check_strengths("attribute_bits", scale=self.scale)
        if self.attributes is not None and not self.attributes:
            raise ValueError("attribute_bits.attributes is empty; name some, or leave it out")


def _check_strengths(what: str, **strengths: float) -> None:
    for name, value in strengths.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{what}.{name} is {value}; give a number from 0 (no guidance) up")
