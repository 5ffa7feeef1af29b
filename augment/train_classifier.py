"""Train a classifier of noised images, to guide a generator to a class.

The loss is the cross-entropy at uniformly drawn timesteps, summed over what is to be told.

Reference: Dhariwal & Nichol 2021, sec. 4, https://arxiv.org/abs/2105.05233
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning import seed_everything
from torch import Tensor
from torch.utils.data import Dataset, StackDataset

from augment.fitting import Fitting, FittingConfig, NetworkShape, check_images, class_names, fit
from augment.heads import NOT_ASKED, log_likelihood
from augment.pretrained import NoisedClassifier, save_noised_classifier
from augment.pretrained.architecture import Architecture
from augment.pretrained.checkpoints import ScheduleName, Settings
from augment.schedule import Schedule

__all__ = [
    "ClassifierNetworkConfig",
    "ClassifierTrainConfig",
    "ClassifierTraining",
    "noise_name",
    "train_classifier",
]


@dataclass(frozen=True, kw_only=True)
class ClassifierNetworkConfig(NetworkShape):
    """The encoder to train, for the generator's size and channels; the defaults are for a CPU."""

    widths: tuple[int, ...] = (32, 64, 64)
    """Channels of each resolution level, from the image's own downwards; multiples of 32."""
    schedule: ScheduleName = "cosine"
    """How images are noised; the generator's schedule, cosine or linear, of 1,000 steps."""

    group: ClassVar[int] = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule not in ("cosine", "linear"):
            raise ValueError(
                f"network.schedule is {self.schedule!r}; give the generator's, cosine or linear"
            )

    def build(self, heads: Mapping[str, Sequence[str]]) -> NoisedClassifier:
        """The classifier with random weights; name of each head -> names of its classes."""
        architecture = Architecture(
            widths=self.widths,
            blocks=self.blocks,
            attention=self.attention_levels,
            in_channels=self.channels,
            out_channels=sum(map(len, heads.values())),
            pool=self.size // 2 ** (len(self.widths) - 1),
        )
        settings = Settings(
            attention_order="new",
            head_channels=self.group,
            heads=None,
            schedule=self.schedule,
            image_size=self.size,
        )
        return NoisedClassifier(architecture, settings, {"heads": heads})


@dataclass(frozen=True, kw_only=True)
class ClassifierTrainConfig(FittingConfig):
    """How to train it."""

    steps: int = 5_000
    """Optimiser steps."""
    lr: float = 3e-4
    """AdamW's peak learning rate: linear warm-up over the first 200 steps, then cosine to 0."""


def train_classifier(
    images: Dataset[Tensor],
    labels: Mapping[str, Sequence[str]],
    out: Path,
    network: ClassifierNetworkConfig,
    training: ClassifierTrainConfig,
    *,
    sources: Mapping[str, str] | None = None,
    trained_on: str = "",
    **trainer: Any,
) -> Path:
    """Train a classifier of noised images, or go on where a run stopped in `out`.

    Args:
        images: a sized dataset of uint8 (channels, size, size), such as `augment.images.ImageFiles`
            or a uint8 tensor (N, channels, size, size).
        labels: what is told, such as a column's name -> the name of each image's class, empty where
            it is unknown; a head is made of each.
        out: where the classifier, checkpoints and logs go.
        network: the network, and the noise: size, channels and schedule are the generator's.
        training: how to train it.
        sources: hashes of what the training starts from, such as `images_sha256`; a run in `out`
            with other ones, or with other labels, is refused.
        trained_on: what the images are, for the card.
        trainer: further arguments of Lightning's Trainer, such as accelerator, devices, num_nodes
            and precision, and `logger`, one besides that of the CSV file.

    Returns:
        The folder of the classifier, `out/classifier`, for `load_noised_classifier`. The classes
        of each head in its card are in the order of its logits: numbers by value, other names by
        the alphabet.

    Raises:
        ValueError: the images do not fit the network or the labels, a head has fewer than two
            classes, or the run in `out` is another.
    """
    check_images(images, network.image)
    count = len(images)  # type: ignore[arg-type]
    heads = {name: class_names(of_head, count) for name, of_head in labels.items()}
    for name, classes in heads.items():
        if len(classes) < 2:
            raise ValueError(
                f"{name} has {len(classes)} classes in the training images; "
                "a classifier needs at least 2; name another column or label some"
            )
    seed_everything(training.seed, verbose=False)
    columns = [
        [heads[name].index(label) if label else NOT_ASKED for label in of_head]
        for name, of_head in labels.items()
    ]
    targets = torch.tensor(columns).T
    identity = {
        **(sources or {}),
        "labels_sha256": hashlib.sha256(str(targets.tolist()).encode()).hexdigest(),
        "heads": heads,
    }
    module = ClassifierTraining(network, training, identity=identity)
    folder = out / "classifier"
    examples: Dataset[Any] = StackDataset(images, targets)  # type: ignore[arg-type]
    if fit(module, examples, out, **trainer):
        card = {"trained_on": trained_on, "images": count, **module.hparams}
        save_noised_classifier(module.network, folder, card=card)
    return folder


def noise_name(schedule: Schedule) -> ScheduleName:
    """What `ClassifierNetworkConfig.schedule` calls a generator's schedule.

    Raises:
        ValueError: it is neither of the two.
    """
    for name, known in (("cosine", Schedule.cosine()), ("linear", Schedule.linear())):
        if len(known) == len(schedule) and np.allclose(
            known.alpha_bar, schedule.alpha_bar, 1e-3, 0
        ):
            return name  # type: ignore[return-value]
    raise ValueError(
        f"the generator's schedule of {len(schedule)} steps is neither cosine nor linear of 1,000, "
        "which classifiers of noised images are trained on; give another generator, or sets "
        "without such a classifier"
    )


class ClassifierTraining(Fitting):
    """A classifier of images at every level of noise."""

    weight_decay = 0.05
    network: NoisedClassifier

    def __init__(
        self,
        network: ClassifierNetworkConfig,
        config: ClassifierTrainConfig,
        *,
        identity: Mapping[str, Any],
    ) -> None:
        super().__init__(network.image, config, network=asdict(network), **identity)
        self.network = network.build(identity["heads"])

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        x0, schedule = self.clean(images), self.network.schedule
        t = torch.randint(len(schedule), (len(x0),), device=x0.device)
        x_t = schedule.q_sample(x0, t, torch.randn_like(x0))
        sizes = list(self.network.heads.values())
        loss = -log_likelihood(self.network(x_t, t), sizes, labels).mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss
