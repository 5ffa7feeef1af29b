"""Guidance towards wished attributes by a labeler of clean images.

    mean_i <- mean_i + w Sigma_i g / |g|_inf,      g = grad log p(wish | x0h(x_i))

The labeler looks at Tweedie's estimate, so that none has to be trained on noised images: universal
guidance (Bansal et al. 2023, https://arxiv.org/abs/2302.07121) and FreeDoM (Yu et al. 2023,
https://arxiv.org/abs/2303.09833), with the unit, the schedule and the rate of self-guidance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from augment.guidance.ascent import Ascent
from augment.guidance.strength import Strength
from augment.step import Step

__all__ = ["AttributeGuidance", "AttributeGuidanceConfig", "SteeringLabeler", "Wish"]

Wish = Mapping[str, int]
"""Attribute -> 1 (present) or 0 (absent); what is not named is left to the model."""


class SteeringLabeler(Protocol):
    """What the guidance asks of a labeler; every `labeling.Labeler` gives it."""

    sha256: str
    """Hash of its weights, for records."""

    @property
    def attributes(self) -> Sequence[str]:
        """The A names."""

    def log_odds(self, images: Tensor) -> Tensor:
        """Differentiable log-odds (B, A) of float RGB images (B, 3, H, W), about [0, 1], not
        clipped.
        """


@dataclass(frozen=True, kw_only=True)
class AttributeGuidanceConfig(Strength):
    """How strongly and how often images are steered to the attributes that they are asked for."""

    section: ClassVar[str] = "steering"

    scale: float = 2.0
    """w, the strength in `unit`s; 0 steers nowhere."""
    every: int = 5
    """Steer the steps whose index is a multiple of this; the last step is always among them."""
    relax: bool = True
    """Push less the surer it is that an image has its wish, by 1 - p(wish), so that none is pushed
    too far."""


@dataclass(frozen=True, kw_only=True, repr=False)
class AttributeGuidance(AttributeGuidanceConfig, Ascent):
    """Climbs the log-likelihood of each image's wish, the mean over its attributes.

    The gradient is normalised, so that it is not the likelihood's size but its direction that
    counts; an attribute that is there already has little part in the direction. An image without
    a wish is left alone. A step costs the labeler and one backward pass through the denoiser, which
    runs but once.
    """

    labeler: SteeringLabeler
    """Whose log-odds are climbed."""
    wish: Wish | Callable[[int], Wish]
    """What every image is asked to be, or what the image of a seed is."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """How much an attribute counts among those of a wish; 1 where none is given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.wish):
            self._check(self.wish)
        if bad := [name for name, weight in self.weights.items() if not weight > 0]:
            raise ValueError(f"weights has {self.weights[bad[0]]} for {bad[0]}; give above 0")

    def __repr__(self) -> str:
        changed = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(AttributeGuidanceConfig)
            if getattr(self, f.name) != f.default
        ]
        if self.weights:
            changed.append(f"weights={dict(self.weights)}")
        wish = getattr(self.wish, "identity", "by seed") if callable(self.wish) else self.wish
        labeler = self.labeler.sha256[:16]
        return f"AttributeGuidance({', '.join([f'{labeler=}', f'{wish=}', *changed])})"

    def measure(self, step: Step, x0: Tensor) -> Tensor:
        signs = self._signs(step.seeds).to(x0.device)
        images = (step.images(x0) + 1) / 2
        log_odds = self.labeler.log_odds(images.expand(-1, 3, -1, -1))
        weights = signs.abs()
        total = (weights * F.logsigmoid(signs.sign() * log_odds)).sum(dim=1)
        return total / weights.sum(dim=1).clamp(min=1e-12)

    def urgency(self, measure: Tensor) -> Tensor:
        """1 - p(wish), with the geometric mean of its attributes' probabilities."""
        return -torch.expm1(measure) if self.relax else super().urgency(measure)

    def _signs(self, seeds: Sequence[int]) -> Tensor:
        """Weight of each attribute's wish, negative where it is to be absent, float32 (B, A)."""
        signs = torch.zeros(len(seeds), len(self.labeler.attributes))
        columns = {name: column for column, name in enumerate(self.labeler.attributes)}
        for row, seed in enumerate(seeds):
            wish = self.wish(seed) if callable(self.wish) else self.wish
            self._check(wish)
            for name, value in wish.items():
                signs[row, columns[name]] = self.weights.get(name, 1.0) * (1 if value else -1)
        return signs

    def _check(self, wish: Wish) -> None:
        for name, value in wish.items():
            if name not in self.labeler.attributes or value not in (0, 1):
                raise ValueError(
                    f"the wish asks for {name}={value}; give 1 or 0 for one of "
                    f"{', '.join(self.labeler.attributes)}"
                )
