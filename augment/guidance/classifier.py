"""Guidance by a classifier of noised images (Dhariwal & Nichol 2021, sec. 4, https://arxiv.org/abs/2105.05233).

    mean_i <- mean_i + s Sigma_i grad log p(y | x_i, tau_i)

steers to a class y that the model itself was not trained on. Added to self-guidance, as in
`Sum(SelfGuidance(...), ClassifierGuidance(...))`, it is Um & Ye's semantic control (ECCV 2024):
minority samples of a class. The gradient is not normalised, and both are taken at x_i.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from augment.denoiser import Denoiser, ImageFormat
from augment.schedule import Schedule
from augment.step import Step

__all__ = ["ClassifierGuidance", "ClassifierOfNoised"]


class ClassifierOfNoised(Protocol):
    """What the guidance asks of a classifier; `load_noised_classifier` gives one."""

    classes: int
    """How many it knows."""
    image: ImageFormat
    """The images it takes."""
    schedule: Schedule
    """How the images it was trained on were noised."""
    card: dict[str, Any]
    """Where the weights came from; `sha256` is theirs."""

    def __call__(self, x: Tensor, timestep: Tensor) -> Tensor:
        """Logits (B, classes) of `x` (B, C, H, W) at the schedule's timesteps int64 (B,)."""

    def to(self, device: torch.device) -> Any:
        """Move the weights."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ClassifierGuidance:
    """Steers every step towards a class.

    A classifier that is certain of the class has no gradient left, and leaves the image alone.
    """

    classifier: ClassifierOfNoised
    """Trained on images noised by the model's own schedule."""
    target: int | None = None
    """The class y; left out, each image's own, of a model that has classes."""
    scale: float = 1.0
    """s; 1 is Bayes' rule, and 1 to 10 are usual."""

    def __post_init__(self) -> None:
        if not 0 <= self.scale < math.inf:
            raise ValueError(
                f"classifier.scale is {self.scale}; allowed are numbers from 0 (no guidance) up; "
                "1 to 10 are usual"
            )
        if self.target is not None and not 0 <= self.target < self.classifier.classes:
            raise ValueError(
                f"classifier.target is {self.target}; allowed are 0 to "
                f"{self.classifier.classes - 1}; give one of its classes"
            )

    def __repr__(self) -> str:
        weights = str(self.classifier.card.get("sha256", ""))[:16]
        return (
            f"ClassifierGuidance(classifier={weights!r}, target={self.target}, scale={self.scale})"
        )

    through_denoiser = False

    def active(self, i: int, steps: int) -> bool:
        return self.scale > 0

    def check(self, denoiser: Denoiser) -> None:
        """Check the classifier and the target against the model.

        Raises:
            ValueError: it takes other images, noised in another way, or knows other classes.
        """
        theirs = self.classifier
        if theirs.image.shape != denoiser.image.shape:
            raise ValueError(
                f"the classifier takes images of shape {theirs.image.shape}, the model makes "
                f"{denoiser.image.shape}; give a classifier of the model's images"
            )
        if self.target is None and denoiser.classes is None:
            raise ValueError(
                "classifier.target is left out, and the model has no classes; "
                f"give one of the classifier's, 0 to {theirs.classes - 1}"
            )
        if self.target is None and denoiser.classes != theirs.classes:
            raise ValueError(
                f"the classifier has {theirs.classes} classes, the model {denoiser.classes}; "
                "they must be the same; give classifier.target"
            )
        _check_noise(theirs.schedule, denoiser.schedule)

    def shift(self, step: Step) -> Tensor:
        timestep = int(step.schedule.timesteps[step.i])
        # Its own leaf: the denoiser's graph has no part in it.
        x = step.x_i.detach().requires_grad_(True)
        self.classifier.to(x.device)
        logits = self.classifier(x, torch.full((len(x),), timestep, device=x.device))
        log_p = logits.float().log_softmax(dim=1).gather(1, self._targets(step)[:, None])
        (gradient,) = torch.autograd.grad(log_p.sum(), x)
        finite = gradient.isfinite().flatten(1).all(dim=1).reshape(-1, 1, 1, 1)
        return torch.where(finite, self.scale * step.variance * gradient, 0)

    def _targets(self, step: Step) -> Tensor:
        """The class of each image, int64 (B,)."""
        if self.target is None:
            return cast(Tensor, step.labels)  # there are some, by `check`
        return torch.full((len(step.x_i),), self.target, device=step.x_i.device)


def _check_noise(known: Schedule, made: Schedule) -> None:
    """Compare how noisy the images are that a classifier knows and that a model makes."""
    at = made.timesteps[made.timesteps < len(known)]
    differs = ~np.isclose(known.alpha_bar[at], made.alpha_bar[: len(at)], rtol=1e-3, atol=0)
    if len(at) < len(made) or differs.any():
        i = int(differs.argmax()) if differs.any() else len(at)
        timestep = int(made.timesteps[i])
        found = f"{known.alpha_bar[timestep]:.3g}" if timestep < len(known) else "nothing"
        raise ValueError(
            f"at timestep {timestep} the classifier knows images of alpha_bar {found}, and "
            f"the model makes {made.alpha_bar[i]:.3g}; give a classifier trained on the model's "
            "schedule"
        )
