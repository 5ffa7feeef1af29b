"""What the trainings here share: settings, optimiser, resuming, checkpoints, logs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from augment.denoiser import ImageFormat

__all__ = ["Fitting", "FittingConfig", "NetworkShape", "check_images", "fit"]


@dataclass(frozen=True, kw_only=True)
class NetworkShape:
    """The shape that a U-Net and the encoder half of one share."""

    size: int = 32
    """Image height and width in pixels; divisible by 2 once a level below the first."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""
    widths: tuple[int, ...] = (16, 32, 64, 96)
    """Channels of each resolution level, from the image's own downwards."""
    attention_levels: tuple[int, ...] = (2,)
    """Levels that have self-attention, 0 being the image's own resolution."""
    blocks: int = 1
    """Residual blocks a level."""

    group: ClassVar[int]
    """What the widths are multiples of, for group normalisation."""

    def __post_init__(self) -> None:
        size, widths, group = self.size, self.widths, self.group
        if not widths or any(width < 1 or width % group for width in widths):
            raise ValueError(
                f"network.widths are {widths}; group normalisation divides them; "
                f"give multiples of {group}"
            )
        divisor = 2 ** (len(widths) - 1)
        if size < divisor or size % divisor:
            raise ValueError(
                f"network.size is {size}; {len(widths)} widths halve it to a fraction; "
                f"give a multiple of {divisor}"
            )
        if self.channels not in (1, 3):
            raise ValueError(f"network.channels is {self.channels}; give 1 (grey) or 3 (RGB)")
        if outside := [n for n in self.attention_levels if not 0 <= n < len(widths)]:
            raise ValueError(
                f"network.attention_levels has {outside[0]}; allowed are 0 to {len(widths) - 1}, "
                "one level a width; give some of these, or [] for none"
            )
        if self.blocks < 1:
            raise ValueError(f"network.blocks is {self.blocks}; give at least 1")


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
        if self.workers < 0:
            raise ValueError(f"training.workers is {self.workers}; give 0 or more")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"training.lr is {self.lr}; give a positive learning rate")


class Fitting(LightningModule):
    """A network under training, `network`, with AdamW and a warm-up."""

    config: FittingConfig
    network: torch.nn.Module
    weight_decay = 0.0

    def __init__(self, shape: NetworkShape, config: FittingConfig, **identity: Any) -> None:
        """`identity` is what, besides the settings, makes the run another one."""
        super().__init__()
        self.save_hyperparameters(
            {"network": asdict(shape), "training": asdict(config), **identity}
        )
        self.image = ImageFormat(channels=shape.channels, size=shape.size)
        self.config = config

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
        steps = self.config.steps
        warmup = min(200, steps // 10)
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup))

    def clean(self, images: Tensor) -> Tensor:
        """uint8 images in [-1, 1], half of them mirrored if that is asked for."""
        x0 = self.image.from_uint8(images)
        if not self.config.flip:
            return x0
        mirrored = torch.rand(len(x0), 1, 1, 1, device=x0.device) < 0.5
        return torch.where(mirrored, x0.flip(-1), x0)


def check_images(images: Dataset[Tensor], shape: NetworkShape) -> None:
    """Check a dataset's first image against the network.

    Raises:
        ValueError: there is none, or it has another shape or dtype.
    """
    wanted = (shape.channels, shape.size, shape.size)
    if not len(images):  # type: ignore[arg-type]
        raise ValueError("there are 0 images; training needs at least 1; give some")
    first = images[0]
    if tuple(first.shape) != wanted or first.dtype != torch.uint8:
        raise ValueError(
            f"the images are {first.dtype} of shape {tuple(first.shape)}; allowed is torch.uint8 "
            f"of shape {wanted}; give such images, or another network.size and network.channels"
        )


def fit(
    module: Fitting,
    examples: Dataset[Any],
    out: Path,
    *,
    callbacks: Sequence[Callback] = (),
    **trainer: Any,
) -> bool:
    """Train a module on a dataset, or go on where a run stopped in `out`.

    Args:
        module: its `hparams` are what identifies the run.
        examples: a sized dataset, shuffled here.
        out: where `checkpoints/` and `logs/` go.
        callbacks: more of them, called after the checkpoints.
        trainer: further arguments of Lightning's Trainer, such as accelerator, devices, num_nodes
            and precision.

    Returns:
        Whether this process is the one to write the result.

    Raises:
        ValueError: the run in `out` is another one, or its checkpoint is damaged.
        RuntimeError: something stopped it without an exception.
    """
    config, count = module.config, len(examples)  # type: ignore[arg-type]
    loader = DataLoader(
        examples,
        config.batch_size,
        shuffle=True,
        drop_last=count > config.batch_size,
        num_workers=config.workers,
    )
    checkpoints = ModelCheckpoint(
        out / "checkpoints",
        every_n_train_steps=config.checkpoint_every,
        save_last=True,
        save_top_k=0,
    )
    fitter = Trainer(
        max_steps=config.steps,
        gradient_clip_val=1.0,
        logger=CSVLogger(out, name="logs"),
        callbacks=[checkpoints, *callbacks],
        enable_model_summary=False,
        **trainer,
    )
    last = _resume_from(out / "checkpoints" / "last.ckpt", module.hparams)
    fitter.fit(module, loader, ckpt_path=last)
    if fitter.interrupted or fitter.global_step < config.steps:
        raise RuntimeError(
            f"the training was stopped after {fitter.global_step} of {config.steps} steps; the "
            "same call continues"
        )
    return fitter.is_global_zero


def _resume_from(checkpoint: Path, wanted: Mapping[str, Any]) -> Path | None:
    """The checkpoint to go on from, if there is one, of the same settings and sources."""
    if not checkpoint.is_file():
        return None
    try:
        found = torch.load(checkpoint, map_location="cpu", weights_only=True)["hyper_parameters"]
    except Exception as error:  # The unpickler raises anything when a file is cut off.
        raise ValueError(
            f"{checkpoint} is damaged or no checkpoint of a training; "
            "delete it to begin again, or give another --out"
        ) from error
    if other := [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]:
        raise ValueError(
            f"{checkpoint} belongs to a run with other {other[0].removesuffix('_sha256')} "
            f"({found.get(other[0])}, now {wanted.get(other[0])}); "
            "give the same images and settings, or another --out"
        )
    return checkpoint
