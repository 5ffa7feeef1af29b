"""Settings of a fit."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from classify.augmentation import Augmentation
from classify.files import sha256_of
from classify.loss import LossConfig
from classify.networks import check

Decay = Literal["cosine", "exponential"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_MOST = 10**6
"""Limit of anything that is counted; more is a slip of the keyboard."""
_MOST_SIDE, _MOST_PIXELS = 10_000, 2**28
"""Limits of an image's side and of a batch: 5,350 images of 224 pixels, more than any device has
memory for."""


@dataclass(frozen=True, kw_only=True)
class MixingConfig:
    """How synthetic images train beside real ones; by default alike."""

    weight: float = 1.0
    """What a synthetic image's loss counts as in the mean over a batch; a real one's counts as 1.
    So 0 trains on the real images of each batch, whatever the share of synthetic ones in it."""
    own_norm: bool = False
    """Synthetic images of a batch are normalised by their own statistics (an auxiliary batch norm,
    Xie et al., 2020); the statistics used for predictions are those of the real images."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= _MOST:
            raise ValueError(f"mixing.weight is {self.weight}; give a number from 0 to {_MOST:,}")


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """The last steps of a fit, where they differ from the first; by default they do not."""

    share: float = 0.0
    """Share of the steps that make the second stage; 0 is none."""
    rows: Literal["all", "real", "balanced"] = "real"
    """real: the real rows alone; balanced: an attribute's value is drawn, then a row that has it,
    each with equal chances; all: as in the first stage."""
    head: bool = False
    """Only the last layer trains; the rest of the network and its statistics stay as they are. With
    balanced rows, this is the classifier re-training of Kang et al. (2020), but that the layer goes
    on from where it is."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"second_stage.share is {self.share}; give a share in [0, 1]")

    def start(self, steps: int) -> int:
        """The first step of the second stage, of `steps` from 0 on; `steps` if there is none."""
        return steps - round(self.share * steps)


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of one fit: network, optimiser, schedule, augmentation."""

    architecture: str = "resnet18"
    """Classification network of `torchvision.models`, or of timm as timm/<name>, as it is but for
    the number of outputs."""
    weights: Path | None = None
    """A local file of its pretrained weights, .safetensors or .pth, as torchvision and timm
    distribute them; their last layer is left out. Without, they are random."""
    image_size: int = 32
    """Side of the network's input in pixels."""
    epochs: int = 5
    """Passes over the real training images; every arm of a study takes the optimiser steps that
    these make.
    """
    min_steps: int = 1
    """Optimiser steps at least, for few images make few an epoch."""
    batch_size: int = 64
    """Images per step."""
    lr: float = 4e-3
    """Highest learning rate."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, which gets further in few steps, or SGD with Nesterov momentum."""
    momentum: float = 0.9
    """Momentum of SGD; AdamW's first beta."""
    weight_decay: float = 1e-2
    """Decoupled from the learning rate's gradient step in AdamW, an L2 penalty in SGD."""
    warmup: float = 0.3
    """Share of the steps during which the learning rate rises to `lr`."""
    decay: Decay = "cosine"
    """How it falls afterwards; cosine gets further in few steps."""
    final_lr: float = 0.01
    """Share of `lr` that is left at the last step."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Random changes of the training images."""
    loss: LossConfig = field(default_factory=LossConfig)
    """What rare labels change in the loss."""
    mixing: MixingConfig = field(default_factory=MixingConfig)
    """How synthetic images train beside real ones."""
    second_stage: StageConfig = field(default_factory=StageConfig)
    """Steps at the end on other rows, or for the last layer alone."""
    rounds: int = 3
    """Validations in a fit, evenly spaced; the weights of the best one (macro F1) are kept."""
    channels_last: bool = True
    """Memory layout of the network; changes speed, not meaning."""
    workers: int = 2
    """Processes that decode and augment images above 128 pixels, which are not held in memory, one
    per core at most; changes speed, not meaning."""
    precision: Precision = "32-true"
    """Lightning's precision."""

    def __post_init__(self) -> None:
        if not 1 <= self.image_size <= _MOST_SIDE:  # the whole study's, so in no group
            raise ValueError(
                f"image_size is {self.image_size}; give a whole number from 1 to {_MOST_SIDE:,}"
            )
        counted = f"a whole number from 1 to {_MOST:,}"
        allowed = {
            "epochs": (1 <= self.epochs <= _MOST, counted),
            "min_steps": (1 <= self.min_steps <= _MOST, counted),
            "rounds": (1 <= self.rounds <= _MOST, counted),
            "workers": (0 <= self.workers <= _MOST, f"a whole number from 0 to {_MOST:,}"),
            "batch_size": (
                2 <= self.batch_size <= _MOST,
                f"a whole number from 2, which batch normalisation needs, to {_MOST:,}",
            ),
            "lr": (0 < self.lr < math.inf, "a number above 0"),
            "momentum": (0 <= self.momentum < 1, "a number in [0, 1)"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "a number from 0 up"),
            "warmup": (0 <= self.warmup < 1, "a share in [0, 1)"),
            "final_lr": (0 < self.final_lr <= 1, "a share in (0, 1]"),
        }
        for name, (holds, what) in allowed.items():
            if not holds:
                raise ValueError(f"train.{name} is {getattr(self, name)}; give {what}")
        if self.batch_size > (most := _MOST_PIXELS // self.image_size**2):
            raise ValueError(
                f"train.batch_size is {self.batch_size} with an image_size of {self.image_size}; "
                f"give at most {most:,}"
            )
        check(self.architecture, self.image_size)

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

    def record(self) -> dict[str, Any]:
        """The settings as JSON can hold them; pretrained weights by the file's sha256.

        Raises:
            FileNotFoundError: the file of pretrained weights is missing.
        """
        file = self.weights
        if file is not None and not file.is_file():
            raise FileNotFoundError(f"train.weights {file} is missing; give a local file")
        return {**asdict(self), "weights": None if file is None else sha256_of(file)}

    def steps(self, n_real: int) -> int:
        """Optimiser steps of a fit on `n_real` real training images."""
        return max(self.epochs * math.ceil(n_real / self.batch_size), self.min_steps)
