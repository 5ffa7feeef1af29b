"""Guidances of a set that need nothing trained but what the run has, as settings.

    jepa: {jacobian: {}}                          # to images that an encoder knows little of
    unsure: {uncertainty: {}}                     # to images that the labeler is unsure of
    apart: {particles: {group: 8}}                # images of eight seeds repel one another

A set may have several of them, and self-guidance and steering besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from augment import Denoiser, DenoiserFeatures
from augment.guidance import (
    Guidance,
    JacobianGuidance,
    JacobianGuidanceConfig,
    LogOdds,
    ParticleGuidance,
    ParticleGuidanceConfig,
    Strength,
    UncertaintyGuidance,
)
from augment.jepa_score import check_curved
from labeling import Labeler, Predictor

__all__ = [
    "JacobianSettings",
    "ParticleSettings",
    "UncertaintySettings",
    "UntrainedTerms",
    "check_untrained_terms",
    "through_labeler",
    "untrained_terms",
]


@dataclass(frozen=True, kw_only=True)
class JacobianSettings(JacobianGuidanceConfig):
    """JEPA guidance: down the singular values of an encoder's Jacobian."""

    encoder: Literal["labeler", "activations"] = "labeler"
    """labeler (its log-odds, all singular values), or activations (the generator's own, the `rank`
    largest). A labeler of ReLU and linear layers alone, as ResNets are, moves nothing and is
    refused."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoder == "activations" and self.rank is None:
            raise ValueError(
                "jacobian.rank is left out with the encoder activations, which has thousands of "
                "outputs; give a rank, 9 is the original's"
            )


@dataclass(frozen=True, kw_only=True)
class UncertaintySettings(Strength):
    """Guidance up the entropy of the labeler's prediction."""

    section: ClassVar[str] = "uncertainty"


@dataclass(frozen=True, kw_only=True)
class ParticleSettings(ParticleGuidanceConfig):
    """Particle guidance: images of a group repel one another."""

    space: Literal["pixels", "activations"] = "pixels"
    """Where: the noisy pixels, or the generator's own activations for the estimated images."""


class UntrainedTerms(Protocol):
    """Settings that may have some of these guidances, such as a set's or a command's."""

    @property
    def jacobian(self) -> JacobianSettings | None:
        """JEPA guidance."""

    @property
    def uncertainty(self) -> UncertaintySettings | None:
        """Guidance up the labeler's entropy."""

    @property
    def particles(self) -> ParticleSettings | None:
        """Particle guidance."""


def through_labeler(settings: UntrainedTerms) -> bool:
    """Whether one of these guidances goes through a labeler."""
    by_labeler = settings.jacobian is not None and settings.jacobian.encoder == "labeler"
    return by_labeler or settings.uncertainty is not None


def untrained_terms(
    settings: UntrainedTerms, denoiser: Denoiser, labeler: Predictor | None
) -> Iterator[Guidance]:
    """The guidances that settings ask for here.

    Args:
        settings: of a set.
        denoiser: the generator.
        labeler: one with a torch network, if a guidance goes `through_labeler`.
    """
    if settings.jacobian is not None:
        own = settings.jacobian.encoder == "activations"
        yield JacobianGuidance(
            **settings.jacobian.settings(JacobianGuidanceConfig),
            encoder=_Activations(denoiser) if own else _log_odds(labeler),
        )
    if settings.uncertainty is not None:
        yield UncertaintyGuidance(
            **settings.uncertainty.settings(Strength), log_odds=_log_odds(labeler)
        )
    if settings.particles is not None:
        own = settings.particles.space == "activations"
        yield ParticleGuidance(
            **settings.particles.settings(ParticleGuidanceConfig),
            features=_Activations(denoiser) if own else None,
        )


def check_untrained_terms(
    settings: UntrainedTerms, labelers: Sequence[Predictor], shape: tuple[int, ...]
) -> None:
    """Refuse JEPA guidance by a labeler that leaves it without a gradient.

    Args:
        settings: of a set.
        labelers: those that it may go through, as far as they stand ready.
        shape: of the generator's images, (C, H, W).

    Raises:
        ValueError: a labeler is of ReLU and linear layers alone.
    """
    if settings.jacobian is not None and settings.jacobian.encoder == "labeler":
        for labeler in (one for one in labelers if isinstance(one, Labeler)):
            check_curved(LogOdds(labeler), shape, labeler.device)


class _Activations(DenoiserFeatures):
    """The generator's activations; a record names its weights already."""

    def __repr__(self) -> str:
        return "activations"


def _log_odds(labeler: Predictor | None) -> LogOdds:
    assert isinstance(labeler, Labeler)  # checked before any work
    return LogOdds(labeler)
