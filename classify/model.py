"""A torchvision network with one logit an attribute, as a LightningModule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import cast

import lightning as L
import torch
import torchvision
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F

from classify.config import Decay, FitConfig
from classify.convolution import crop_kernels
from classify.data import Batch
from classify.metrics import attribute_scores, macro_f1

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def masked_bce(logits: Tensor, labels: Tensor, pos_weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy, averaged over the labels that are there.

    Args:
        logits: (N, A).
        labels: (N, A): 1, 0, a probability in between, or NaN = unlabelled, where the gradient is
            exactly zero.
        pos_weight: (A,), what a positive label counts as; left out, 1.

    Returns:
        Scalar; 0 if there is no label at all.
    """
    there = ~labels.isnan()
    total = F.binary_cross_entropy_with_logits(
        logits,
        labels.nan_to_num(0.0),
        weight=there.to(logits.dtype),
        reduction="sum",
        pos_weight=pos_weight,
    )
    return total / there.sum().clamp(min=1)


def warmup_then_decay(
    step: int, *, steps: int, warmup: float, final: float, decay: Decay = "cosine"
) -> float:
    """Factor of the learning rate at a step in [0, steps].

    It rises linearly to 1 during the share `warmup` of the steps, then falls to `final` along half
    a cosine or exponentially.
    """
    begin = warmup * steps
    if step < begin:
        return (step + 1) / (begin + 1)
    progress = (step - begin) / max(steps - begin, 1)
    if decay == "cosine":
        return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2
    return float(final**progress)


class AttributeClassifier(L.LightningModule):
    """Network, loss, validation scores and optimiser of an attribute classifier."""

    mean: Tensor
    std: Tensor
    pos_weight: Tensor | None

    def __init__(
        self,
        attributes: Sequence[str],
        config: FitConfig | None = None,
        *,
        steps: int = 1,
        pos_weight: Tensor | None = None,
    ) -> None:
        """Build the network with random weights, from torch's global generator.

        Args:
            attributes: Names of the A outputs.
            config: Network, optimiser and schedule.
            steps: Optimiser steps of the whole fit.
            pos_weight: float32 (A,), what a positive label counts as in training; left out, 1.
        """
        super().__init__()
        config = config or FitConfig()
        self.attributes, self.config, self.steps = tuple(attributes), config, steps
        self.memory_format = (
            torch.channels_last if config.channels_last else torch.contiguous_format
        )
        network = torchvision.models.get_model(
            config.architecture, num_classes=len(self.attributes)
        )
        crop_kernels(network)
        self.network = cast("torch.nn.Module", network.to(memory_format=self.memory_format))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.register_buffer("pos_weight", pos_weight, persistent=False)
        self._validated: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        """Logits float32 (N, A) of images (N, 3 or 1, H, W) with values in [0, 255], uint8 or
        float.
        """
        x = images.float() / 255
        size = (self.config.image_size,) * 2
        if x.shape[-2:] != size:  # resized as `decode` resizes files
            x = F.interpolate(x, size=size, mode="bicubic", antialias=True)
        x = (x.expand(-1, 3, -1, -1) - self.mean) / self.std
        logits: Tensor = self.network(x.contiguous(memory_format=self.memory_format))
        return logits.float()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = masked_bce(self(batch.images), batch.labels, self.pos_weight)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.labels))
        return loss

    def on_validation_epoch_start(self) -> None:
        self._validated.clear()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._validated.append((self(batch.images).sigmoid().cpu(), batch.labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log the macro scores, computed at once over the whole split as the final ones are."""
        probabilities, labels = map(torch.cat, zip(*self._validated, strict=True))
        scores = attribute_scores(probabilities, labels, self.attributes, split="val")
        self.log("val/f1", macro_f1(scores))
        self.log("val/loss", masked_bce(probabilities.logit(eps=1e-7), labels))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        how = self.config
        optimizer: torch.optim.Optimizer
        if how.optimizer == "adamw":
            optimizer = torch.optim.AdamW(
                self.parameters(),
                how.lr,
                (how.momentum, 0.999),
                weight_decay=how.weight_decay,
                fused=True,
            )
        else:
            optimizer = torch.optim.SGD(
                self.parameters(),
                how.lr,
                how.momentum,
                nesterov=how.momentum > 0,
                weight_decay=how.weight_decay,
            )
        factor = partial(
            warmup_then_decay,
            steps=self.steps,
            warmup=how.warmup,
            final=how.final_lr,
            decay=how.decay,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
