"""Settings of a fit."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import Literal

import torch
import torchvision
from torchvision.models import list_models

from classify.augmentation import Augmentation

Decay = Literal["cosine", "exponential"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_MOST = 10**6
"""Of anything that is counted; more is a slip of the keyboard."""


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of one fit: network, optimiser, schedule, augmentation."""

    architecture: str = "resnet18"
    """Classification network of `torchvision.models`, as it is but for the number of outputs."""
    image_size: int = 32
    """Side of the network's input in pixels."""
    epochs: int = 5
    """Passes over the real training images; every arm of a study takes the optimiser steps that
    these make.
    """
    batch_size: int = 64
    """Images a step."""
    lr: float = 4e-3
    """Highest learning rate."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, which gets further in few steps, or SGD with Nesterov momentum."""
    momentum: float = 0.9
    """Of SGD; AdamW's first beta."""
    weight_decay: float = 1e-2
    """Decoupled from the learning rate's gradient step in AdamW, an L2 penalty in SGD."""
    warmup: float = 0.3
    """Share of the steps during which the learning rate rises to `lr`."""
    decay: Decay = "cosine"
    """How it falls afterwards; cosine gets further in few steps."""
    final_lr: float = 0.01
    """Share of `lr` that is left at the last step."""
    balance: float = 0.0
    """A positive label counts as (negatives / positives) ** balance negative ones, of its
    attribute in train; 0 counts them alike, 1 gives both values the same weight."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Random changes of the training images."""
    rounds: int = 3
    """Validations in a fit, evenly spaced; the weights of the best one (macro F1) are kept."""
    channels_last: bool = True
    """Memory layout of the network; changes speed, not meaning."""
    precision: Precision = "32-true"
    """Lightning's precision."""

    def __post_init__(self) -> None:
        counted = f"a whole number from 1 to {_MOST:,}"
        allowed = {
            "image_size": (1 <= self.image_size <= _MOST, counted),
            "epochs": (1 <= self.epochs <= _MOST, counted),
            "rounds": (1 <= self.rounds <= _MOST, counted),
            "batch_size": (
                2 <= self.batch_size <= _MOST,
                f"a whole number from 2, which batch normalisation needs, to {_MOST:,}",
            ),
            "lr": (0 < self.lr < math.inf, "a number above 0"),
            "momentum": (0 <= self.momentum < 1, "a number in [0, 1)"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "a number from 0 up"),
            "balance": (0 <= self.balance <= 1, "a number in [0, 1]"),
            "warmup": (0 <= self.warmup < 1, "a share in [0, 1)"),
            "final_lr": (0 < self.final_lr <= 1, "a share in (0, 1]"),
        }
        for name, (holds, what) in allowed.items():
            if not holds:
                raise ValueError(f"{name} is {getattr(self, name)}; give {what}")
        if self.architecture not in (known := list_models(torchvision.models)):
            near = get_close_matches(self.architecture, known, n=3) or known[:3]
            raise ValueError(
                f"architecture is {self.architecture!r}; give a classification network of "
                f"torchvision.models, such as {', '.join(near)}"
            )
        if not _takes(self.architecture, self.image_size):
            raise ValueError(
                f"architecture is {self.architecture}, which does not take images of "
                f"{self.image_size} pixels; give one that does, such as resnet18, or another "
                "image_size"
            )

    @classmethod
    def paper(cls) -> FitConfig:
        """Settings recommended for CelebA: 64 px, batch 256, learning rate 0.1 x 0.9 an epoch; no
        warm-up.
        """
        epochs = 20
        return cls(
            image_size=64,
            epochs=epochs,
            batch_size=256,
            optimizer="sgd",
            lr=0.1,
            weight_decay=1e-4,
            warmup=0.0,
            decay="exponential",
            final_lr=0.9**epochs,
            augmentation=Augmentation(shift=0.06, rotation=5.0),
            rounds=10,
        )

    def steps(self, n_real: int) -> int:
        """Optimiser steps of a fit on `n_real` real training images."""
        return self.epochs * math.ceil(n_real / self.batch_size)


@cache
def _takes(architecture: str, size: int) -> bool:
    """Whether the network gives one output for images of the size, tried without computing."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.device("meta"):
        warnings.simplefilter("ignore")  # torchvision's, about how some networks are initialised
        try:
            network = torchvision.models.get_model(architecture, num_classes=1)
        except Exception:  # one that computes while it is built cannot be tried
            return True
        try:
            return isinstance(network(torch.empty(2, 3, size, size)), torch.Tensor)
        except Exception:  # each network says in its own way what it does not take
            return False
