"""Guidances of a set that need nothing trained but what the run has, as settings.

    jepa: {jacobian: {}}                          # to images that an encoder knows little of
    unsure: {uncertainty: {}}                     # to images that the labeler is unsure of
    apart: {particles: {group: 8}}                # images of eight seeds repel one another

A set may have several of them, and self-guidance and steering besides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from augment import DenoiserFeatures
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
from labeling import Labeler
from recipes.chain.values import plain

if TYPE_CHECKING:
    from recipes.chain.inputs import Inputs
    from recipes.chain.sets import SyntheticSet

__all__ = [
    "JacobianSettings",
    "ParticleSettings",
    "UncertaintySettings",
    "untrained_terms",
    "untrained_terms_record",
]


@dataclass(frozen=True, kw_only=True)
class JacobianSettings(JacobianGuidanceConfig):
    """JEPA guidance: down the singular values of an encoder's Jacobian."""

    encoder: Literal["labeler", "activations"] = "labeler"
    """labeler (its log-odds, all singular values), or activations (the generator's own, the `rank`
    largest). An encoder of ReLU and linear layers alone moves nothing."""

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


@dataclass(frozen=True, kw_only=True)
class ParticleSettings(ParticleGuidanceConfig):
    """Particle guidance: images of a group repel one another."""

    space: Literal["pixels", "activations"] = "pixels"
    """Where: the noisy pixels, or the generator's own activations for the estimated images."""


def untrained_terms(inputs: Inputs, settings: SyntheticSet) -> Iterator[Guidance]:
    """The guidances of a set that its settings ask for here."""
    if settings.jacobian is not None:
        encoder: Callable[[Tensor], Tensor] = _Activations(inputs.denoiser)
        if settings.jacobian.encoder == "labeler":
            encoder = _log_odds(inputs)
        yield JacobianGuidance(
            **_shared(settings.jacobian, JacobianGuidanceConfig), encoder=encoder
        )
    if settings.uncertainty is not None:
        yield UncertaintyGuidance(
            **_shared(settings.uncertainty, Strength), log_odds=_log_odds(inputs)
        )
    if settings.particles is not None:
        own = settings.particles.space == "activations"
        yield ParticleGuidance(
            **_shared(settings.particles, ParticleGuidanceConfig),
            features=_Activations(inputs.denoiser) if own else None,
        )


def untrained_terms_record(inputs: Inputs, settings: SyntheticSet) -> dict[str, Any]:
    """What of a folder's images is these guidances', by name; empty without any."""
    record: dict[str, Any] = {
        name: plain(asdict(term))
        for name in ("jacobian", "uncertainty", "particles")
        if (term := getattr(settings, name)) is not None
    }
    if settings.needs_gradients and record:
        record["labeler"] = inputs.labeler.sha256
    return record


class _Activations(DenoiserFeatures):
    """The generator's activations; a record names its weights already."""

    def __repr__(self) -> str:
        return "activations"


def _shared(settings: Strength, kind: type[Strength]) -> dict[str, Any]:
    """The settings that a guidance takes as they are."""
    return {f.name: getattr(settings, f.name) for f in fields(kind)}


def _log_odds(inputs: Inputs) -> LogOdds:
    assert isinstance(inputs.labeler, Labeler)  # checked before any work
    return LogOdds(inputs.labeler)
