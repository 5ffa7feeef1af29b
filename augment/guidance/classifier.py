"""Guidance by a classifier of noised images (Dhariwal & Nichol 2021, sec. 4, https://arxiv.org/abs/2105.05233).

    mean_i <- mean_i + s Sigma_i grad log p(y | x_i, tau_i)

steers to a class y that the model itself was not trained on. Added to self-guidance, as in
`Sum(SelfGuidance(...), ClassifierGuidance(...))`, it is Um & Ye's semantic control (ECCV 2024):
minority samples of a class. The gradient is not normalised, and both are taken at x_i.

Of a classifier of minority scores, towards the highest, it is minority guidance (Um, Lee & Ye 2024,
https://arxiv.org/abs/2301.12334); of one with a head for each attribute, towards a value of each,
it is the multi-label baseline of the same authors (ADM-ML).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from augment.denoiser import Denoiser, ImageFormat
from augment.heads import NOT_ASKED, log_likelihood
from augment.schedule import Schedule
from augment.step import Step

__all__ = ["ClassifierGuidance", "ClassifierOfNoised", "Target", "TowardsClass"]

Target = int | Callable[[int], Mapping[str, int]] | None
"""A class; or the seed of an image -> head -> class; or None, the image's own class."""


class ClassifierOfNoised(Protocol):
    """What the guidance asks of a classifier; `load_noised_classifier` gives one."""

    heads: dict[str, int]
    """Name -> number of classes, in the order of the logits; most classifiers have one head."""
    image: ImageFormat
    """The images it takes."""
    schedule: Schedule
    """How the images it was trained on were noised."""
    card: dict[str, Any]
    """Where the weights came from; `sha256` is theirs."""

    def __call__(self, x: Tensor, timestep: Tensor) -> Tensor:
        """Logits of all heads, (B, classes), of `x` (B, C, H, W) at the schedule's timesteps int64
        (B,).
        """

    def to(self, device: torch.device) -> Any:
        """Move the weights."""


@dataclass(frozen=True, kw_only=True, repr=False)
class TowardsClass:
    """What guidances by a classifier of noised images share: what is asked, and the gradient."""

    classifier: ClassifierOfNoised
    """Trained on images noised by the model's own schedule."""
    target: Target = None
    """The class y; or, of several heads, what the image of a seed is asked to be: head -> class.
    A class and several heads: one head for each class of the model, and the image's own counts.
    Left out, y is each image's own class, of a model that has classes."""

    through_denoiser = False

    def __post_init__(self) -> None:
        fewest = min(self.classifier.heads.values())
        if isinstance(self.target, int) and not 0 <= self.target < fewest:
            raise ValueError(
                f"classifier.target is {self.target}; give one of its classes, 0 to {fewest - 1}"
            )

    def identity(self) -> dict[str, Any]:
        """Weights and target, for a representation."""
        target: object = self.target
        if callable(target):
            target = getattr(target, "identity", "by seed")
        return {"classifier": str(self.classifier.card.get("sha256", ""))[:16], "target": target}

    def check(self, denoiser: Denoiser) -> None:
        """Check the classifier and the target against the model.

        Raises:
            ValueError: it takes other images, noised in another way, or knows other classes.
        """
        theirs = self.classifier
        if theirs.image.shape != denoiser.shape:
            raise ValueError(
                f"the classifier takes images of shape {theirs.image.shape}, the model makes "
                f"{denoiser.shape}; give a classifier of the model's images"
            )
        if not callable(self.target):
            self._check_classes(denoiser.classes)
        _check_noise(theirs.schedule, denoiser.schedule)

    def _check_classes(self, classes: int | None) -> None:
        sizes = list(self.classifier.heads.values())
        if len(sizes) > 1 and (self.target is None or classes != len(sizes)):
            raise ValueError(
                f"the classifier has {len(sizes)} heads, the model {classes or 'no'} classes, and "
                f"classifier.target is {self.target}; give the class of every head by its name, or "
                "a class and a model with as many classes as there are heads"
            )
        if self.target is None and classes is None:
            raise ValueError(
                "classifier.target is left out, and the model has no classes; "
                f"give one of the classifier's, 0 to {sizes[0] - 1}"
            )
        if self.target is None and classes != sizes[0]:
            raise ValueError(
                f"the classifier has {sizes[0]} classes, the model {classes}; "
                "they must be the same; give classifier.target"
            )

    def gradient(self, step: Step) -> Tensor:
        """The gradient of log p(y | x_i, tau_i) at x_i, (B, C, H, W); 0 where it is not finite."""
        timestep = int(step.schedule.timesteps[step.i])
        # Its own leaf: the denoiser's graph has no part in it.
        x = step.x_i.detach().requires_grad_(True)
        self.classifier.to(x.device)
        logits = self.classifier(x, torch.full((len(x),), timestep, device=x.device))
        sizes = list(self.classifier.heads.values())
        log_p = log_likelihood(logits, sizes, self._targets(step).to(x.device))
        (gradient,) = torch.autograd.grad(log_p.sum(), x)
        finite = gradient.isfinite().flatten(1).all(dim=1).reshape(-1, 1, 1, 1)
        return torch.where(finite, gradient, 0)

    def _targets(self, step: Step) -> Tensor:
        """The class that each head is asked for, int64 (B, H)."""
        names, count = list(self.classifier.heads), len(step.x_i)
        targets = torch.full((count, len(names)), NOT_ASKED)
        if callable(self.target):
            for row, seed in enumerate(step.seeds):
                for name, value in self.target(seed).items():
                    targets[row, self._head(names, name, value)] = value
            return targets
        # Its own head of each image, by the check: all have the only one, or that of their class.
        own = torch.zeros(count, dtype=torch.int64) if len(names) == 1 else _known(step.labels)
        asked = _known(step.labels) if self.target is None else torch.tensor(self.target)
        targets[torch.arange(count), own] = asked
        return targets

    def _head(self, names: list[str], name: str, value: int) -> int:
        if name not in names or not 0 <= value < self.classifier.heads[name]:
            raise ValueError(
                f"classifier.target asks for {name}={value}; the classifier's heads and their "
                f"numbers of classes are {dict(self.classifier.heads)}; give a class of one"
            )
        return names.index(name)


@dataclass(frozen=True, kw_only=True, repr=False)
class ClassifierGuidance(TowardsClass):
    """Steers every step towards a class.

    A classifier that is certain of the class has no gradient left, and leaves the image alone. The
    gradients of several heads add up, so that a scale that is right for one class is not for four.
    """

    scale: float = 1.0
    """s; 1 is Bayes' rule, and 1 to 10 are usual."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.scale < math.inf:
            raise ValueError(
                f"classifier.scale is {self.scale}; give a number from 0 (no guidance) up; "
                "1 to 10 are usual"
            )

    def __repr__(self) -> str:
        settings = {**self.identity(), "scale": self.scale}
        return f"ClassifierGuidance({', '.join(f'{k}={v!r}' for k, v in settings.items())})"

    def active(self, i: int, steps: int) -> bool:
        return self.scale > 0

    def shift(self, step: Step) -> Tensor:
        return self.scale * step.variance * self.gradient(step)


def _known(labels: Tensor | None) -> Tensor:
    assert labels is not None  # by the check
    return labels.cpu()


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
