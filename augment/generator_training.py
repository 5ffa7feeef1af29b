"""What a training of a generator is: its settings, loss, moving average and learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from augment.denoiser import Denoiser, ImageFormat
from augment.loss import hybrid_loss
from augment.network import NetworkConfig
from augment.pretrained.diffusers_folder import load_pipeline
from augment.schedule import Schedule

__all__ = ["GeneratorTraining", "TrainConfig"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train it."""

    steps: int = 20_000
    """Optimiser steps."""
    batch_size: int = 64
    """Images a step and device."""
    lr: float = 1e-3
    """AdamW's peak learning rate: linear warm-up over the first 200 steps, then cosine to 0."""
    ema: float = 0.999
    """Longest memory of the moving average of the weights, which is what is saved."""
    prediction: Literal["v_prediction", "epsilon"] = "v_prediction"
    """What the network predicts: v keeps colours right from the first noisy steps on, and so needs
    less training and fewer steps to sample than epsilon, the noise of Ho et al. and of ADM."""
    flip: bool = True
    """Mirror half of the images; turn it off where left and right differ in meaning."""
    sample_every: int = 1000
    """Steps between pictures of samples, written under `samples/`."""
    checkpoint_every: int = 500
    """Steps between checkpoints to resume from."""
    workers: int = 0
    """Processes that decode images."""
    seed: int = 0
    """Seed of weights, order, noise and flips."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "sample_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} is {getattr(self, name)}; give at least 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"training.ema is {self.ema}; allowed is [0, 1)")


class GeneratorTraining(LightningModule):
    """A denoiser with learned variance; `average.module` has the weights' moving average."""

    def __init__(
        self, network: NetworkConfig, config: TrainConfig, sources: Mapping[str, str] | None = None
    ) -> None:
        """`sources`: hashes of what the training starts from; a checkpoint of others is refused."""
        super().__init__()
        self.save_hyperparameters(
            {"network": asdict(network), "training": asdict(config), **(sources or {})}
        )
        self.config = config
        self.image = ImageFormat(channels=network.channels, size=network.size)
        self.network = network.build()
        self.average = AveragedModel(self.network, avg_fn=self._moved)
        self.average.requires_grad_(False)  # or several processes would wait for its gradients
        self.schedule = Schedule.cosine()

    def start_from(self, generator: Path) -> None:
        """Take the weights of a generator (a diffusers folder) with the same network."""
        weights = load_pipeline(generator).network.state_dict()
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(
                f"{generator} has another network than network.* describes; give the same sizes"
            ) from error
        self.average.module.load_state_dict(weights)

    def on_train_start(self) -> None:
        """Noise and order of the images go on after a restart, instead of coming once more."""
        torch.manual_seed(self.config.seed + self.global_step + 1_000_003 * self.global_rank)

    def training_step(self, images: Tensor, batch_index: int) -> Tensor:
        x0 = self.image.from_uint8(images)
        if self.config.flip:
            mirrored = torch.rand(len(x0), 1, 1, 1, device=x0.device) < 0.5
            x0 = torch.where(mirrored, x0.flip(-1), x0)
        t = torch.randint(len(self.schedule), (len(x0),), device=x0.device)
        eps = torch.randn_like(x0)
        x_t = self.schedule.q_sample(x0, t, eps)
        velocity = self.config.prediction == "v_prediction"
        output = self.network(x_t, t).sample.float()
        loss = hybrid_loss(self.schedule, output, x0, x_t, t, eps, velocity=velocity)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        # Here, because a module's `on_train_batch_end` comes after the checkpoint is written.
        self.average.update_parameters(self.network)

    def _moved(self, average: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        """The average after one more step; short at first, or random weights would stay in it."""
        decay = min(self.config.ema, (1 + int(updates)) / (10 + int(updates)))
        return average.lerp(current, 1 - decay)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.config.lr, weight_decay=0.0
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _lr_factor(self, step: int) -> float:
        warmup = min(200, self.config.steps // 10)
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, self.config.steps - warmup))

    def denoiser(self) -> Denoiser:
        """The averaged network, frozen, ready to sample."""
        return Denoiser(
            self.average.module,
            self.schedule,
            self.image,
            prediction=self.config.prediction,
            variance="learned_range",
        )
