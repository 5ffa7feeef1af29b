"""What every training here shares: optimiser, resuming, checkpoints, logs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.utils.data import DataLoader, Dataset

__all__ = ["Fitting", "FittingConfig", "Precision", "fit", "images_sha256"]

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True, kw_only=True)
class FittingConfig:
    """How to train a network."""

    steps: int = 20_000
    """Optimiser steps."""
    batch_size: int = 64
    """Images a step and device."""
    lr: float = 1e-3
    """AdamW's peak learning rate: linear warm-up over the first 200 steps, then cosine to 0."""
    flip: bool = True
    """Mirror half of the images; turn it off where left and right differ in meaning."""
    checkpoint_every: int = 500
    """Steps between checkpoints to resume from."""
    workers: int = 0
    """Processes that decode images."""
    seed: int = 0
    """Seed of weights, order, noise and flips."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} is {getattr(self, name)}; give at least 1")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"training.lr is {self.lr}; give a positive learning rate")


class Fitting(LightningModule):
    """A network under training, `network`, with AdamW and a warm-up."""

    config: FittingConfig
    network: torch.nn.Module
    weight_decay = 0.0

    def on_train_start(self) -> None:
        """Noise and order of the images go on after a restart, instead of coming once more."""
        torch.manual_seed(self.config.seed + self.global_step + 1_000_003 * self.global_rank)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.config.lr, weight_decay=self.weight_decay
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

    def flipped(self, x: torch.Tensor) -> torch.Tensor:
        """Half of the images mirrored, if that is asked for."""
        if not self.config.flip:
            return x
        mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
        return torch.where(mirrored, x.flip(-1), x)


def fit(
    module: Fitting,
    files: Dataset[Any],
    out: Path,
    *,
    sources: Mapping[str, str],
    callbacks: Sequence[Callback] = (),
    **lightning: Any,
) -> bool:
    """Train a module on a dataset, or go on where a run stopped in `out`.

    Args:
        module: its `hparams` are what identifies the run, with the sources.
        files: a sized dataset, shuffled here.
        out: where `checkpoints/` and `logs/` go.
        sources: hashes of what the training starts from: a checkpoint of others is refused.
        callbacks: more of them, called after the checkpoints.
        lightning: further arguments of Lightning's Trainer.

    Returns:
        Whether this process is the one to write the result.

    Raises:
        ValueError: the run in `out` had other settings or sources.
    """
    config = module.config
    module.hparams.update(sources)
    loader = DataLoader(
        files,
        config.batch_size,
        shuffle=True,
        drop_last=len(files) > config.batch_size,  # type: ignore[arg-type]
        num_workers=config.workers,
    )
    checkpoints = ModelCheckpoint(
        out / "checkpoints",
        every_n_train_steps=config.checkpoint_every,
        save_last=True,
        save_top_k=0,
    )
    trainer = Trainer(
        max_steps=config.steps,
        gradient_clip_val=1.0,
        logger=CSVLogger(out, name="logs"),
        callbacks=[checkpoints, *callbacks],
        enable_model_summary=False,
        **lightning,
    )
    trainer.fit(module, loader, ckpt_path=_resume_from(out / "checkpoints" / "last.ckpt", module))
    return trainer.is_global_zero


def images_sha256(paths: Sequence[Path]) -> str:
    """Hash of the files' names and sizes, wherever they lie."""
    text = "".join(f"{path.name} {path.stat().st_size}\n" for path in paths)
    return hashlib.sha256(text.encode()).hexdigest()


def _resume_from(checkpoint: Path, module: Fitting) -> Path | None:
    """The checkpoint to go on from, if there is one, of the same settings and sources."""
    if not checkpoint.is_file():
        return None
    found = torch.load(checkpoint, map_location="cpu", weights_only=True)["hyper_parameters"]
    wanted = dict(module.hparams)
    if other := [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]:
        raise ValueError(
            f"{checkpoint} belongs to a run with other {other[0].removesuffix('_sha256')} "
            f"({found.get(other[0])}, now {wanted.get(other[0])}); "
            "give the same images and settings, or another --out"
        )
    return checkpoint
