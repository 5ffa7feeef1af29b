"""Guidance to images that a classifier is unsure of: those it has something to learn from.

    mean_i <- mean_i + w Sigma_i g / |g|_inf,      g = grad_{x_i} H(p(. | x0h(x_i)))

H is the entropy of the deployed classifier's prediction for Tweedie's estimate, so that none has to
be trained on noised images (feedback-guided synthesis, TMLR 2024; likewise LTG, ICML 2025, by
epistemic uncertainty).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from augment.guidance.ascent import Ascent
from augment.step import Step

__all__ = ["UncertaintyGuidance"]


@dataclass(frozen=True, kw_only=True)
class UncertaintyGuidance(Ascent):
    """Up the classifier's entropy, the mean over its attributes, in nats.

    A step costs the classifier and one backward pass through it and the denoiser, which runs but
    once.
    """

    section: ClassVar[str] = "uncertainty"

    log_odds: Callable[[Tensor], Tensor]
    """Differentiable: float images (B, C, H, W), about [-1, 1], not clipped, to log-odds (B, A),
    such as `LogOdds(labeler)`. Of its `repr` a folder's record is made."""

    def measure(self, step: Step, x0: Tensor) -> Tensor:
        log_odds = self.log_odds(step.images(x0))
        entropy = F.softplus(log_odds) - log_odds * log_odds.sigmoid()
        return entropy.mean(dim=1)
