"""The training of a generator: learned variance, cosine schedule, hybrid loss, moving average."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torchvision.utils import save_image

from augment.denoiser import Denoiser, ImageFormat
from augment.fitting import Fitting, FittingConfig
from augment.loss import hybrid_loss
from augment.network import NetworkConfig
from augment.pretrained.diffusers_folder import load_pipeline
from augment.sampler import sample
from augment.schedule import Schedule

__all__ = ["GeneratorTraining", "Samples", "TrainConfig"]


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
            raise ValueError(f"training.ema is {self.ema}; allowed is [0, 1)")


class GeneratorTraining(Fitting):
    """A denoiser with learned variance; `average.module` has the weights' moving average."""

    config: TrainConfig

    def __init__(self, network: NetworkConfig, config: TrainConfig) -> None:
        super().__init__()
        self.save_hyperparameters({"network": asdict(network), "training": asdict(config)})
        self.config = config
        self.image = ImageFormat(channels=network.channels, size=network.size)
        self.network = network.build()
        self.average = AveragedModel(self.network, avg_fn=self._moved)
        self.average.requires_grad_(False)  # or several processes would wait for its gradients
        self.schedule = Schedule.cosine()

    def start_from(self, generator: Path) -> str:
        """Take the weights of a generator (a diffusers folder) with the same network.

        Returns:
            The sha256 of their file.
        """
        other = load_pipeline(generator)
        weights = other.network.state_dict()
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(
                f"{generator} has another network than network.* describes; give the same sizes"
            ) from error
        self.average.module.load_state_dict(weights)
        return str(other.card["sha256"])

    def training_step(self, images: Tensor, batch_index: int) -> Tensor:
        x0 = self.flipped(self.image.from_uint8(images))
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


class Samples(Callback):
    """A picture of 64 samples of the averaged network, of the same seeds every time."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder = folder
        self.every = every

    def on_train_batch_end(self, trainer: Trainer, module: GeneratorTraining, *_: Any) -> None:  # type: ignore[override]
        if trainer.is_global_zero and trainer.global_step % self.every == 0:
            images = sample(module.denoiser(), seeds=range(64), steps=25)
            self.folder.mkdir(parents=True, exist_ok=True)
            save_image(images / 255, self.folder / f"{trainer.global_step:07d}.png", nrow=8)
