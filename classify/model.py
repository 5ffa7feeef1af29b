"""A network of torchvision or timm with one logit per attribute, as a LightningModule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F

from classify.config import Decay, FitConfig
from classify.convolution import crop_kernels
from classify.data import Batch
from classify.layers import CosineLinear, SplitNorm, head, rows_by_source
from classify.loss import AttributeLoss, masked_bce
from classify.metrics import attribute_scores, macro_f1
from classify.networks import build, load_pretrained, normalisation


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
    """Network, loss, stages, validation scores and optimiser of an attribute classifier."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        attributes: Sequence[str],
        config: FitConfig | None = None,
        *,
        steps: int = 1,
        labels: Tensor | None = None,
    ) -> None:
        """Build the network with random weights, from torch's global generator, or pretrained ones.

        Args:
            attributes: Names of the A outputs.
            config: Network, optimiser and schedule.
            steps: Optimiser steps of the whole fit.
            labels: Those trained on, for the loss; see `AttributeLoss`.
        """
        super().__init__()
        config = config or FitConfig()
        self.attributes, self.config, self.steps = tuple(attributes), config, steps
        self.memory_format = (
            torch.channels_last if config.channels_last else torch.contiguous_format
        )
        network = build(config.architecture, len(self.attributes), config.image_size)
        if config.weights is not None:
            load_pretrained(network, config.weights)
        mean, std = normalisation(network)
        crop_kernels(network)
        if config.loss.margin:
            CosineLinear.replace_head(network)
        self._norms = SplitNorm.replace_all(network) if config.mixing.own_norm else []
        self.network = network.to(memory_format=self.memory_format)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.loss = AttributeLoss(config.loss, labels)
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

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        for norm in self._norms:
            norm.rows = rows_by_source(batch.synthetic)
        stage = self.config.second_stage
        if stage.head and self.global_step >= stage.start(self.steps):
            self.network.eval().requires_grad_(False)
            head(self.network).requires_grad_(True)

    def on_train_end(self) -> None:
        self.network.requires_grad_(True)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        weight = torch.where(batch.synthetic, self.config.mixing.weight, 1.0)
        progress = self.global_step / self.steps
        loss: Tensor = self.loss(self(batch.images), batch.labels, weight, progress=progress)
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
