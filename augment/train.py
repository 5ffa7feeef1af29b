"""Train a generator: learned variance, cosine schedule, hybrid loss, moving average.

What comes out is a diffusers pipeline folder, which `load_denoiser` and
`diffusers.DDPMPipeline.from_pretrained` both open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset
from torchvision.utils import save_image

from augment import Denoiser, Schedule, load_denoiser, sample
from augment.fitting import Fitting, FittingConfig, NetworkShape, check_images, fit
from augment.loss import hybrid_loss
from augment.pretrained import save_pipeline
from augment.pretrained.unet import UNet2DModel

__all__ = ["GeneratorTraining", "NetworkConfig", "TrainConfig", "train_generator"]


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(NetworkShape):
    """The U-Net to train; the defaults are for a CPU."""

    group: ClassVar[int] = 8

    def build(self) -> nn.Module:
        """A UNet2DModel with random weights.

        Its output has twice the image's channels: noise, then variance weights.
        """
        attending = [level in self.attention_levels for level in range(len(self.widths))]
        network: nn.Module = UNet2DModel(
            sample_size=self.size,
            in_channels=self.channels,
            out_channels=2 * self.channels,
            layers_per_block=self.blocks,
            block_out_channels=self.widths,
            down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attending),
            up_block_types=tuple(
                "AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attending)
            ),
            attention_head_dim=min(32, self.widths[-1]),
            norm_num_groups=self.group,
            # Without it, diffusers leaves the middle attention unnormalised under scale-shift.
            attn_norm_num_groups=self.group,
            resnet_time_scale_shift="scale_shift",
        )
        return network


@dataclass(frozen=True, kw_only=True)
class TrainConfig(FittingConfig):
    """How to train it."""

    ema: float = 0.999
    """Longest memory of the moving average of the weights, which is what is saved."""
    prediction: Literal["v_prediction", "epsilon"] = "v_prediction"
    """What the network predicts: v keeps colours right from the first noisy steps on, and so needs
    less training and fewer steps to sample than epsilon, the noise of Ho et al. and of ADM."""
    sample_every: int = 1000
    """Steps between pictures of samples, written under `samples/`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample_every < 1:
            raise ValueError(f"training.sample_every is {self.sample_every}; give at least 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"training.ema is {self.ema}; give a number from 0 to below 1")


def train_generator(
    images: Dataset[Tensor],
    out: Path,
    network: NetworkConfig,
    training: TrainConfig,
    *,
    start: str | Path | None = None,
    sources: Mapping[str, str] | None = None,
    trained_on: str = "",
    **trainer: Any,
) -> Path:
    """Train a generator, or go on where a run stopped in `out`.

    Args:
        images: a sized dataset of uint8 (channels, size, size), such as `augment.images.ImageFiles`
            or a uint8 tensor (N, channels, size, size).
        out: where the pipeline folder, checkpoints, logs and pictures go.
        network: the U-Net.
        training: how to train it.
        start: a generator of the same network, as `load_denoiser` takes it, to start from instead
            of random weights.
        sources: hashes of what the training starts from, such as `images_sha256`; a run in `out`
            with other ones is refused.
        trained_on: what the images are, for the generator's card.
        trainer: further arguments of Lightning's Trainer, such as accelerator, devices, num_nodes
            and precision.

    Returns:
        The folder of the generator, `out/generator`.

    Raises:
        FileNotFoundError: there is no generator to start from.
        ValueError: the images or the start do not fit the network, or the run in `out` is another.
    """
    check_images(images, network)
    seed_everything(training.seed, verbose=False)
    module = GeneratorTraining(network, training, **(sources or {}))
    if start is not None:
        module.start_from(start)
    pictures = _Samples(out / "samples", training.sample_every)
    folder = out / "generator"
    if fit(module, images, out, callbacks=[pictures], **trainer):
        about = {"trained_on": trained_on, "images": len(images)}  # type: ignore[arg-type]
        save_pipeline(module.denoiser(), folder, card={**about, **module.hparams})
    return folder


class GeneratorTraining(Fitting):
    """A denoiser with learned variance; `average.module` has the weights' moving average."""

    config: TrainConfig

    def __init__(self, network: NetworkConfig, config: TrainConfig, **sources: str) -> None:
        super().__init__(network, config, **sources)
        self.network = network.build()
        self.average = AveragedModel(self.network, avg_fn=self._moved)
        self.average.requires_grad_(False)  # or several processes would wait for its gradients
        self.schedule = Schedule.cosine()

    def start_from(self, generator: str | Path) -> None:
        """Take the weights of a generator with the same network, whose hash then counts too."""
        other = load_denoiser(generator)
        weights = other.network.state_dict()
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(
                f"{generator} has another network than network.* describes; give the same sizes"
            ) from error
        self.average.module.load_state_dict(weights)
        self.hparams["start_sha256"] = other.card["sha256"]

    def training_step(self, images: Tensor, batch_index: int) -> Tensor:
        x0 = self.clean(images)
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
        self.folder, self.every = folder, every

    def on_train_batch_end(self, trainer: Trainer, module: GeneratorTraining, *_: Any) -> None:  # type: ignore[override]
        if trainer.is_global_zero and trainer.global_step % self.every == 0:
            images = sample(module.denoiser(), seeds=range(64), steps=25)
            self.folder.mkdir(parents=True, exist_ok=True)
            save_image(images / 255, self.folder / f"{trainer.global_step:07d}.png", nrow=8)
