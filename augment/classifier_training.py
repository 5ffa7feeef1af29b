"""The training of a classifier of noised images: cross-entropy at uniform timesteps.

Reference: Dhariwal & Nichol 2021, sec. 4, https://arxiv.org/abs/2105.05233
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from augment.fitting import Fitting, FittingConfig
from augment.network import check_shape
from augment.pretrained.architecture import Architecture
from augment.pretrained.checkpoints import ScheduleName, Settings
from augment.pretrained.noised_classifier import NoisedClassifier

__all__ = ["ClassifierNetworkConfig", "ClassifierTrainConfig", "ClassifierTraining"]


@dataclass(frozen=True, kw_only=True)
class ClassifierNetworkConfig:
    """The encoder to train; the defaults are for a CPU."""

    size: int = 32
    """Image height and width in pixels, the generator's; halved once a level below the first."""
    channels: int = 3
    """1 (grey) or 3 (RGB), the generator's."""
    widths: tuple[int, ...] = (32, 64, 64)
    """Channels of each resolution level, from the image's own downwards; multiples of 32."""
    attention_levels: tuple[int, ...] = (2,)
    """Levels that have self-attention, 0 being the image's own resolution."""
    blocks: int = 1
    """Residual blocks a level."""
    schedule: ScheduleName = "cosine"
    """How images are noised; the generator's schedule, cosine or linear, of 1,000 steps."""

    def __post_init__(self) -> None:
        check_shape(self, group=32)
        if self.schedule not in ("cosine", "linear"):
            raise ValueError(
                f"network.schedule is {self.schedule!r}; allowed are cosine and linear; "
                "give the generator's"
            )

    def build(self, classes: int) -> NoisedClassifier:
        """The classifier with random weights."""
        architecture = Architecture(
            widths=self.widths,
            blocks=self.blocks,
            attention=self.attention_levels,
            in_channels=self.channels,
            out_channels=classes,
            pool=self.size // 2 ** (len(self.widths) - 1),
        )
        settings = Settings(
            attention_order="new",
            head_channels=32,
            heads=None,
            schedule=self.schedule,
            image_size=self.size,
        )
        return NoisedClassifier(architecture, settings)


@dataclass(frozen=True, kw_only=True)
class ClassifierTrainConfig(FittingConfig):
    """How to train it."""

    steps: int = 5_000
    """Optimiser steps."""
    lr: float = 3e-4
    """AdamW's peak learning rate: linear warm-up over the first 200 steps, then cosine to 0."""


class ClassifierTraining(Fitting):
    """A classifier of images at every level of noise."""

    weight_decay = 0.05

    def __init__(
        self,
        network: ClassifierNetworkConfig,
        config: ClassifierTrainConfig,
        *,
        attribute: str,
        classes: tuple[str, ...],
    ) -> None:
        super().__init__()
        meaning = {"attribute": attribute, "classes": list(classes)}
        self.save_hyperparameters(
            {"network": asdict(network), "training": asdict(config), **meaning}
        )
        self.config = config
        self.network: NoisedClassifier = network.build(len(classes))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        x0 = self.flipped(self.network.image.from_uint8(images))
        t = torch.randint(len(self.network.schedule), (len(x0),), device=x0.device)
        x_t = self.network.schedule.q_sample(x0, t, torch.randn_like(x0))
        loss = cross_entropy(self.network(x_t, t).float(), labels)
        self.log("train/loss", loss, prog_bar=True)
        return loss
