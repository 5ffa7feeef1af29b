"""Train a generator: learned variance, hybrid loss, moving average, classes where there are some.

It begins with random weights and a cosine schedule, or with another generator. What comes out is a
diffusers pipeline folder, which `load_denoiser` and `diffusers.DDPMPipeline.from_pretrained` both
open.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import seed_everything
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset, StackDataset

from augment.denoiser import Denoiser
from augment.fitting import (
    Fitting,
    FittingConfig,
    check_images,
    class_names,
    fit,
    recommended_steps,
)
from augment.initial import NetworkConfig, adapted
from augment.loss import hybrid_loss
from augment.pretrained import save_pipeline
from augment.train_samples import Samples

__all__ = ["GeneratorTraining", "NetworkConfig", "TrainConfig", "train_generator"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig(FittingConfig):
    """How to train it."""

    ema: float = 0.999
    """Longest memory of the moving average of the weights, which is what is saved."""
    prediction: Literal["v_prediction", "epsilon"] | None = None
    """What the network predicts; left out, what its start does. v, as random weights do, keeps
    colours right from the first noisy steps on, and so needs less training and fewer steps to
    sample than epsilon, the noise of Ho et al. and of ADM."""
    label_dropout: float = 0.1
    """Share of the images whose class is hidden, for classifier-free guidance."""
    sample_every: int = 500
    """Steps between pictures of samples, written under `samples/`, and their realism; the generator
    that made them is kept, so that a training that is stopped leaves one."""
    patience: int = 6
    """Intervals of `sample_every` steps without a better realism after which the training ends; 0
    takes all steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample_every < 1:
            raise ValueError(f"training.sample_every is {self.sample_every}; give at least 1")
        if self.patience < 0:
            raise ValueError(f"training.patience is {self.patience}; give 0 or more")
        if not 0 <= self.ema < 1:
            raise ValueError(f"training.ema is {self.ema}; give a number from 0 to below 1")
        if not 0 <= self.label_dropout < 1:
            raise ValueError(
                f"training.label_dropout is {self.label_dropout}; give a share from 0 to below 1"
            )


def train_generator(
    images: Dataset[Tensor],
    out: Path,
    start: NetworkConfig | Denoiser,
    training: TrainConfig,
    *,
    labels: Sequence[str] | None = None,
    sources: Mapping[str, str] | None = None,
    trained_on: str = "",
    **trainer: Any,
) -> Path:
    """Train a generator, or go on where a run stopped in `out`.

    Args:
        images: a sized dataset of uint8 (channels, size, size), such as `augment.images.ImageFiles`
            or a uint8 tensor (N, channels, size, size).
        out: where the pipeline folder, checkpoints, logs and pictures go.
        start: the network to give random weights, or a generator to begin with, which is adapted to
            the images' size and classes (`augment.initial.adapted`) and left as it is.
        training: how to train it.
        labels: the name of each image's class, empty where it is not known; left out, the generator
            has no classes.
        sources: hashes of what the training starts from, such as `images_sha256`; a run in `out`
            with other ones, or with other labels, is refused.
        trained_on: what the images are, for the generator's card.
        trainer: further arguments of Lightning's Trainer, such as accelerator, devices, num_nodes
            and precision, and `logger`, one besides that of the CSV file.

    Returns:
        The folder of the generator, `out/generator`. The classes in its card are in the order of
        its labels: numbers by value, other names by the alphabet.

    Raises:
        ValueError: the images or labels do not fit one another or the start, or the run in `out` is
            another.
    """
    count = len(images)  # type: ignore[arg-type]
    classes = None if labels is None else _checked_classes(labels, count)
    training = replace(training, steps=training.steps or recommended_steps(count))
    seed_everything(training.seed, verbose=False)
    if isinstance(start, NetworkConfig):
        begun, network = start.build(), asdict(start)
        check_images(images, begun.image)
    else:
        size = images[0].shape[-1] if count else None
        begun, network = start, {"size": size, "channels": start.image.channels}
        sources = {**(sources or {}), "start_sha256": start.record()["weights"]}
    begun = adapted(begun, size=network["size"], classes=len(classes) if classes else None)
    check_images(images, begun.image)
    identity: dict[str, Any] = {**(sources or {}), "network": network}
    examples: Dataset[Any] = images
    if labels is not None and classes is not None:
        # An unknown class is the null one, which comes last.
        places = [(classes.index(name) if name else len(classes)) for name in labels]
        identity["labels_sha256"] = hashlib.sha256(str(places).encode()).hexdigest()
        identity["classes"] = classes
        examples = StackDataset(images, places)  # type: ignore[arg-type]
    module = GeneratorTraining(begun, training, **identity)
    folder = out / "generator"

    def save(denoiser: Denoiser) -> None:
        card = {"trained_on": trained_on, "images": count, **module.hparams}
        save_pipeline(denoiser, folder, card={**card, "steps_done": module.global_step})

    samples = Samples(
        images,
        out / "samples",
        save,
        every=training.sample_every,
        patience=training.patience,
        seed=training.seed,
    )
    if fit(module, examples, out, callbacks=[samples], is_over=lambda: samples.is_over, **trainer):
        save(module.denoiser())
    return folder


def _checked_classes(labels: Sequence[str], images: int) -> list[str]:
    """The classes that the labels name."""
    classes = class_names(labels, images)
    if len(classes) < 2:
        raise ValueError(
            f"the images have {len(classes)} classes; a generator with classes needs at least 2; "
            "name another column, or none"
        )
    return classes


class GeneratorTraining(Fitting):
    """A denoiser with learned variance; `average.module` has the weights' moving average."""

    config: TrainConfig

    def __init__(self, start: Denoiser, config: TrainConfig, **identity: Any) -> None:
        """`start` has learned variance; its network is copied."""
        super().__init__(start.image, config, **identity)
        self.network = copy.deepcopy(start.network).train().requires_grad_(True)
        self.average = AveragedModel(self.network, avg_fn=self._moved)
        self.average.requires_grad_(False)  # or several processes would wait for its gradients
        self.schedule, self.null_class, self.clip = start.schedule, start.null_class, start.clip
        epsilon = (config.prediction or start.prediction) == "epsilon"
        self.prediction: Literal["epsilon", "v_prediction"] = (
            "epsilon" if epsilon else "v_prediction"
        )

    def training_step(self, batch: Tensor | Sequence[Tensor], batch_index: int) -> Tensor:
        images, *labels = [batch] if isinstance(batch, Tensor) else batch
        x0 = self.clean(images)
        t = torch.randint(len(self.schedule), (len(x0),), device=x0.device)
        eps = torch.randn_like(x0)
        x_t = self.schedule.q_sample(x0, t, eps)
        output = self.network(x_t, t, *map(self._dropped, labels)).sample.float()
        velocity = self.prediction == "v_prediction"
        loss = hybrid_loss(self.schedule, output, x0, x_t, t, eps, velocity=velocity)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def _dropped(self, labels: Tensor) -> Tensor:
        """Labels, some of them hidden, so that the network learns what images of any class are.

        Reference: Ho & Salimans 2022, https://arxiv.org/abs/2207.12598
        """
        hidden = torch.rand(len(labels), device=labels.device) < self.config.label_dropout
        return labels.masked_fill(hidden, self.null_class or 0)

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
            prediction=self.prediction,
            variance="learned_range",
            classes=self.null_class,  # the null class comes after the others
            null_class=self.null_class,
            clip=self.clip,
        )
