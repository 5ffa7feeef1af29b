"""Samples at intervals of a training: a picture, how real they are, and an end by that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.utils import save_image

from augment.denoiser import Denoiser
from augment.fitting_callbacks import say
from augment.metrics.realism import Realism, RealismGate
from augment.metrics.views import look, plain_views
from augment.sampler import sample

__all__ = ["Samples"]

_COUNT, _STEPS = 64, 25
_LEAST_SIZE = 8
"""In pixels; the views of smaller images show nothing."""
_REAL = 1_000
"""Real images, at most, that the samples are compared with."""


class _Sampled(Protocol):
    """A module under training that can sample."""

    def denoiser(self) -> Denoiser: ...


class Samples(Callback):
    """64 samples, of the same seeds every time; where there are classes, each row has one.

    They are judged against real images by `RealismGate`. The training ends where they have not come
    nearer to these for `patience` intervals: by the share that lies outside of what is real, which
    is soon 0, plus how much better than chance a classifier tells them apart, the mean over views.
    """

    def __init__(
        self,
        images: Dataset[Tensor],
        folder: Path,
        save: Callable[[Denoiser], None],
        *,
        every: int,
        patience: int,
        seed: int,
    ) -> None:
        """
        Args:
            images: the real ones, uint8 (C, S, S).
            folder: of the pictures.
            save: called with the generator of each picture.
            every: steps between them.
            patience: intervals; 0 never ends the training.
            seed: of the choice of real images.
        """
        self.images, self.folder, self.save = images, folder, save
        self.every, self.patience, self.seed = every, patience, seed
        self.nearest, self.waited = np.inf, 0

    @property
    def is_over(self) -> bool:
        """Whether the samples have come no nearer for as long as that is waited for."""
        return 0 < self.patience <= self.waited

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = self.is_over  # an earlier session may have found it

    def on_train_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:
        if trainer.global_step % self.every:
            return
        if trainer.is_global_zero:
            self._look(module, trainer.global_step)
        if trainer.strategy.reduce_boolean_decision(self.is_over, all=False):
            self.waited, trainer.should_stop = self.patience, True  # in every process

    def state_dict(self) -> dict[str, Any]:
        return {"nearest": self.nearest, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.nearest, self.waited = state_dict["nearest"], state_dict["waited"]

    def _look(self, module: _Sampled, step: int) -> None:
        denoiser = module.denoiser()
        rows = None
        if denoiser.classes is not None:
            rows = [seed // 8 % denoiser.classes for seed in range(_COUNT)]
        images = sample(denoiser, seeds=range(_COUNT), steps=_STEPS, labels=rows)
        self.folder.mkdir(parents=True, exist_ok=True)
        save_image(images / 255, self.folder / f"{step:07d}.png", nrow=8)
        self.save(denoiser)
        found = self._judge(images) if denoiser.image.size >= _LEAST_SIZE else None
        if found is not None and not found.views.empty:
            distance = found.outside + float((found.views["accuracy"] - 0.5).abs().mean())
            self.waited = 0 if distance < self.nearest else self.waited + 1
            self.nearest = min(distance, self.nearest)
            say(f"step {step:,}: samples {found.sentence()}")
        if self.is_over:
            say(
                f"the samples have come no nearer to the images in {self.waited} intervals of "
                f"{self.every:,} steps, so the training ends; --training.patience 0 goes on"
            )

    def _judge(self, samples: Tensor) -> Realism:
        if not hasattr(self, "_gate"):
            self._views = plain_views()
            count = len(self.images)  # type: ignore[arg-type]
            chosen = np.random.default_rng(self.seed).permutation(count)[:_REAL]
            real = torch.stack([self.images[int(i)] for i in chosen])
            self._gate = RealismGate(look(_rgb(real), self._views))
        return self._gate(look(_rgb(samples), self._views))


def _rgb(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1)
