"""What a fit does besides training: keep the best weights, save its state, show progress."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor
from tqdm import tqdm


class KeepBest(L.Callback):
    """Keeps the weights of the best validation in memory, and in the checkpoint a fit resumes from.

    A score that is not a number counts as the lowest; of equal ones the later is kept.
    """

    def __init__(self, monitor: str) -> None:
        """`monitor`: name of the logged score, higher is better."""
        self.monitor = monitor
        self.score = -math.inf
        self.step = 0
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        score = float(trainer.callback_metrics[self.monitor])
        if (-math.inf if math.isnan(score) else score) >= self.score:
            self.score = -math.inf if math.isnan(score) else score
            self.step = trainer.global_step
            self.weights = {
                name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()
            }

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "step": self.step, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.score, self.step, self.weights = (
            state_dict[name] for name in ("score", "step", "weights")
        )


class SaveState(Checkpoint):
    """Writes what the fit continues from, after every round; atomic."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        scratch = self.file.with_suffix(".tmp")
        trainer.save_checkpoint(scratch)
        os.replace(scratch, self.file)


class StepBar(L.Callback):
    """One progress bar over the optimiser steps of the whole fit, on a terminal only."""

    def __init__(self, label: str, steps: int, monitor: str) -> None:
        self.label, self.steps, self.monitor = label, steps, monitor

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._bar = tqdm(
            total=self.steps,
            initial=trainer.global_step,
            desc=self.label,
            unit="step",
            delay=2,
            leave=False,
            disable=None,
        )

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        self._bar.update()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._bar.set_postfix_str(
            f"{self.monitor} {float(trainer.callback_metrics[self.monitor]):.3f}", refresh=False
        )

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if hasattr(self, "_bar"):
            self._bar.close()
