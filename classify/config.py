"""Settings of a fit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal

import torchvision
from torchvision.models import list_models

from classify.data import Augmentation

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


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
    decay: Literal["cosine", "exponential"] = "cosine"
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
        if self.architecture not in (known := list_models(torchvision.models)):
            near = get_close_matches(self.architecture, known, n=3) or known[:3]
            raise ValueError(
                f"architecture: got {self.architecture!r}, a classification network of "
                f"torchvision.models is needed, such as {', '.join(near)}"
            )
        for name in ("image_size", "epochs", "batch_size", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, at least 1 is needed")
        if self.batch_size == 1:
            raise ValueError("batch_size: got 1, batch normalisation needs at least 2")
        if not self.lr > 0:
            raise ValueError(f"lr: got {self.lr}, a positive learning rate is needed")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum: got {self.momentum}, a number in [0, 1) is needed")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay: got {self.weight_decay}, 0 or more is needed")
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance: got {self.balance}, a number in [0, 1] is needed")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup: got {self.warmup}, a share in [0, 1) is needed")
        if not 0 < self.final_lr <= 1:
            raise ValueError(f"final_lr: got {self.final_lr}, a share in (0, 1] is needed")

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
