"""Train a generator on a folder of images.

    python -m augment.train IMAGES --out FOLDER --network.size 32

It is a UNet2DModel with learned variance, cosine schedule, hybrid loss and EMA. The result is a
diffusers pipeline folder that `load_denoiser` and `diffusers.DDPMPipeline.from_pretrained` both
open. The same command again resumes a run that was stopped.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentError, auto_cli
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader
from torchvision.utils import save_image

from augment.generator_training import GeneratorTraining, TrainConfig
from augment.image_files import ImageFiles, find_images
from augment.network import NetworkConfig
from augment.pretrained.diffusers_folder import load_pipeline, save_pipeline
from augment.sampler import sample

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

__all__ = ["GeneratorTraining", "TrainConfig", "train"]


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
    module = GeneratorTraining(network, training, _sources(files, start))
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


def _sources(files: ImageFiles, start: Path | None) -> dict[str, str]:
    """Hashes of the images (names and sizes) and of the weights to start from."""
    images = "".join(f"{path.name} {path.stat().st_size}\n" for path in files.paths)
    hashes = {"images_sha256": hashlib.sha256(images.encode()).hexdigest()}
    if start is not None:
        hashes["start_sha256"] = load_pipeline(start).card["sha256"]
    return hashes


def _resume_from(checkpoint: Path, module: GeneratorTraining) -> Path | None:
    """The checkpoint to go on from, if there is one, of the same images and settings."""
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


def main(arguments: list[str] | None = None) -> None:
    """The command line; bad input ends it with one line instead of a traceback."""
    try:
        auto_cli(train, as_positional=True, args=arguments, exit_on_error=False)
    except (ArgumentError, FileNotFoundError, ValueError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from None


if __name__ == "__main__":
    main()
