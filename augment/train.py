"""Train a generator on a folder of images.

    python -m augment.train IMAGES --out FOLDER --network.size 32

It is a UNet2DModel with learned variance, cosine schedule, hybrid loss and EMA. The result is a
diffusers pipeline folder that `load_denoiser` and `diffusers.DDPMPipeline.from_pretrained` both
open. The same command again resumes a run that was stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning import seed_everything

from augment.command import run
from augment.fitting import Precision, fit, images_sha256
from augment.generator_training import GeneratorTraining, Samples, TrainConfig
from augment.image_files import ImageFiles, find_images
from augment.network import NetworkConfig
from augment.pretrained.diffusers_folder import save_pipeline

__all__ = ["GeneratorTraining", "TrainConfig", "train"]


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
    module = GeneratorTraining(network, training)
    sources = {"images_sha256": images_sha256(files.paths)}
    if start is not None:
        sources["start_sha256"] = module.start_from(start)
    first = fit(
        module,
        files,
        out,
        sources=sources,
        callbacks=[Samples(out / "samples", training.sample_every)],
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        precision=precision,
    )
    folder = out / "generator"
    if first:
        save_pipeline(
            module.denoiser(),
            folder,
            card={"trained_on": str(images), "images": len(files), **module.hparams},
        )
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; bad input ends it with one line instead of a traceback."""
    run(train, arguments)


if __name__ == "__main__":
    main()
