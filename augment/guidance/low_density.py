"""Low-density guidance (Sehwag et al., CVPR 2022, https://arxiv.org/abs/2203.17260).

    mean_i <- mean_i + alpha Sigma_i n[g1] + beta Sigma_i n[g2],      n[g] = g / |g|_inf

g1 leads out of where images are dense, g2 towards what a discriminator takes for real. Each term is
normalised for itself, for each image, and both are taken at x_i, so that a step moves no pixel by
more than (alpha + beta) Sigma_i. For g1 there are two forms here:

    g1 = -grad log p(y | x_i, tau_i)     `PushOfClass(away=True)`, out of a class; with a classifier
                                         of the data against others, out of the data (Um & Ye 2024)
    g1 = grad H(x0h(x_i))                `HardnessAscent`, up the hardness score of the estimate

The second is ours: it needs no classifier, and leaves the mean of the features, as the original's
contrastive loss on a noisy classifier's features does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar

from torch import Tensor

from augment.guidance.ascent import Ascent, unit_max
from augment.guidance.classifier import TowardsClass
from augment.guidance.strength import Strength
from augment.step import Step

__all__ = ["HardnessAscent", "PushOfClass"]


@dataclass(frozen=True, kw_only=True, repr=False)
class _Push(Strength):
    """How strong a term is, and how often, in this method."""

    section: ClassVar[str] = "low_density"

    scale: float = 0.5
    """alpha or beta, in `unit`s; up to 1 is usual."""
    every: int = 1
    """Push the steps whose index is a multiple of this; the paper's is every step."""


@dataclass(frozen=True, kw_only=True, repr=False)
class PushOfClass(TowardsClass, _Push):
    """Towards a class of noised images or away from it, by a push of given size.

    Where `ClassifierGuidance` follows Bayes' rule, this one's gradient is normalised: its largest
    entry is 1 however sure the classifier is. Only where the gradient is exactly zero, nothing is
    moved. A step costs the classifier and its backward pass, and nothing of the denoiser's.
    """

    away: bool = False
    """Down the gradient of log p(y), instead of up."""

    def __post_init__(self) -> None:
        TowardsClass.__post_init__(self)
        _Push.__post_init__(self)

    def __repr__(self) -> str:
        return _shown("PushOfClass", self, self.identity())

    def shift(self, step: Step) -> Tensor:
        direction = unit_max(self.gradient(step))
        return self.amount(step) * (-direction if self.away else direction)


@dataclass(frozen=True, kw_only=True, repr=False)
class HardnessAscent(_Push, Ascent):
    """Up the hardness score of the estimated image.

    A step costs the features that the score is of, and one backward pass through them and through
    the denoiser.
    """

    hardness: Callable[[Tensor], Tensor]
    """Differentiable: float images (B, C, H, W), about [-1, 1], not clipped, to the hardness of
    each, (B,); such as an `augment.metrics.Hardness` of a network's features. Of its `repr` a
    folder's record is made."""

    def __repr__(self) -> str:
        return _shown("HardnessAscent", self, {"hardness": self.hardness})

    def measure(self, step: Step, x0: Tensor) -> Tensor:
        return self.hardness(step.images(x0)).to(
            x0.dtype
        )  # a float64 score must not make float64 images


def _shown(name: str, guidance: Strength, told: dict[str, object]) -> str:
    """A representation: what is told, and the settings that are not the default."""
    plain = {
        f.name: getattr(guidance, f.name)
        for f in fields(guidance)
        if f.name not in ("classifier", "target", "hardness")
        and getattr(guidance, f.name) != f.default
    }
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in {**told, **plain}.items())})"
