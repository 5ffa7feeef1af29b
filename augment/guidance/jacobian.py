"""JEPA guidance: to images that an encoder knows little of (ICML 2026).

    mean_i <- mean_i + w Sigma_i g / |g|_inf,      g = -grad_{x_i} sum_j log s_j(J(x0h(x_i)))

s_j are the singular values of the Jacobian J of an encoder of clean images; their sum of logarithms
is the JEPA score (`augment/jepa_score.py`). The official code moves x_i before a plain step; here
the shift is the reverse mean's.

A network of ReLU and linear layers alone has a Jacobian that is constant almost everywhere, and so
no gradient: the sampler counts its images as unguided, and `check_curved` refuses it beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from augment.guidance.ascent import Ascent
from augment.guidance.attributes import SteeringLabeler
from augment.guidance.strength import Strength
from augment.jepa_score import Spectrum
from augment.step import Step

__all__ = ["JacobianGuidance", "JacobianGuidanceConfig", "LogOdds"]


@dataclass(frozen=True, kw_only=True)
class JacobianGuidanceConfig(Spectrum, Strength):
    """How strongly, how often, and how much of the Jacobian is looked at."""

    section: ClassVar[str] = "jacobian"

    def __post_init__(self) -> None:
        Strength.__post_init__(self)
        Spectrum.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class JacobianGuidance(JacobianGuidanceConfig, Ascent):
    """Down the JEPA score of the estimated image.

    A step costs one backward pass through the denoiser and none of its forwards. The exact form
    adds one forward and K backward passes of the encoder, differentiated once more; the randomised
    one two forwards, r of those, and r (3 + 2 iterations) products without a graph, r being `rank`
    + `oversample`.
    """

    encoder: Callable[[Tensor], Tensor]
    """Differentiable twice: float images (B, C, H, W), about [-1, 1], not clipped, to (B, K). Of
    its `repr` a folder's record is made."""

    def measure(self, step: Step, x0: Tensor) -> Tensor:
        """The score's negative, (B,)."""

        def encoder(x0: Tensor) -> Tensor:
            return self.encoder(step.images(x0))

        score = self.score(encoder, x0, step.perturbation.draw)
        # An encoder whose Jacobian is constant leaves a graph, and a gradient of zero.
        return -score.to(x0.dtype) + 0 * x0.flatten(1).sum(dim=1)


@dataclass(frozen=True, repr=False)
class LogOdds:
    """A labeler as an encoder of images: its log-odds, one output an attribute."""

    labeler: SteeringLabeler

    def __repr__(self) -> str:
        return f"LogOdds({self.labeler.sha256[:16]!r})"

    def __call__(self, images: Tensor) -> Tensor:
        """(B, A) of float images (B, 1 or 3, H, W), about [-1, 1], not clipped."""
        return self.labeler.log_odds(((images + 1) / 2).expand(-1, 3, -1, -1))
