"""Train a generator on a folder of images.

    python -m augment.train IMAGES --out FOLDER --network.size 32

It is a UNet2DModel with learned variance, cosine schedule, hybrid loss and EMA. The result is a
diffusers pipeline folder that `load_denoiser` and `diffusers.DDPMPipeline.from_pretrained` both
open. The same command again resumes a run that was stopped.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentError, auto_cli
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from torchvision.utils import save_image

from augment.denoiser import Denoiser, ImageFormat
from augment.image_files import ImageFiles, find_images
from augment.loss import hybrid_loss
from augment.network import NetworkConfig
from augment.pretrained.diffusers_folder import load_pipeline, save_pipeline
from augment.sampler import sample
from augment.schedule import Schedule

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"]

__all__ = ["GeneratorTraining", "TrainConfig", "train"]


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

    def __init__(self, network: NetworkConfig, config: TrainConfig) -> None:
        super().__init__()
        self.save_hyperparameters({"network": asdict(network), "training": asdict(config)})
        self.config = config
        self.image = ImageFormat(channels=network.channels, size=network.size)
        self.network = network.build()
        self.average = AveragedModel(self.network, avg_fn=self._moved)
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


class _Samples(Callback):
    """A picture of 64 samples of the averaged network, of the same seeds every time."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder = folder
        self.every = every

    def on_train_batch_end(self, trainer: Trainer, module: GeneratorTraining, *_: Any) -> None:  # type: ignore[override]
        if trainer.is_global_zero and trainer.global_step % self.every == 0:
            images = sample(module.denoiser(), seeds=range(64), steps=25)
            self.folder.mkdir(parents=True, exist_ok=True)
            save_image(images / 255, self.folder / f"{trainer.global_step:07d}.png", nrow=8)


def train(
    images: Path,
    *,
    out: Path,
    network: NetworkConfig = NetworkConfig(),
    training: TrainConfig = TrainConfig(),
    start: Path | None = None,
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
    precision: Precision = "32-true",
) -> Path:
    """Train a generator on a folder of images.

    Args:
        images: a folder of images, or one whose `metadata.csv` has train rows (the others are left
            alone).
        out: where the pipeline folder, checkpoints, logs and pictures go; a stopped run found here
            is resumed.
        network: the U-Net.
        training: how to train it.
        start: a generator of the same network to start from instead of random weights.
        accelerator: Lightning's.
        devices: Lightning's.
        num_nodes: Lightning's.
        precision: Lightning's.

    Returns:
        The folder of the generator, `out/generator`.
    """
    seed_everything(training.seed, verbose=False)
    files = ImageFiles(find_images(images), size=network.size, channels=network.channels)
    loader = DataLoader(
        files,
        training.batch_size,
        shuffle=True,
        drop_last=len(files) > training.batch_size,
        num_workers=training.workers,
    )
    module = GeneratorTraining(network, training)
    if start is not None:
        module.start_from(start)
    checkpoints = ModelCheckpoint(
        out / "checkpoints",
        every_n_train_steps=training.checkpoint_every,
        save_last=True,
        save_top_k=0,
    )
    trainer = Trainer(
        max_steps=training.steps,
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        precision=precision,
        gradient_clip_val=1.0,
        logger=CSVLogger(out, name="logs"),
        callbacks=[checkpoints, _Samples(out / "samples", training.sample_every)],
        enable_model_summary=False,
    )
    trainer.fit(module, loader, ckpt_path=_resume_from(out / "checkpoints" / "last.ckpt", module))
    folder = out / "generator"
    if trainer.is_global_zero:
        save_pipeline(
            module.denoiser(),
            folder,
            card={"trained_on": str(images), "images": len(files), **module.hparams},
        )
    return folder


def _resume_from(checkpoint: Path, module: GeneratorTraining) -> Path | None:
    """The checkpoint to go on from, if there is one, made with the same settings."""
    if not checkpoint.is_file():
        return None
    found = torch.load(checkpoint, map_location="cpu", weights_only=True)["hyper_parameters"]
    if found != dict(module.hparams):
        raise ValueError(
            f"{checkpoint} belongs to a run with {found}, not {dict(module.hparams)}; "
            "give the same settings or another --out"
        )
    return checkpoint


def main(arguments: list[str] | None = None) -> None:
    """The command line; bad input ends it with one line instead of a traceback."""
    try:
        auto_cli(train, as_positional=True, args=arguments, exit_on_error=False)
    except (ArgumentError, FileNotFoundError, ValueError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from None


if __name__ == "__main__":
    main()
