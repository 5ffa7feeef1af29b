"""What the trainings here share: settings, optimiser, resuming, checkpoints, logs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from augment.denoiser import ImageFormat
from augment.fitting_callbacks import Checkpoints, Progress

__all__ = [
    "Fitting",
    "FittingConfig",
    "NetworkShape",
    "check_images",
    "class_names",
    "fit",
    "recommended_steps",
]

_LEAST_STEPS, _MOST_STEPS = 2_000, 20_000
_FREE = frozenset({"steps", "checkpoint_every", "sample_every", "patience", "workers"})
"""Settings of a training that another session of the same one may change."""
_LIGHTNINGS_OWN_WARNINGS = (
    ".*LeafSpec.*",  # it calls a deprecated class of torch
    ".*does not have many workers.*",  # a tip, that `workers` answers
    ".*your dataloader is not resumable.*",  # the rest of the epoch is drawn anew
)


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
    """Residual blocks per level."""

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
                f"network.attention_levels has {outside[0]}; give some of 0 to "
                f"{len(widths) - 1}, one level per width, or [] for none"
            )
        if self.blocks < 1:
            raise ValueError(f"network.blocks is {self.blocks}; give at least 1")

    @property
    def image(self) -> ImageFormat:
        return ImageFormat(channels=self.channels, size=self.size)


@dataclass(frozen=True, kw_only=True)
class FittingConfig:
    """How to train a network."""

    steps: int | None = None
    """Optimiser steps in all; more of them continue a training that has ended. Left out, by the
    number of images (`recommended_steps`)."""
    batch_size: int = 64
    """Images per step and device."""
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
            if getattr(self, name) is not None and getattr(self, name) < 1:
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

    def __init__(self, image: ImageFormat, config: FittingConfig, **identity: Any) -> None:
        """`identity` is what, besides the settings, makes the run another one."""
        super().__init__()
        self.save_hyperparameters({"training": asdict(config), **identity})
        self.image, self.config = image, config
        self.steps = config.steps or _MOST_STEPS

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
        """A training that is continued with more steps takes up the longer cosine where it stands.

        From 10,000 steps to 20,000, the rate rises from 0 to half of its peak: a warm restart.
        """
        steps = self.steps
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


def recommended_steps(images: int) -> int:
    """Optimiser steps by the number of images: 32 times its square root, 2,000 to 20,000.

    fashion-longtail-28 and avatars-32, of 12,408 and 50,000 images, got 3,500 and 7,800 steps of 64
    images; the rule gives 3,600 and 7,200.
    """
    return int(round(min(max(32 * math.sqrt(images), _LEAST_STEPS), _MOST_STEPS), -2))


def check_images(images: Dataset[Tensor], image: ImageFormat) -> None:
    """Check a dataset's first image against the network.

    Raises:
        ValueError: there is none, or it has another shape or dtype.
    """
    if not len(images):  # type: ignore[arg-type]
        raise ValueError("there are 0 images; training needs at least 1; give some")
    first = images[0]
    if tuple(first.shape) != image.shape or first.dtype != torch.uint8:
        raise ValueError(
            f"the images are {first.dtype} of shape {tuple(first.shape)}; give torch.uint8 of "
            f"shape {image.shape}, or another network.size and network.channels"
        )


def fit(
    module: Fitting,
    examples: Dataset[Any],
    out: Path,
    *,
    callbacks: Sequence[Callback] = (),
    logger: Logger | None = None,
    is_over: Callable[[], bool] = lambda: False,
    **trainer: Any,
) -> bool:
    """Train a module on a dataset, or go on where a run stopped in `out`.

    Args:
        module: its `hparams` are what identifies the run.
        examples: a sized dataset, shuffled here.
        out: where `checkpoints/` and `logs/` go.
        callbacks: more of them, called before the checkpoints.
        logger: one of Lightning's besides that of the CSV file.
        is_over: whether the training may end before its last step.
        trainer: further arguments of Lightning's Trainer, such as accelerator, devices, num_nodes
            and precision.

    Returns:
        Whether this process is the one to write the result.

    Raises:
        ValueError: the run in `out` is another one or has more steps behind it, or its checkpoint
            is damaged.
        RuntimeError: something stopped it without an exception.
    """
    config, steps = module.config, module.steps
    count = len(examples)  # type: ignore[arg-type]
    file = out / "checkpoints" / "last.ckpt"
    last = _resume_from(file, module.hparams, steps)
    loader = DataLoader(
        examples,
        config.batch_size,
        shuffle=True,
        drop_last=count > config.batch_size,
        num_workers=config.workers,
    )
    saving = Checkpoints(file, every=config.checkpoint_every, steps=steps)
    fitter = Trainer(
        max_steps=steps,
        gradient_clip_val=1.0,
        logger=[CSVLogger(out, name="logs"), *([logger] if logger else [])],
        callbacks=[Progress(steps), *callbacks, saving],
        enable_model_summary=False,
        enable_progress_bar=False,
        log_every_n_steps=min(50, len(loader)),
        **trainer,
    )
    with warnings.catch_warnings():
        for message in _LIGHTNINGS_OWN_WARNINGS:
            warnings.filterwarnings("ignore", message)
        fitter.fit(module, loader, ckpt_path=last, weights_only=True)
    if fitter.interrupted or (fitter.global_step < steps and not is_over()):
        raise RuntimeError(
            f"the training was stopped after {fitter.global_step} of {steps} steps; the "
            "same call continues"
        )
    return fitter.is_global_zero


def _resume_from(checkpoint: Path, wanted: Mapping[str, Any], steps: int) -> Path | None:
    """The checkpoint to go on from, if there is one, of the same settings and sources."""
    if not checkpoint.is_file():
        return None
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        found, done = state["hyper_parameters"], state["global_step"]
    except Exception as error:  # The unpickler raises anything when a file is cut off.
        raise ValueError(
            f"{checkpoint} is damaged or no checkpoint of a training; "
            "delete it to begin again, or give another --out"
        ) from error
    old, new = _flat(found), _flat(wanted)
    if other := [name for name in {**new, **old} if old.get(name) != new.get(name)]:
        name, is_hash = other[0].removesuffix("_sha256"), other[0].endswith("_sha256")
        values = "" if is_hash else f" ({old.get(name)}, now {new.get(name)})"
        raise ValueError(
            f"{checkpoint} belongs to a run with other {name}{values}; "
            "give the same images and settings, or another --out"
        )
    if done > steps:
        raise ValueError(
            f"training.steps is {steps}, but {checkpoint} has {done} steps behind it; "
            "give at least as many, or another --out"
        )
    return checkpoint


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name, short of those that may change."""
    flat: dict[str, Any] = {}
    for name, value in identity.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}.{key}": v for key, v in value.items() if key not in _FREE})
        else:
            flat[name] = value
    return flat


def class_names(labels: Sequence[str], images: int) -> list[str]:
    """The classes of so many images, in the order of their indices: numbers by value, then other
    names by the alphabet. An empty label is no class.

    Raises:
        ValueError: not one label per image.
    """
    if len(labels) != images:
        raise ValueError(f"there are {len(labels)} labels of {images} images; give one per image")
    return sorted(set(labels) - {""}, key=_order)


def _order(name: str) -> tuple[bool, float, str]:
    number = name.removeprefix("-").isdecimal()
    return not number, float(name) if number else 0.0, name
